"""Known evidence is found, the same bits come out however images are grouped, and nothing is compiled twice."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import evomask
from evomask import fills, operators, presets
from evomask.report.reasons import reasons
from evomask.search import fitness, scoring
from evomask.search.config import Config
from evomask.types import InputError, Status, record, static
from experiments.shared.compiling import compile_seconds

KEY = jax.random.key(3)
SIDE = 8


def linear(weights, bias, sharpness=20.0):
    """Class 1 has the logit sharpness * (sum of weights * image + bias), class 0 has zero."""
    columns = np.stack([np.zeros_like(weights), sharpness * weights], axis=-1).reshape(-1, 2)
    return oracles.LinearOracle(jnp.asarray(columns, jnp.float32), jnp.array([0.0, sharpness * bias], jnp.float32))


# Weights of the mean brightness of a box. All of these classifiers share one compiled program.
LEFT, RIGHT = ((oracles.box_mask((2, col, 4, 2), SIDE, SIDE) / 8).astype(np.float32) for col in (1, 5))
LINEAR = linear(LEFT, -0.5)
WHITE = np.ones((1, SIDE, SIDE, 1), np.float32)
IMAGES = np.random.default_rng(0).uniform(0, 0.6, (8, SIDE, SIDE, 1)).astype(np.float32)
IMAGES[:, LEFT > 0] = 1.0
CONFIG = Config(
    stages=(
        evomask.Stage("gross", population=8, genes=3, radii=(1, 2), generations=8),
        evomask.Stage("fine", population=8, genes=4, radii=(0.05, 1), generations=16, offspring=10),
    ),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)
COSTS = [16] * 9 + [20] * 17  # evaluations per generation: each mask and its inverse


def explain(classifier=LINEAR, images=IMAGES, config=CONFIG, **options):
    return evomask.explain(classifier, images, **{"key": KEY, "config": config} | options)


@functools.cache
def batch():
    return explain()


def row(tree, index):
    return jax.tree.map(lambda x: x[index : index + 1], tree)


def assert_same(found, expected):
    """Every field, bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# ------------------------------------------------------------------------------------------------ what an oracle says


def test_the_mask_is_sufficient_and_necessary_and_smaller_than_the_gross_one():
    found = batch()
    assert found.complete.all() and (found.status == Status.COMPLETE).all()
    assert (found.label == 1).all() and (found.predicted == 1).all()
    forward = lambda images: np.asarray(jax.nn.softmax(LINEAR(jnp.asarray(images))))[:, 1]
    keep = found.mask[..., None]
    np.testing.assert_allclose(found.confidence, forward(IMAGES), atol=1e-6)
    np.testing.assert_allclose(found.masked_confidence, forward(IMAGES * keep), atol=1e-6)
    np.testing.assert_allclose(found.inverse_confidence, forward(IMAGES * ~keep), atol=1e-6)
    np.testing.assert_allclose(found.blank_confidence, forward(np.zeros_like(IMAGES)), atol=1e-6)
    assert (found.masked_confidence >= 0.9 * found.confidence).all() and (found.inverse_confidence < 0.5).all()
    kept = (found.mask & (LEFT > 0)).sum((1, 2))
    assert (kept >= 5).all()  # of 8: 20 (5 / 8 - 0.5) = 2.5 nats, a probability of 0.92 > 0.9; 4 are not enough
    assert (found.mask <= found.stage_masks[:, 0]).all() and found.mask.sum() < found.stage_masks[:, 0].sum()
    np.testing.assert_array_equal(found.mask, found.stage_masks[:, -1])


def test_figures_follow_from_the_mask():
    found = batch()
    np.testing.assert_array_equal(found.area, found.mask.mean((1, 2), dtype=np.float32))
    np.testing.assert_allclose(found.cp, found.masked_confidence / found.area, rtol=1e-6)
    np.testing.assert_allclose(found.cp_floored, found.masked_confidence / np.maximum(found.area, 0.05), rtol=1e-6)
    np.testing.assert_array_equal(found.stage_confidences[:, -1], found.masked_confidence)
    np.testing.assert_array_equal(found.stage_labels[:, -1], found.masked_label)
    assert (found.stage_labels == 1).all() and (found.inverse_label == 0).all() and (found.blank_label == 0).all()


def test_score_lies_in_the_unit_interval_and_ranks_the_mask_first():
    found = batch()
    assert found.score.shape == (8, SIDE, SIDE) and found.score.dtype == np.float32
    assert found.score.min() >= 0 and (found.score.max((1, 2)) == 1).all()
    for score, mask in zip(found.score, found.mask):
        assert score[mask].min() >= 0.5 > score[~mask].max()


def test_inside_only_is_the_published_form_of_the_score():
    total = np.random.default_rng(1).uniform(0, 1, (SIDE, SIDE)).astype(np.float32)
    mask = batch().mask[0]
    inside, everywhere = (scoring.normalize(total, mask, inside_only) for inside_only in (True, False))
    expected = np.where(mask, np.maximum(total, 0), 0)
    np.testing.assert_allclose(inside, expected / expected.max(), rtol=1e-6)
    np.testing.assert_allclose(everywhere[mask], 0.5 + 0.5 * inside[mask], rtol=1e-6)
    outside = np.where(mask, 0, np.maximum(total, 0))
    np.testing.assert_allclose(everywhere[~mask], (0.375 * outside / outside.max())[~mask], rtol=1e-6)


def test_history_and_evaluations():
    found, history = batch(), batch().history
    assert CONFIG.evaluations == sum(COSTS) and (found.evaluations == sum(COSTS)).all()
    np.testing.assert_array_equal(history.evaluations, np.broadcast_to(np.cumsum(COSTS), (8, 26)))
    np.testing.assert_allclose(history.fitness, -history.area, rtol=1e-6)  # the objective is the area
    for stage in (slice(0, 9), slice(9, 26)):
        assert (np.diff(history.feasible[:, stage].astype(int), axis=1) >= 0).all()
        both = history.feasible[:, stage][:, :-1]
        assert (np.diff(history.area[:, stage], axis=1)[both] <= 0).all()
    assert history.feasible[:, -1].all()
    np.testing.assert_allclose(history.area[:, [8, -1]], found.stage_masks.mean((2, 3)), rtol=1e-6)
    np.testing.assert_allclose(history.confidence[:, -1], found.masked_confidence, atol=1e-5)


def test_the_default_comes_near_the_smallest_mask():
    """Each of two boxes of 8 white pixels on black is evidence, and 5 pixels of each are needed (see above)."""
    boxes = ((2, 2, 4, 2), (6, 8, 2, 4))
    oracle, image = oracles.BoxOracle(boxes=boxes, rule="all"), oracles.lit(boxes, 12, 12, 1)[None]
    found = evomask.explain(oracle, image, key=KEY, config=presets.smallest(4000))
    assert found.complete[0] and found.evaluations[0] <= 4000
    for box in boxes:
        assert (found.mask[0] & oracles.box_mask(box, 12, 12)).sum() >= 5
    assert 10 <= found.mask.sum() <= 15


# ----------------------------------------------------------------------------------------------------- the same bits


def test_the_same_key_gives_the_same_bits_and_another_key_another_mask():
    assert_same(explain(), batch())
    other = explain(key=jax.random.key(4))
    assert (other.mask != batch().mask).any() and other.complete.all()


def test_an_image_alone_is_explained_as_among_others():
    for index in (0, 5):
        assert_same(explain(images=IMAGES[index : index + 1]), row(batch(), index))


def test_golden():
    """The search draws the same numbers in every version of JAX: a change here changes everybody's results."""
    found = batch()
    assert found.mask.sum((1, 2)).tolist() == GOLDEN_PIXELS
    assert found.genome.sum((0, 1)).tolist() == GOLDEN_GENES


GOLDEN_PIXELS = [6] * 8  # 3 x 2 of the box of 4 x 2
GOLDEN_GENES = [112, 48, 16]  # sums of rows, columns and radii


# ------------------------------------------------------------------------------------------------- compiled only once


def test_a_second_call_compiles_nothing():
    batch()
    with compile_seconds() as compiled:
        explain(key=jax.random.key(9), images=IMAGES[::-1].copy())
    assert not compiled


def test_hyper_parameters_do_not_compile_again_and_matter():
    batch()
    changed = dataclasses.replace(
        CONFIG,
        operators=dataclasses.replace(
            CONFIG.operators, mutation=operators.Replace(0.5), crossover=operators.Uniform(0.1)
        ),
        fill=fills.Constant(0.1),
        confidence_ratio=0.6,
    )
    programs = oracles.programs()
    with compile_seconds() as compiled:
        found = explain(config=changed)
    assert not compiled and oracles.programs() == programs
    assert (found.mask != batch().mask).any()


def test_after_precompile_explain_compiles_nothing_and_progress_reaches_the_total():
    told = []
    assert evomask.precompile(LINEAR, WHITE, config=CONFIG) > 0
    pair = np.repeat(WHITE, 2, axis=0)
    with compile_seconds() as compiled:
        found = explain(images=pair, progress=lambda done, total: told.append((done, total)))
    assert not compiled
    assert told[-1] == (2 * sum(COSTS), 2 * sum(COSTS)) and {total for _, total in told} == {2 * sum(COSTS)}
    done = [done for done, _ in told]
    assert done == sorted(set(done)) and set(done) <= set(np.cumsum(COSTS * 2).tolist())
    assert_same(found, explain(images=pair))  # who listens changes nothing


# ------------------------------------------------------------------------------------------------------ every status


@record
class Fickle:
    """Alone, an image needs nearly all of its pixels; in a batch, it needs its left box only."""

    batch_size: int = static(default=16)

    def __call__(self, images):
        in_batch = (images[..., 0] * LEFT[None]).sum((1, 2)) - 0.5
        alone = images.mean((1, 2, 3)) - 0.98
        logit = 200.0 * alone if images.shape[0] == 1 else 20.0 * in_batch
        return jnp.stack([jnp.zeros_like(logit), logit], axis=-1)


@pytest.mark.parametrize(
    "classifier, ratio, status",
    [
        (LINEAR, 0.9, Status.COMPLETE),
        # The blank image has the class, the right box speaks against it, the left one for it.
        (linear(LEFT - RIGHT, 0.5), 0.9, Status.BLANK_CLASS),
        (linear(0 * LEFT, 1.0), 0.9, Status.NOT_NECESSARY),  # whatever is blanked
        (linear(0 * LEFT, -1.0), 0.9, Status.COUNTERFACTUAL),  # the whole image has another class
        (
            linear(np.full_like(LEFT, 1 / 64), -0.99, 100.0),
            0.9,
            Status.NOT_SUFFICIENT,
        ),  # all pixels but one are too few
        # Every pixel adds confidence and all of it is asked for; but without any the class is the same.
        (linear(np.full_like(LEFT, 1 / 64), 0.1, 2.0), 1.0, Status.NEITHER),
        (Fickle(), 0.9, Status.UNSTABLE),
    ],
    ids=lambda x: x.name if isinstance(x, Status) else "",
)
def test_status(classifier, ratio, status):
    config = dataclasses.replace(CONFIG, confidence_ratio=ratio)
    found = explain(classifier, WHITE, config, labels=[1])
    assert Status(found.status[0]) is status
    sufficient = found.masked_label[0] == 1 and found.masked_confidence[0] >= ratio * found.confidence[0]
    necessary = found.inverse_label[0] != 1 and status != Status.COUNTERFACTUAL
    assert (found.sufficient[0], found.necessary[0]) == (sufficient, necessary)
    assert found.complete[0] == (status in (Status.COMPLETE, Status.BLANK_CLASS))
    assert found.history.feasible[0, -1] == (status in (Status.COMPLETE, Status.BLANK_CLASS, Status.UNSTABLE))


def test_what_is_missing_is_measured_against_the_verified_mask():
    """By hand: the logit of class 1 is 2 (kept + 0.1), so its inverse has 2 (1 - kept + 0.1); all confidence is asked
    for.
    """
    config = dataclasses.replace(CONFIG, confidence_ratio=1.0)
    found = explain(linear(np.full_like(LEFT, 1 / 64), 0.1, 2.0), WHITE, config, labels=[1])
    assert found.status[0] == Status.NEITHER
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    whole, kept, rest = 2.2, 2 * (found.mask.mean() + 0.1), 2 * (1 - found.mask.mean() + 0.1)
    nats, probability = found.missing, found.missing_probability
    np.testing.assert_array_equal([nats.keeps_class, probability.keeps_class], 0)
    np.testing.assert_allclose(nats.keeps_confidence, np.log(sigmoid(whole) / sigmoid(kept)), atol=1e-5)
    np.testing.assert_allclose(probability.keeps_confidence, sigmoid(whole) - sigmoid(kept), atol=1e-5)
    np.testing.assert_allclose(nats.loses_class, rest, atol=1e-5)
    np.testing.assert_allclose(probability.loses_class, 2 * sigmoid(rest) - 1, atol=1e-5)
    first, second = reasons(dataclasses.replace(found[0], names=("dark", "bright")))
    assert first.startswith("the masked image has confidence 0.") and f"by {nats.keeps_confidence[0]:.3g} nats" in first
    assert second.startswith(f"without the mask the image is still “bright”, ahead by {nats.loses_class[0]:.3g} nats (")


def test_a_lost_class_is_missed_by_its_margin():
    found = explain(linear(0 * LEFT, -0.5), WHITE, labels=[1])  # ten nats behind, whatever is kept
    np.testing.assert_allclose(found.missing.keeps_class, 10, rtol=1e-5)
    np.testing.assert_allclose(found.missing_probability.keeps_class, 1, atol=1e-4)
    assert found.missing.keeps_confidence == found.missing.loses_class == 0
    (only,) = reasons(dataclasses.replace(found[0], names=("dark", "bright")))
    assert only == "the masked image is “dark”: “bright” is behind by 10 nats (1 in probability)"


def test_a_complete_mask_misses_nothing():
    found = batch()
    assert all((part == 0).all() for part in jax.tree.leaves((found.missing, found.missing_probability)))
    assert reasons(dataclasses.replace(found[0], names=("dark", "bright"))) == ()


# ------------------------------------------------------------------------------------------- two classes, several fills


def test_a_contrast_explains_what_sets_two_classes_apart():
    """Left is evidence for classes 0 and 1 alike, right for 0 alone, and class 2 is always predicted."""
    columns = 8.0 * np.stack([LEFT + RIGHT, LEFT, 0 * LEFT], axis=-1).reshape(-1, 3)
    oracle = oracles.LinearOracle(jnp.asarray(columns, jnp.float32), jnp.array([0.0, 4.0, 30.0], jnp.float32))
    found = explain(oracle, WHITE, labels=[0], contrast=[1])
    assert found.complete[0] and found.status[0] == Status.COMPLETE
    share = (found.mask[0] * RIGHT).sum()  # the lead of 0 over 1 is 8 share - 4
    assert (found.label[0], found.contrast[0], found.predicted[0]) == (0, 1, 0)
    assert (found.masked_label[0], found.inverse_label[0], found.blank_label[0]) == (0, 1, 1)
    np.testing.assert_allclose(found.confidence, 1 / (1 + np.exp(-4.0)), rtol=1e-5)  # shares between the two
    np.testing.assert_allclose(found.masked_confidence, 1 / (1 + np.exp(4 - 8 * share)), rtol=1e-5)
    np.testing.assert_allclose(found.inverse_confidence, 1 / (1 + np.exp(4 - 8 * (1 - share))), rtol=1e-5)
    assert found.masked_confidence[0] >= 0.9 * found.confidence[0] and not (found.mask[0] & (LEFT > 0)).all()
    assert (batch().contrast == -1).all()


BOTH = (fills.Constant(0.0), fills.Constant(0.4))


def test_a_mask_holds_under_all_the_fills_that_are_demanded():
    """With share s of the box blanked to 0.4, 1 - 0.6 s of its brightness is left: below 0.5 it takes 7 pixels of 8."""
    config = dataclasses.replace(CONFIG, fill=BOTH)
    found = explain(images=WHITE, config=config)
    assert config.evaluations == 2 * CONFIG.evaluations == found.evaluations[0] == found.history.evaluations[0, -1]
    assert found.complete[0] and (found.mask[0] & (LEFT > 0)).sum() >= 7
    black, brighter = (explain(images=WHITE, config=dataclasses.replace(CONFIG, fill=fill)) for fill in BOTH)
    assert (black.mask[0] & (LEFT > 0)).sum() < 7 and black.complete[0] and brighter.complete[0]
    # The worst of the fills is reported.
    share = (found.mask[0] * LEFT).sum()
    logit = lambda brightness: 1 / (1 + np.exp(10 - 20 * brightness))
    np.testing.assert_allclose(found.masked_confidence, logit(share), rtol=1e-4)
    np.testing.assert_allclose(found.inverse_confidence, logit(1 - 0.6 * share), rtol=1e-4)
    np.testing.assert_allclose(found.blank_confidence, logit(0.0), rtol=1e-4)
    np.testing.assert_allclose(found.history.confidence[:, -1], found.masked_confidence, atol=1e-5)


def test_every_shipped_fill_is_reported():
    """White, mean and blur leave a white image white, so nothing is lost there; grey, 0.5, takes all of the box."""
    found = batch()
    assert found.complete_under.shape == (8, len(fills.SHIPPED)) and found.complete_under[:, 0].all()
    on_white = dict(zip(fills.SHIPPED, explain(images=WHITE).complete_under[0]))
    assert {name for name, holds in on_white.items() if holds} <= {"black", "noise"} and on_white["black"]
    for row, image, mask in zip(found.complete_under, IMAGES, found.mask):
        for holds, fill in zip(row, fills.SHIPPED.values()):
            blank = np.asarray(fills.blank(fill, KEY, image))
            bright = lambda keep: (np.where(keep[..., None], image, blank)[..., 0] * LEFT).sum()
            sigmoid = lambda x: 1 / (1 + np.exp(10 - 20 * x))
            expected = sigmoid(bright(mask)) >= 0.9 * sigmoid((image[..., 0] * LEFT).sum()) and bright(~mask) < 0.5
            assert holds == expected, fill


def test_any_class_can_be_explained():
    """Class 0 speaks against the right box, so its evidence is there, although class 1 is predicted."""
    found = explain(linear(LEFT - RIGHT, 0.25), WHITE, labels=np.array([0]))
    assert (found.label[0], found.predicted[0]) == (0, 1)
    assert (found.mask[0] & (RIGHT > 0)).sum() > (found.mask[0] & (LEFT > 0)).sum()
    assert found.masked_label[0] == 0 and found.inverse_label[0] == 1
    assert found.status[0] == Status.COUNTERFACTUAL and found.sufficient[0] and not found.complete[0]
    np.testing.assert_allclose(found.predicted_confidence, 1 / (1 + np.exp(-5)), rtol=1e-4)
    np.testing.assert_allclose(found.confidence, 1 / (1 + np.exp(5)), rtol=1e-4)


# -------------------------------------------------------------------------------------------------------- bad input


def stage(**changes):
    return dataclasses.replace(CONFIG, stages=(dataclasses.replace(CONFIG.stages[0], **changes),))


NAN = WHITE.copy()
NAN[0, 3, 3, 0] = np.nan
NO_FEATURES = evomask.as_classifier(lambda images: images.mean((1, 2)) @ jnp.ones((1, 2)))
BAD = {
    "no batch axis": (
        dict(images=WHITE[0]),
        r"images are float32\[8, 8, 1\]: give floats in \[0, 1\] or bytes .* \[B, H, W, C\]; .* image\[None\]",
    ),
    "no images": (dict(images=WHITE[:0]), r"images are float32\[0, 8, 8, 1\]: give floats .* \[B, H, W, C\]"),
    "bytes": (
        dict(images=np.ones((1, 8, 8, 1), np.uint8)),
        "images are bytes of 0 and 1, where 255 is white: give them as floats, or times 255",
    ),
    "up to 255": (dict(images=255 * WHITE), r"images range from 255 to 255: give values in \[0, 1\]"),
    "negative": (dict(images=-WHITE), "images range from -1 to -1: give values"),
    "nan image": (dict(images=NAN), "images range from nan to nan: give values"),
    "two labels": (dict(labels=[1, 1]), r"labels are int64\[2\]: give 1 integers, one per image"),
    "float labels": (dict(labels=[1.0]), r"labels are float64\[1\]: give 1 integers"),
    "label too large": (dict(labels=[2]), "label 2 is out of range: give classes from 0 to 1"),
    "label negative": (dict(labels=[-1]), "label -1 is out of range: give classes from 0 to 1"),
    "no stages": (dict(config=dataclasses.replace(CONFIG, stages=())), "no stages: give at least one"),
    "population": (dict(config=stage(population=0)), "stage 'gross': population is 0: give .*1 or more"),
    "genes": (dict(config=stage(genes=-2)), "stage 'gross': genes is -2: give .*1 or more"),
    "offspring": (dict(config=stage(offspring=0)), "stage 'gross': .*offspring is 0: give .*1 or more"),
    "generations": (dict(config=stage(generations=0)), "stage 'gross': generations is 0: give .*1 or more"),
    "cycles": (dict(config=stage(cycles=0)), "stage 'gross': cycles is 0: give .*1 or more"),
    "longest": (dict(config=stage(longest=0)), "stage 'gross': longest is 0: give .*1 or more, or None"),
    "patience": (dict(config=stage(patience=0)), "stage 'gross': patience is 0: give .*1 or more, or None"),
    "penalty": (
        dict(config=stage(penalty=(0.0, 5.0))),
        "stage 'gross': penalty is .0.0, 5.0.: give two positive numbers",
    ),
    "radius": (
        dict(config=stage(radii=(2, 8))),
        "radius 8 does not fit an image of 8 x 8 pixels: give pixels from 1 to 7",
    ),
    "radii": (dict(config=stage(radii=())), "radii is empty: give at least one"),
    "ratio": (
        dict(config=dataclasses.replace(CONFIG, confidence_ratio=90.0)),
        "confidence_ratio is 90.0: give a fraction",
    ),
    "windows": (dict(config=dataclasses.replace(CONFIG, windows=-1)), "windows is -1: give a whole number of 0"),
    "batch size": (dict(config=dataclasses.replace(CONFIG, batch_size=0)), "batch_size is 0: give 1 or more, or None"),
    "features": (
        dict(classifier=NO_FEATURES, config=dataclasses.replace(CONFIG, fitness=fitness.published())),
        r"compares features, but the classifier has none: give it a method features\(images\)",
    ),
    "not a classifier": (
        dict(classifier=lambda images: images),
        "not a callable pytree of arrays: pass .*as_classifier",
    ),
    "one class": (
        dict(classifier=evomask.as_classifier(lambda images: images.mean((1, 2)))),
        r"must return logits\[3, K\] of two or more classes",
    ),
    "wrong image shape": (dict(images=np.ones((1, 9, 8, 1), np.float32)), "fails on a batch of images"),
    "two contrasts": (dict(contrast=[1, 1]), r"contrasts are int64\[2\]: give 1 integers, one per image"),
    "contrast too large": (dict(contrast=[2]), "contrast 2 is out of range: give classes from 0 to 1"),
    "key": (dict(key=0.5), r"key is 0.5: give a whole number from 0 to 4294967295, or one key of jax.random.key"),
    "keys": (dict(key=jax.random.split(KEY)), r"key is an array of 2 keys: give one of them, such as key\[0\]"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_before_anything_is_compiled(bad):
    options, message = BAD[bad]
    with compile_seconds() as compiled, pytest.raises(InputError, match=message) as caught:
        explain(**{"classifier": LINEAR, "images": WHITE} | options)
    assert not compiled and "\n" not in str(caught.value)


def test_a_class_against_itself_is_refused():
    with pytest.raises(InputError, match="image 1 is to explain class 0 against itself: give another contrast"):
        explain(images=IMAGES[:2], labels=[1, 0], contrast=[0, 0])


def test_a_classifier_that_returns_nan_is_refused():
    with pytest.raises(InputError, match="classifier returned NaN or infinity .* check its weights"):
        explain(oracles.nan(), WHITE)
