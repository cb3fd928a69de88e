"""The search for masks that hold: showings, beliefs, caution, rungs and the race, on oracles whose answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import evomask
from evomask import InputError, judging, perturbations, presets, racing
from evomask.explaining import search
from evomask.measures.certainty import Precision, Tally
from evomask.perturbations import Perturbations
from evomask.questions import ask
from evomask.search import genome as genes
from evomask.search import ladder, showings
from evomask.search.evaluate import Hopeful, log_prob_and_margin
from evomask.search.surrogate import Caution, Screening, believed, log_odds
from evomask.types import Evaluation, Target

KEY = jax.random.key(0)
BOX = (4, 4, 4, 4)
ORACLE = oracles.BoxOracle(boxes=(BOX,), batch_size=48)
IMAGE = oracles.lit(BOX, 12, 12, 1)
LOCAL = perturbations.named("local")
SMALL = presets.evomask(1200).replace(
    genes=8, screening=Screening(memory=64, noise=0.1, caution=Caution()), budget=1200
)
SMALL = dataclasses.replace(SMALL, race=960)  # of which little is spent


def bank_of(classifier, image, blanks, drawn=LOCAL, size=6):
    target = Target(image, jnp.int32(1), jnp.float32(0.95))
    return target, showings.fill_bank(KEY, classifier, target, blanks, drawn, size=size, batch_size=4)


def by_hand(classifier, target, bank, mask, number, fill):
    """Log-probability and margin of one mask in one showing, under one fill."""
    image, blank, shift = (field[number] for field in vars(bank.showing).values())
    shown = jnp.where(perturbations.move(mask, shift)[..., None], image, blank[fill])
    return (float(figure[0]) for figure in log_prob_and_margin(classifier(shown[None]), target.label))


@pytest.mark.parametrize("fills", [1, 2])
def test_a_mask_is_seen_in_the_showing_that_is_drawn_for_it(fills):
    blanks = jnp.linspace(0, 0.4, fills)[:, None, None, None] * jnp.ones((1, *IMAGE.shape))
    target, bank = bank_of(ORACLE, jnp.asarray(IMAGE), blanks)
    masks = jax.random.bernoulli(jax.random.key(1), 0.6, (5, 12, 12))
    options = {"inverse": True, "batch_size": 4}
    seen = showings.evaluate_shown(KEY, ORACLE, target, bank, masks, **options)
    drawn = jax.random.randint(KEY, (5,), 0, 6)
    for index, (mask, number) in enumerate(zip(masks, drawn)):
        whole = by_hand(ORACLE, target, bank, jnp.ones((12, 12), bool), number, 0)
        np.testing.assert_allclose(np.log(bank.confidence[number]), next(whole), rtol=1e-5)
        kept = [tuple(by_hand(ORACLE, target, bank, mask, number, fill)) for fill in range(fills)]
        left = [tuple(by_hand(ORACLE, target, bank, ~mask, number, fill)) for fill in range(fills)]
        np.testing.assert_allclose(seen.margin[index], min(margin for _, margin in kept), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(seen.inverse_margin[index], max(margin for _, margin in left), rtol=1e-4, atol=1e-5)
        enough = np.exp(min(log for log, _ in kept)) >= 0.9 * float(bank.confidence[number])
        assert enough == bool(seen.confidence[index] >= 0.9 * target.confidence)
    assert len(set(drawn.tolist())) > 1 and np.isnan(seen.distance).all()
    some = showings.evaluate_shown(
        KEY, ORACLE, target, bank, masks, hopeful=Hopeful(2, lambda seen: seen.area), **options
    )
    np.testing.assert_array_equal(some.margin, seen.margin)
    known = ~np.isnan(np.asarray(some.inverse_margin))
    assert known.sum() == 2 and set(np.argsort(-masks.sum((1, 2)))[:2].tolist()) == set(np.flatnonzero(known).tolist())
    np.testing.assert_allclose(some.inverse_margin[known], seen.inverse_margin[known], rtol=1e-5)


def figures(areas, margins, inverses):
    confidence = jax.nn.sigmoid(jnp.asarray(margins, jnp.float32))
    return Evaluation(
        *(
            jnp.asarray(x, jnp.float32)
            for x in (areas, confidence, margins, jnp.zeros(len(areas)), inverses, areas, areas)
        )
    )


def test_beliefs_are_worse_than_the_mean_by_the_caution_and_nan_where_nothing_was_seen():
    screening = Screening(memory=8, grid=8, noise=0.1, caution=Caution())
    masks = jax.random.bernoulli(jax.random.key(1), 0.5, (6, 8, 8))
    seen = figures([0.5] * 6, np.linspace(-1, 3, 6), np.linspace(1, -3, 6))
    model = screening.learn(screening.init((8, 8)), masks, seen)
    mean, careful = (believed(screening.posterior(model, masks), seen, caution) for caution in (0.0, 2.0))
    assert (careful.margin < mean.margin).all() and (careful.inverse_margin > mean.inverse_margin).all()
    assert (careful.confidence < mean.confidence).all()
    np.testing.assert_array_equal(mean.area, seen.area)
    spread = np.ptp(np.asarray(mean.margin))
    assert 0.5 < spread < 4 and np.argmax(mean.margin) >= 4, "the mean follows what was seen, drawn together a little"
    unseen = dataclasses.replace(seen, area=seen.area.at[2].set(jnp.nan))
    partly = believed(screening.posterior(model, masks), unseen, 1.0)
    assert all(np.isnan(field[2]) and not np.isnan(field[3]) for field in vars(partly).values())


def test_the_same_mask_seen_often_is_believed_to_be_what_it_is_on_average():
    screening = Screening(memory=64, grid=8, noise=0.3, caution=Caution())
    masks = jnp.repeat(jax.random.bernoulli(jax.random.key(1), 0.5, (2, 8, 8)), 16, axis=0)
    noise = np.random.default_rng(0).normal(scale=0.8, size=32)
    margins = np.repeat([-1.0, 2.0], 16) + noise
    model = screening.learn(screening.init((8, 8)), masks, figures([0.5] * 32, margins, -margins))
    both = believed(screening.posterior(model, masks[::16]), figures([0.5] * 2, [0, 0], [0, 0]), 0.0)
    np.testing.assert_allclose(both.margin, margins.reshape(2, 16).mean(1), atol=0.15)


@pytest.mark.parametrize(("held", "change"), [([True, True], -0.01), ([True, False], 0.09), ([False, False], 0.19)])
def test_caution_follows_how_the_champion_fares(held, change):
    screening = Screening(caution=Caution(deviations=1.0, rate=0.2, level=0.95, again=2))
    shown = jnp.array([*held, False, True])
    model = screening.surprised(screening.init((8, 8)), shown, jnp.array([True, True, False, False]))
    np.testing.assert_allclose(model.caution, 1 + change, rtol=1e-5)
    none = screening.surprised(screening.init((8, 8)), shown, jnp.zeros(4, bool))
    assert float(none.caution) == 1.0


def test_rungs_keep_the_surest_mask_of_each_size():
    kept = ladder.Ladder(bins=4)
    genomes = jnp.array([[[0, 0, 0]], [[0, 0, 0]], [[2, 2, 9]]])
    masks = genes.rasterize(genomes, (4, 4))
    target = Target(jnp.zeros((4, 4, 1)), jnp.int32(0), jnp.float32(0.9))
    rungs = kept.init((4, 4), 1)
    rungs = kept.add(rungs, genomes, masks, figures([1 / 16, 1 / 16, 1], [1.0, 3.0, 0.5], [-2.0, -2.0, -2.0]), target)
    odds = float(log_odds(jnp.float32(0.81)))
    np.testing.assert_allclose(rungs.surplus[jnp.array([1, 3])], [min(3 - odds, 2), 0.5 - odds], rtol=1e-4)
    assert np.isneginf(rungs.surplus[jnp.array([0, 2])]).all() and rungs.mask[3].all()
    worse = kept.add(rungs, genomes, masks, figures([1 / 16, 1 / 16, 1], [0.0, 0.0, 4.0], [9.0, 9.0, -9.0]), target)
    assert worse.surplus[1] == rungs.surplus[1] and worse.surplus[3] > rungs.surplus[3]
    unseen = kept.add(rungs, genomes, masks, figures([np.nan] * 3, [9.0] * 3, [np.nan] * 3), target)
    np.testing.assert_array_equal(unseen.surplus, rungs.surplus)


def question(image=IMAGE, classifier=ORACLE):
    return ask(classifier, image[None], np.array([1]), None, KEY, SMALL.fills)[0]


def squares(sides, surplus, first):
    """Candidates: squares around the middle of the box, which is 4 wide; those of 6 and more hold."""
    masks = np.stack([oracles.box_mask((6 - s // 2, 6 - s // 2, s, s), 12, 12) for s in sides])
    return racing.Candidates(np.zeros((len(sides), 1, 3), np.int32), masks, np.float32(surplus), first)


def race(some, config=SMALL, **options):
    """Which of the candidates won, and the evaluations spent."""
    tried = racing.race(ORACLE, question(), some, KEY, config, **options)
    return tried.smallest(-1), tried.spent


WHOLE = 48 * -(-SMALL.rehearsals // 16)  # evaluations for a mask that passes, in calls of 16 showings


def test_what_is_believed_to_hold_is_tried_before_what_nobody_knows():
    """The first one fails; the next larger ones are one of which nobody knows, one believed to fail, one to hold."""
    some = squares((3, 6, 7, 8, 10), [0.5, racing.UNKNOWN, -0.5, 0.1, 0.9], 0)
    assert race(some)[0] == 2, "8 passes, then 7, which is believed in more than 6"
    assert race(some._replace(surplus=np.float32([0.5, *[racing.UNKNOWN] * 4])))[0] == 1


def test_unions_come_after_what_is_believed_and_before_what_nobody_knows_by_what_is_guessed():
    guess = racing.GUESSED
    some = squares((1, 2, 6, 8, 10), [0.5, racing.UNKNOWN, racing.UNKNOWN, guess + 0.1, guess + 0.2], 0)
    assert race(some)[0] == 3, "10, of which more is guessed, then 8, but nothing of which nobody knows"
    assert race(some._replace(surplus=np.float32([0.5, 0.6, racing.UNKNOWN, guess, guess + 0.2])))[1] == 96 + 2 * WHOLE


def test_of_smaller_masks_the_most_hopeful_comes_first_until_two_fail():
    some = squares((1, 2, 3, 6, 8), [0.6, 0.7, 0.8, 0.1, 0.2], 4)
    assert race(some) == (4, WHOLE + 2 * 48), "after 3 and 2 nobody asks for 6"
    assert race(some._replace(surplus=some.surplus[[0, 3, 2, 1, 4]]))[0] == 3


def test_the_last_chance_is_what_promises_most_and_never_everything():
    """Being believed in counts as much as being small: 0.3 of the picture less 36 pixels against 0.6 less 100."""
    some = squares((2, 3, 6, 10, 12), [0.3, 0.0, 0.3, 0.6, racing.NOTHING], 0)
    tight = dataclasses.replace(SMALL, race=48 + WHOLE)
    assert race(some, tight) == (2, 48 + WHOLE)
    assert race(some._replace(surplus=np.float32([0.3, 0, 0.1, 0.6, racing.NOTHING])), tight)[0] == 3
    assert race(some._replace(surplus=np.float32([0.3, *[racing.UNKNOWN] * 3, racing.NOTHING])), tight)[0] == 3
    before = racing.Tried(np.array([0, 1, 0, 0, 0], bool), np.array([0, 1, -np.inf, -np.inf, -np.inf]), 48)
    after = racing.race(ORACLE, question(), some, KEY, tight, before=before, judged=1)
    assert (after.smallest(1), after.spent) == (2, 48 + WHOLE)


def test_the_race_is_won_by_the_smallest_that_goes_on_holding():
    sides = [2, 3, 4, 6, 10]  # of squares around the middle of the box; the box itself is 4
    some = squares(sides, [0.0, 0.1, 0.2, 0.3, 0.4], 1)
    winner, spent = race(some)
    share = [judging.count(ORACLE, SMALL, LOCAL, question(), mask, KEY, 160, 16).complete / 160 for mask in some.masks]
    assert share[winner] > 0.95 and (np.array(share[:winner]) < 0.95).all() and 0 < winner < 4
    assert spent % 48 == 0 and spent <= SMALL.race
    assert race(some) == (winner, spent)


def test_a_race_that_goes_on_asks_nothing_twice_and_looks_above_what_is_judged():
    some = squares((2, 3, 6, 7, 8, 10), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1)
    before = racing.race(ORACLE, question(), some, KEY, SMALL)
    assert before.passed.tolist() == [False, False, True, False, False, False]
    after = racing.race(ORACLE, question(), some, KEY, SMALL, before=before, judged=2)
    assert after.smallest(2) == 3 and after.spent == before.spent + WHOLE
    assert (before.shares[:3] == after.shares[:3]).all() and np.isneginf(before.shares[3])
    larger = before._replace(passed=np.array([0, 0, 1, 0, 0, 1], bool), shares=before.shares.copy())
    larger.shares[5] = 1.0
    between = racing.race(ORACLE, question(), some, KEY, SMALL, before=larger, judged=2)
    assert between.smallest(2) == 3, "8 comes first, which is believed in most, and then 7"
    assert between.spent == before.spent + 2 * WHOLE


def test_where_nothing_passes_it_is_known_what_failed_most_seldom():
    some = squares((1, 2), [0.0, 0.0], 1)
    tried = racing.race(ORACLE, question(), some, KEY, SMALL)
    assert not tried.passed.any() and tried.spent == 48, "it is given up after one call, and nothing larger is left"
    assert tried.shares.argmax() == 1


def test_where_no_race_can_be_paid_the_champion_wins():
    some, broke = squares((1, 2, 8), [0.0, 0.0, 0.0], 1), dataclasses.replace(SMALL, race=10)
    _, mask, spent, _ = racing.settle_one(ORACLE, question(), some, key=KEY, config=broke, excused=False)
    assert spent == 0 and mask.sum() == 4


def test_the_level_pays_for_every_finalist_that_could_be_judged(monkeypatch):
    """189 of 200 showings would be enough for one mask, and are too few for one of three."""
    some, config = squares((6, 8), [0.1, 0.2], 0), dataclasses.replace(SMALL, finalists=3)
    tried = racing.Tried(np.ones(2, bool), np.array([0.9, 0.9]), 48)
    monkeypatch.setattr(racing, "race", lambda *args, **options: tried)
    good = iter([189, 200])

    def precision_of(*_, **__):
        counts = Tally(*np.full((4, 1), next(good)))
        counts = dataclasses.replace(counts, decision=np.array([200]))
        apart = Tally(*np.zeros((4, 1, 0), int))
        return Precision(counts, apart, np.array([600]), np.array([False]), draws=200, draws_apart=0)

    assert precision_of().holds[0]
    good = iter([189, 200])
    monkeypatch.setattr(racing.holding, "precision_of", precision_of)
    _, mask, _, found = racing.settle_one(ORACLE, question(), some, key=KEY, config=config, excused=False)
    assert mask.sum() == 64 and found.counts.complete == 200 and found.finalists == 3
    apart = len(found.names) * judging.evaluations(question().blanks, SMALL.draws_apart, 16)
    assert found.evaluations.tolist() == [600 + 600 + apart] and len(found.names) == 3, "the refused one costs as well"


@pytest.mark.parametrize(("passed", "expected"), [([1, 1, 1], [0, 1]), ([1, 0, 1], [0, 2]), ([0, 0, 1], [2])])
def test_where_the_winner_does_not_hold_the_next_that_passed_is_judged(passed, expected, monkeypatch):
    """A race is said to have passed masks, all but the largest of which do not hold."""
    some, judged = squares((1, 2, 8), [0.1, 0.2, 0.3], 0), []
    tried = racing.Tried(np.array(passed, bool), np.array([0.9, 0.8, 0.7]), 48)
    monkeypatch.setattr(racing, "race", lambda *args, **options: tried)
    precision_of = racing.holding.precision_of

    def seen(classifier, questions, masks, **options):
        judged.append(some.masks.sum((1, 2)).tolist().index(masks.sum()))
        return precision_of(classifier, questions, masks, **options)

    monkeypatch.setattr(racing.holding, "precision_of", seen)
    _, mask, spent, found = racing.settle_one(ORACLE, question(), some, key=KEY, config=SMALL, excused=False)
    assert judged == expected and spent == 48
    assert (mask == some.masks[expected[-1]]).all() and bool(found.holds[0]) == (expected[-1] == 2)


def test_candidates_are_different_masks_from_the_smallest_on_and_their_genomes_cover_them():
    refined = search(ORACLE, KEY, dataclasses.replace(SMALL, race=48), [question()])
    own = jax.tree.map(lambda field: field[0], refined)
    genomes, masks, surplus, champion = racing.candidates(own)
    sizes = masks.sum((1, 2))
    assert surplus[-1] == racing.NOTHING and (surplus >= racing.LEAST_SURPLUS).sum() > 2
    assert (np.diff(sizes) >= 0).all() and len({mask.tobytes() for mask in masks}) == len(masks) > 3
    assert masks[-1].all(), "at last the whole image"
    np.testing.assert_array_equal(masks[champion], own.masks[-1])
    partners = [mask for mask, nats in zip(masks, surplus) if nats >= 0]
    joined = masks[(surplus < racing.LEAST_SURPLUS) & (surplus > racing.UNKNOWN)]
    assert all(any((mask == masks[champion] | other).all() for other in partners) for mask in joined)
    assert len(joined) <= racing.UNIONS
    np.testing.assert_array_equal(genes.rasterize(jnp.asarray(genomes), (12, 12)), masks)


def test_a_genome_is_padded_as_the_search_resizes_it():
    genome = jax.random.randint(KEY, (9, 3), genes.OFF, 3)
    assert 0 < (genome[:, 2] == genes.OFF).sum() < 9
    np.testing.assert_array_equal(racing.padded(np.asarray(genome), 12), genes.resize(genome, 12))


@pytest.fixture(scope="module")
def found():
    return evomask.explain(ORACLE, IMAGE[None], key=KEY, labels=[1], config=SMALL)


def test_what_is_found_holds_and_what_is_merely_smallest_does_not(found):
    assert found.precision.holds.tolist() == [True] and found.complete.tolist() == [True]
    box = oracles.box_mask(BOX, 12, 12)
    assert (found.mask[0] & box).sum() >= 14, "a shift by one pixel leaves no room"
    assert found.area[0] < 0.4
    smallest = evomask.explain(ORACLE, IMAGE[None], key=KEY, labels=[1], config=presets.smallest(600))
    held = evomask.precision(ORACLE, smallest, key=KEY, draws=60, apart=0)
    assert smallest.complete[0] and smallest.area[0] < found.area[0] and not held.holds[0]


def test_a_small_budget_leaves_little_for_the_race():
    """Of 250 evaluations 64 are for the bank and 144 for two generations of each of three stages: 42 are left."""
    assert (presets.evomask(250).race, presets.evomask(250).evaluations) == (42, 250)
    assert presets.evomask(1000).race == 199  # a fifth
    with pytest.raises(InputError, match="budget 208 is less than one generation of every stage and its founders, 209"):
        presets.evomask(208)


def test_the_bill_is_what_was_asked(found):
    class Counting:
        batch_size, asked = 48, 0

        def __call__(self, images):
            Counting.asked += len(images)
            return np.asarray(ORACLE(jnp.asarray(images)))

    box = evomask.BlackBox(Counting(), 2, batch_size=48)
    counted = evomask.explain(box, IMAGE[None], key=KEY, labels=[1], config=SMALL)
    apart = Counting.asked - int(counted.evaluations[0])
    assert counted.evaluations[0] <= SMALL.evaluations and counted.history.evaluations[0, 0] == SMALL.first_cost + 24
    # Whole and blank image, checks, and verdicts; the judgement is counted apart and rounded up to whole calls.
    assert int(counted.precision.evaluations[0]) <= apart <= int(counted.precision.evaluations[0]) + 100


def test_an_image_gets_the_same_alone_or_among_others_and_on_every_device(found):
    images = np.stack([oracles.lit((2, 2, 4, 4), 12, 12, 1), IMAGE])
    programs = oracles.programs()
    both = evomask.explain(ORACLE, images, key=KEY, labels=[1, 1], config=SMALL)
    assert oracles.programs() == programs, "nothing is compiled for a second image"
    mesh = evomask.sharding.images_mesh(jax.local_devices()[:2])
    meshed = evomask.explain(ORACLE, images, key=KEY, labels=[1, 1], config=SMALL, mesh=mesh)
    for other in (both, meshed):
        for name in ("mask", "score", "genome", "evaluations"):
            np.testing.assert_array_equal(getattr(other, name)[1], getattr(found, name)[0])
        assert other.precision[1].summary() == found.precision[0].summary()


def nothing(key, showing):
    return dataclasses.replace(showing, image=2 * showing.image)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"perturbation": Perturbations((nothing,))}, "the perturbation nothing shows an image from 0 to 2: clip it"),
        ({"showings": 0}, "showings is 0: give"),
        ({"race": 0}, "race is 0: give"),
        ({"slack": -1.0}, "slack is -1.0: give nats from 0"),
        ({"screening": Screening(caution=Caution(level=1.0))}, "caution: level is 1.0: give a share"),
        ({"screening": Screening(caution=Caution(again=0))}, "caution: again is 0: give a whole number"),
        ({"screening": Screening(caution=Caution(rate=-1.0))}, "caution: rate is -1.0: give a number"),
        ({"screening": Screening(caution=Caution(again=9))}, "the champion is shown again 9 times"),
        ({"fitness": presets.dissertation().fitness}, "the fitness compares features with those of the whole picture"),
    ],
)
def test_bad_input_is_named_before_anything_is_compiled(parts, message):
    programs = oracles.programs()
    with pytest.raises(InputError, match=message) as caught:
        evomask.explain(ORACLE, IMAGE[None], key=KEY, labels=[1], config=SMALL.replace(**parts))
    assert "\n" not in str(caught.value) and oracles.programs() == programs
