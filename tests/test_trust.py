"""Whether masks hold, in benchmarks: the judge against known precisions and against `holding`, and what is offered."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import evomask
from evomask import holding, perturbations, presets
from evomask.measures import metrics
from evomask.questions import ask
from experiments.benchmarks import judge, trust
from experiments.benchmarks.judge import CHANGES, Case, Changes, Counts

KEY = jax.random.key(0)
LEFT = evomask.as_classifier(
    lambda x: x[:, :, :4].mean((1, 2)) @ jnp.array([[20.0, -20.0]]) - jnp.array([[5.0, -5.0]])
)  # the first class where more than a quarter of the left half is bright
WHITE = np.ones((8, 8, 1), np.float32)
SHIFTED = perturbations.Perturbations((perturbations.Shift(),))


def left(columns):
    """The mask of so many columns from the left."""
    return np.broadcast_to(np.arange(8) < columns, (8, 8)).copy()


def case(image=WHITE, label=0):
    return Case(image, label, np.zeros((1, *image.shape), np.float32), np.zeros((6, *image.shape), np.float32), 0.9)


def asked(config, **changes):
    return trust.Trust(CHANGES["local"], config, 200, 32, 8, None)._replace(**changes)


def within(share, probability, draws, sigmas=4):
    return abs(share - probability) <= sigmas * np.sqrt(max(probability * (1 - probability), 1e-3) / draws)


def test_the_judge_finds_a_precision_that_is_known():
    """A shift to the left takes one of three columns away, and leaves a bright one to the inverse."""
    counts = judge.judge(LEFT, case(), left(3), np.random.default_rng(0), Changes(shift=0.02), 900)
    assert within(counts.share(), 2 / 3, 900) and counts.decision == 900 and counts.necessary == counts.complete
    assert not counts.holds() and counts.holds("decision")
    wide = judge.judge(LEFT, case(), left(4), np.random.default_rng(0), Changes(shift=0.02), 900)
    assert wide.complete == 900 and wide.holds()


def test_a_bound_is_that_of_clopper_and_pearson():
    for count in range(180, 201):
        bound = holding.lower_bound(count, 200)
        assert Counts(200, 200, 200, 200, count).holds() == (bound >= judge.LEVEL), count


@pytest.mark.parametrize("name", ["local", "all"])
def test_judge_and_precision_agree(name):
    """Two programs that share nothing, of one distribution."""
    network = oracles.conv()
    image = np.asarray(jax.random.uniform(jax.random.key(3), (16, 16, 3)), np.float32)
    classifier = evomask.as_classifier(network)
    config = presets.evomask()
    [question] = ask(classifier, image[None], None, None, KEY, config.fills)
    mask = np.zeros((16, 16), bool)
    mask[3:13, 2:12] = True
    draws = 600
    said = holding.precision_of(
        classifier, [question], mask[None], key=KEY, perturbation=name, draws=draws, apart=0, config=config
    )
    counts = judge.judge(classifier, trust.case_of(question, 0.9), mask, np.random.default_rng(1), CHANGES[name], draws)
    for what in ("decision", "sufficient", "necessary", "complete"):
        mine, theirs = counts.share(what), float(getattr(said.estimate, what)[0])
        spread = np.sqrt(max(theirs * (1 - theirs), 1e-3) * 2 / draws)
        assert abs(mine - theirs) <= 4 * spread, (what, mine, theirs)


def test_the_smallest_prefix_that_holds_is_offered():
    config = presets.evomask().replace(perturbation=SHIFTED)
    [question] = ask(LEFT, WHITE[None], None, None, KEY, config.fills)
    score = np.broadcast_to(-np.arange(8.0), (8, 8))
    offered = trust.smallest(asked(config), LEFT, question, trust.prefixes(score, 8), KEY)
    np.testing.assert_array_equal(offered, left(4))
    grown = trust.smallest(asked(config), LEFT, question, trust.growing(left(2), 8), KEY)
    np.testing.assert_array_equal(grown, left(4))
    backwards = trust.prefixes(-score, 8)[:5]  # columns that say nothing come first
    assert trust.smallest(asked(config), LEFT, question, backwards, KEY).all()


def test_the_figures_of_an_image():
    config = presets.evomask().replace(perturbation=SHIFTED)
    [question] = ask(LEFT, WHITE[None], None, None, KEY, config.fills)
    settings = asked(config, changes=Changes(shift=0.02), elsewhere=LEFT)
    found = trust.columns(settings, LEFT, question, left(3), left(4), KEY)
    assert tuple(found) == trust.COLUMNS
    expected = {"decision": 1, "decision_holds": 1, "offered_area": 0.5, "holds": 1, "certified_area": 0.5}
    expected |= {"headline_holds": 0, "pieces": 1, "specks": 0, "holds_elsewhere": 1, "survives_opening": 1}
    # Nudged to the left it has lost a column; shown under white, everything is bright.
    expected |= {"survives_nudge": 0.75, "survives_brightness": 1, "survives_noise": 1, "shape_is_label": 1}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert within(found["shown_complete"], 2 / 3, 200) and within(found["survives_shift"], 2 / 3, 32)
    assert all(np.isnan(value) for value in trust.columns(None, LEFT, question, left(3), left(3), KEY).values())


def test_a_mask_that_does_not_hold_counts_as_everything():
    config = presets.evomask().replace(perturbation=SHIFTED)
    [question] = ask(LEFT, WHITE[None], None, None, KEY, config.fills)
    settings = asked(config, changes=Changes(shift=0.02), draws_apart=0)
    found = trust.columns(settings, LEFT, question, left(3), left(3), KEY)
    assert (found["holds"], found["certified_area"], found["offered_area"]) == (0, 1, 0.375)
    assert np.isnan(found["survives_shift"]) and np.isnan(found["holds_elsewhere"])


def test_a_wrong_class_is_asked_for_sufficiency():
    config = presets.evomask().replace(perturbation=SHIFTED)
    [question] = ask(LEFT, WHITE[None], [1], None, KEY, config.fills)
    found = trust.columns(asked(config, changes=Changes(shift=0.02)), LEFT, question, ~left(4), ~left(4), KEY)
    assert found["holds"] == 0  # the shown right half makes it win, but a shift to the left brings the left one in
    far = trust.columns(asked(config, changes=Changes(shift=0.02)), LEFT, question, ~left(6), ~left(6), KEY)
    assert far["holds"] == 1 and far["shown_sufficient"] == 1 and far["decision"] == 0
    assert np.isnan(far["shown_complete"]) and np.isnan(far["shown_necessary"])


def test_another_networks_size_is_met():
    sizes = []

    def network(images):
        sizes.append(images.shape)
        return jnp.stack([images.mean((1, 2, 3)), 0.5 + 0 * images.mean((1, 2, 3))], -1)

    other = evomask.as_classifier(network, image_shape=(12, 12, 1))
    assert trust.resized(LEFT, (8, 8, 1)) is LEFT
    assert judge.outputs(trust.resized(other, (8, 8, 1)), WHITE[None])[0].tolist() == [1.0, 0.5]
    assert sizes[0][1:] == (12, 12, 1)


def test_agreement_of_seeds():
    masks = left(2), left(4)
    assert metrics.iou(*masks) == 0.5 and metrics.iou(~left(8), ~left(8)) == 1.0
    ranks = np.arange(16.0).reshape(4, 4)
    assert metrics.rank_correlation(ranks, 2 * ranks**3) == pytest.approx(1.0)
    assert metrics.rank_correlation(ranks, -ranks) == pytest.approx(-1.0)
    assert metrics.rank_correlation(ranks, np.ones((4, 4))) == 0.0


def test_no_more_finalists_are_judged_than_evomask_has(monkeypatch):
    config = presets.evomask().replace(perturbation=SHIFTED, finalists=2)
    [question] = ask(LEFT, WHITE[None], None, None, KEY, config.fills)
    judged = []
    monkeypatch.setattr(trust, "_confirmed", lambda *args: judged.append(args[2].sum()) or len(judged) == 3)
    masks = np.stack([left(columns) for columns in (2, 4, 5, 6)])
    assert trust.smallest(asked(config), LEFT, question, masks, KEY).all() and judged == [32, 40]


def test_every_pixel_says_nothing():
    config = presets.evomask().replace(perturbation=SHIFTED)
    [question] = ask(LEFT, WHITE[None], None, None, KEY, config.fills)
    found = trust.columns(asked(config, changes=Changes(shift=0.02)), LEFT, question, left(8), left(8), KEY)
    assert found["shown_complete"] == 1 and found["holds"] == 0 and found["certified_area"] == 1
