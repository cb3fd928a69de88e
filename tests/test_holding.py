"""Precision against a plain loop, against classifiers whose precision is known, and the 95 % that are promised."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats
from synthetic import explanation

import evomask
from evomask import fills, holding, judging, perturbations, presets
from evomask.holding import precision_of, smallest_that_holds
from evomask.measures.certainty import interval, lower_bound, sentence
from evomask.perturbations import Brightness, Fills, Gaussian, Perturbations, Shift
from evomask.questions import ask
from evomask.types import Array, InputError, decide, record, static

KEY = jax.random.key(0)
CONFIG = presets.smallest()
BOX = (4, 4, 4, 4)
BOX_ORACLE = oracles.BoxOracle(boxes=(BOX,), batch_size=128)
BOX_IMAGE = oracles.lit(BOX, 12, 12, 1)
BOX_MASK = oracles.box_mask(BOX, 12, 12)


def posed(classifier, images, labels=None, contrast=None, config=CONFIG):
    contrast = None if contrast is None else np.array(contrast)
    return ask(classifier, np.asarray(images), labels, contrast, KEY, config.fills)


@record
class Coins:
    """Class 1 where the brightest pixel of the first row and the mean of the other rows sum to more than 1.

    With `toss`, and white below, a mask of one pixel of the first row and a share of those below suffices with that
    probability, and independently of masks with another pixel of the first row.
    """

    batch_size: int = static(default=1024)

    def __call__(self, images: Array) -> Array:
        wins = images[:, 0].max((1, 2)) + images[:, 1:].mean((1, 2, 3)) > 1 + 1e-6
        return jnp.stack([jnp.zeros(len(images)), jnp.where(wins, 10.0, -10.0)], axis=-1)


def toss(key, showing):
    """The first row of the picture is uniform noise."""
    return dataclasses.replace(showing, image=showing.image.at[0].set(jax.random.uniform(key, showing.image.shape[1:])))


TOSS = Perturbations((toss,))
COINS = Coins()
COIN_IMAGE = np.ones((6, 4, 1), np.float32)


def coin_mask(coins, below):
    """bool[6, 4]: those coins of the first row, and so many of the twenty pixels below."""
    mask = np.zeros((6, 4), bool)
    mask[0, coins] = True
    mask[1:] = (np.arange(20) < below).reshape(5, 4)
    return mask


@pytest.mark.parametrize("contrast", [None, [2, 0]])
def test_counts_are_those_of_a_plain_loop(contrast):
    classifier, images = oracles.conv(), oracles.conv_images()
    config = CONFIG.replace(fill=(fills.Constant(0.0), fills.Mean()))
    questions = posed(classifier, images, None if contrast is None else [1, 1], contrast, config)
    masks, drawn = np.random.default_rng(3).uniform(size=(2, 16, 16)) > 0.3, Perturbations((Shift(0.2), Gaussian(0.4)))
    held = precision_of(
        classifier, questions, masks, key=KEY, perturbation=drawn, draws=10, apart=7, config=config, demand="sufficient"
    )
    key = jax.random.fold_in(KEY, holding._JUDGE)
    for index, question in enumerate(questions):
        for number, (one, on) in enumerate([(drawn, np.array([True, True])), *drawn.apart().values()]):
            draws = 7 if number else 10
            key_drawn = jax.random.fold_in(key, number)
            keys = [jax.random.fold_in(key_drawn, draw) for draw in range(draws)]
            expected = np.sum([counted(classifier, question, masks[index], one, on, each) for each in keys], axis=0)
            counts = held.counts_apart if number else held.counts
            found = [np.asarray(field)[index] for field in vars(counts).values()]
            found = [field[number - 1] for field in found] if number else found
            assert found == expected.tolist()
    assert 0 < held.counts.sufficient.sum() < 20 and 0 < held.counts.decision.sum()  # else nothing was tried
    # Three showings a call: ten are asked in four, seven in three, and the last one is filled up.
    assert held.names == ("shift", "noise") and held.evaluations.tolist() == [5 * (12 + 2 * 9)] * 2


def counted(classifier, question, mask, drawn, on, key):
    """Of one showing: sufficient, necessary, complete, and whether the whole picture keeps the class."""

    def said(image):
        logits = np.asarray(classifier(jnp.asarray(image)[None]))[0].astype(float)
        if question.contrast is not None:
            logits[[c for c in range(3) if c not in (question.label, question.contrast)]] = -np.inf
        log_probs = logits - np.log(np.exp(logits).sum())
        return log_probs[question.label] - np.delete(log_probs, question.label).max(), np.exp(log_probs[question.label])

    verdicts = []
    for blank in question.blanks:
        shown = drawn(key, question.image, blank, on)
        moved = np.asarray(perturbations.move(mask, shown.shift))[..., None]
        whole, masked = said(shown.image), said(np.where(moved, shown.image, shown.blank))
        inverse = said(np.where(moved, shown.blank, shown.image))
        verdict = decide(*masked, inverse[0], 0.9 * whole[1])
        verdicts.append([verdict.sufficient, verdict.necessary, verdict.complete, whole[0] > 0])
    sufficient, necessary, _, decision = np.all(verdicts, axis=0)
    necessary &= not question.counterfactual
    return [sufficient, necessary, sufficient and necessary, decision]


def test_a_known_precision_is_found():
    questions = posed(COINS, [COIN_IMAGE] * 3)
    masks = np.stack([coin_mask([0], 10), coin_mask([0, 1, 2, 3], 10), coin_mask([0, 1, 2, 3], 0)])
    held = precision_of(COINS, questions, masks, key=KEY, perturbation=TOSS, draws=400)
    known = np.array([0.5, 1 - 0.5**4, 0.0])  # of the best of four coins
    assert (np.abs(held.estimate.sufficient - known) <= 4 * np.sqrt(known * (1 - known) / 400)).all()
    assert held.counts.necessary[1:].tolist() == [400, 400] and held.counts.complete[1] == held.counts.sufficient[1]
    assert held.counts.decision.tolist() == [400] * 3 and held.decision_holds.all()
    assert held.holds.tolist() == [False, bool(held.lower.complete[1] >= 0.9), False] and held.names == ()
    assert (held.interval.sufficient[:, 0] <= held.estimate.sufficient).all()
    assert held.evaluations.tolist() == [1200] * 3


def test_a_mask_that_does_not_hold_passes_in_five_percent_of_all_runs_however_many_are_tried():
    [question] = posed(COINS, [COIN_IMAGE])
    # The first always is sufficient, of the three after it none at more than the level: 0.9, where a test is hardest.
    masks = np.stack([coin_mask([0], 18), coin_mask([1], 20), coin_mask([2], 18), coin_mask([3], 18)])
    runs, level, options = 200, 0.9 + 1e-9, dict(perturbation=TOSS, draws=29, demand="sufficient")
    found = [smallest_that_holds(COINS, question, masks, key=key, level=level, **options) for key in range(runs)]
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)  # three deviations
    errors = np.mean([one.index != 1 for one in found])
    assert 0 < errors <= most  # 0.9 ** 29 is 0.047
    assert {one.tried[:2] for one in found} == {(1, 0)}
    bounds = np.array([one.precision.lower.sufficient[1] for one in found])
    assert 0 < np.mean(bounds > 0.9) <= most
    assert all(one.precision.lower.sufficient[0] >= level for one in found)


@pytest.mark.parametrize("draws", [29, 200])
def test_bounds_cover_every_probability(draws):
    counts = np.arange(draws + 1)
    low, both = lower_bound(counts, draws), interval(counts, draws)
    for known in np.linspace(0.01, 0.99, 99):
        chance = stats.binom.pmf(counts, draws, known)
        assert chance[low > known].sum() <= 0.05 + 1e-9
        assert chance[(both[:, 0] <= known) & (known <= both[:, 1])].sum() >= 0.95 - 1e-9


def test_bounds_are_those_of_scipy():
    for count in (0, 1, 27, 29):
        exact = stats.binomtest(count, 29, alternative="greater").proportion_ci(0.95, "exact")
        np.testing.assert_allclose(lower_bound(count, 29), exact.low, atol=1e-9)
        exact = stats.binomtest(count, 29).proportion_ci(0.95, "exact")
        np.testing.assert_allclose(interval(count, 29), [exact.low, exact.high], atol=1e-9)


def test_masks_are_tried_from_the_largest_until_one_fails():
    [question] = posed(BOX_ORACLE, [BOX_IMAGE])
    whole, half = np.ones((12, 12), bool), BOX_MASK & (np.arange(12) < 6)
    masks = np.stack([BOX_MASK, half, whole, half & False])
    trials = smallest_that_holds(BOX_ORACLE, question, masks, key=KEY, draws=40)
    assert (trials.index, trials.tried) == (0, (2, 0, 1))
    assert trials.precision.holds.tolist() == [True, True, False]
    assert trials.precision.evaluations.tolist() == [120] * 3
    nothing = smallest_that_holds(BOX_ORACLE, question, masks[1:2], key=KEY, draws=40)
    assert (nothing.index, nothing.tried) == (-1, (0,))


def dark(key, showing):
    return dataclasses.replace(showing, image=showing.image * jax.random.bernoulli(key, 0.7).astype(jnp.float32))


def test_what_breaks_a_mask_is_named():
    drawn = Perturbations((Fills((fills.Constant(0.0), fills.Constant(1.0))), Gaussian(0.02), Shift()))
    held = precision_of(
        BOX_ORACLE, posed(BOX_ORACLE, [BOX_IMAGE]), BOX_MASK[None], key=KEY, perturbation=drawn, draws=60
    )
    assert held.names == ("black fill", "white fill", "noise", "shift")
    assert held.counts_apart.necessary.tolist() == [[60, 0, 60, 60]]
    assert held.holds_apart.complete.tolist() == [[True, False, True, True]]
    assert not held.holds[0] and held.decision_holds[0]
    words = sentence(held[0])
    assert words.startswith("the mask does not hold at 0.9: it is sufficient and necessary in ")
    assert words.endswith("; by itself, it holds under black fill, noise and shift, not under white fill (0 of 60)")
    assert held[0].summary()["apart"]["white fill"] == {"sufficient": 60, "necessary": 0, "complete": 0, "decision": 60}


def test_a_decision_that_breaks_is_said_to():
    drawn = Perturbations((dark, Brightness()))
    held = precision_of(
        BOX_ORACLE, posed(BOX_ORACLE, [BOX_IMAGE]), BOX_MASK[None], key=KEY, perturbation=drawn, draws=100
    )
    lost, alone = 100 - held.counts.decision[0], held.counts_apart.decision[0, 0]
    assert 30 - 4 * 4.6 < lost < 30 + 4 * 4.6 and not held.decision_holds[0]
    words = sentence(held[0])
    kept = f"the whole picture keeps its class in {100 - lost} of 100 showings"
    assert words.startswith(f"the decision does not hold at 0.9: {kept} (0.")
    assert f"it holds under brightness, not under dark ({alone} of 100); the mask is sufficient" in words


def test_a_mask_that_holds_and_too_few_draws():
    drawn = Perturbations((Shift(),))
    options = dict(key=KEY, perturbation=drawn)
    held = precision_of(BOX_ORACLE, posed(BOX_ORACLE, [BOX_IMAGE]), BOX_MASK[None], draws=60, **options)
    assert held.holds[0] and sentence(held[0]) == (
        "the mask holds at 0.9: it is sufficient and necessary in 60 of 60 showings "
        "(0.95 or more, with 95 % confidence)"
    )
    held = precision_of(BOX_ORACLE, posed(BOX_ORACLE, [BOX_IMAGE]), BOX_MASK[None], draws=20, **options)
    assert sentence(held[0]).endswith("; so few draws cannot show 0.9, 29 can") and not held.holds[0]


def test_another_class_than_the_predicted_one_cannot_be_lost():
    question = posed(BOX_ORACLE, [BOX_IMAGE], [0])
    held = precision_of(BOX_ORACLE, question, ~BOX_MASK[None], key=KEY, draws=40, apart=0, demand="sufficient")
    assert (held.counts.sufficient[0], held.counts.necessary[0], held.counts.decision[0]) == (40, 0, 0)
    assert held.holds[0] and sentence(held[0]).startswith(
        "the mask holds at 0.9: it is sufficient in 40 of 40 showings"
    )


def test_an_image_gets_the_same_counts_alone_or_among_others_and_nothing_is_compiled_twice():
    images = np.stack([BOX_IMAGE, 0.6 * BOX_IMAGE, 0.8 * BOX_IMAGE])
    masks, options = np.stack([BOX_MASK] * 3), dict(key=3, perturbation=Perturbations((Shift(0.2), Gaussian(0.2))))
    questions = posed(BOX_ORACLE, images)
    together = precision_of(BOX_ORACLE, questions, masks, draws=40, **options)
    programs = judging._look._cache_size()
    alone = precision_of(BOX_ORACLE, questions[1:2], masks[1:2], draws=40, apart=20, **options)
    assert alone.counts.complete[0] == together.counts.complete[1]
    precision_of(BOX_ORACLE, questions, masks, draws=40, level=0.5, **options | {"key": 4})
    weaker = Perturbations((Shift(0.1), Gaussian(0.1)))
    precision_of(BOX_ORACLE, questions, masks, draws=40, **options | {"perturbation": weaker})
    assert judging._look._cache_size() == programs
    assert len({tuple(counts.tolist()) for counts in vars(together.counts).values()}) > 1


def test_an_explanation_of_one_image_or_of_several():
    one = dataclasses.replace(
        explanation(12), image=BOX_IMAGE, mask=BOX_MASK, blanks=np.zeros((1, 12, 12, 1), np.float32)
    )
    several = jax.tree.map(lambda field: np.stack([field, field]), one)
    options = dict(key=KEY, draws=40, apart=0)
    single, both = (evomask.precision(BOX_ORACLE, found, **options) for found in (one, several))
    assert single.counts.complete.tolist() == [40] and both.counts.complete.tolist() == [40, 40]
    assert single.evaluations.tolist() == [120] and single.names == ()


def test_a_black_box_is_counted_and_says_the_same():
    seen = []

    def box(images):
        seen.append(len(images))
        bright = images[:, 4:8, 4:8].mean((1, 2, 3))
        return np.stack([np.zeros_like(bright), 20 * (bright - 0.5)], axis=-1)

    options = dict(key=KEY, perturbation=Perturbations((Shift(0.2), Gaussian(0.3))), draws=40)
    black = evomask.BlackBox(box, 2)
    [question] = posed(black, [BOX_IMAGE])
    seen.clear()
    held = precision_of(black, [question], BOX_MASK[None], **options)
    assert sum(seen) == held.evaluations[0] == 3 * 120
    twin = precision_of(BOX_ORACLE, [question], BOX_MASK[None], **options)
    jax.tree.map(np.testing.assert_array_equal, held.counts, twin.counts)
    assert 0 < held.counts.complete[0] < 40


def test_no_stream_is_that_of_another():
    """The search folds numbers of generations, cycles and seeds into the key."""
    assert holding._JUDGE != holding._TRIALS and min(holding._JUDGE, holding._TRIALS) > 10**9


BAD = {
    "level": (dict(level=1.0), r"level is 1.0: give a probability above 0 and below 1"),
    "no level": (dict(level="high"), r"level is 'high': give a probability"),
    "draws": (dict(draws=0), r"draws is 0: give a whole number of 1 or more"),
    "apart": (dict(apart=-1), r"apart is -1: give a whole number of 0 or more"),
    "demand": (dict(demand="sound"), r"demand is 'sound': give one of complete, sufficient, necessary"),
    "name": (dict(perturbation="locale"), r"perturbation is 'locale' \(did you mean local\?\)"),
    "range": (
        dict(perturbation=Perturbations((lambda key, s: dataclasses.replace(s, blank=s.blank - 1),))),
        r"the perturbation <lambda> shows a blank from -1 to 0: clip it to \[0, 1\]",
    ),
    "masks": (dict(masks=BOX_MASK), r"masks are bool\[12, 12\]: give booleans \[1, 12, 12\]"),
    "numbers": (dict(masks=BOX_MASK[None].astype(float)), r"masks are float64\[1, 12, 12\]: give booleans"),
    "none": (dict(questions=[], masks=BOX_MASK[None][:0]), r"there is no mask to judge: give at least one"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_before_anything_is_compiled(name):
    options, message = BAD[name]
    given = dict(questions=posed(BOX_ORACLE, [BOX_IMAGE]), masks=BOX_MASK[None], key=KEY) | options
    programs = judging._look._cache_size()
    with pytest.raises(InputError, match=message) as caught:
        precision_of(BOX_ORACLE, **given)
    assert "\n" not in str(caught.value) and judging._look._cache_size() == programs


@record
class LosesItsWay:
    """NaN for pictures with a value that is not 0 or 1."""

    batch_size: int = static(default=128)

    def __call__(self, images: Array) -> Array:
        return BOX_ORACLE(images) + jnp.where(jnp.isin(images, jnp.array([0.0, 1.0])).all(), 0.0, jnp.nan)


def test_nan_in_a_showing_is_an_error():
    [question] = posed(LosesItsWay(), [BOX_IMAGE])
    with pytest.raises(InputError, match="the classifier returned NaN or infinity in 30 of 30 showings: check its"):
        precision_of(LosesItsWay(), [question], BOX_MASK[None], key=KEY, draws=30)
