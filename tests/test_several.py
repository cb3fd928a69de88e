"""Masks that keep clear of each other, on a classifier with two reasons, and how far seeds agree."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from synthetic import explanation

import evomask
from evomask import niches, operators, stability
from evomask.measures.certainty import Precision, Tally
from evomask.niches import overlaps, several
from evomask.report import plots, sheets
from evomask.search import fitness
from evomask.search.config import Config
from evomask.types import InputError, Status

KEY = jax.random.key(0)
SIDE = 12
BOXES = ((2, 2, 4, 2), (6, 8, 2, 4))  # either of them will do
EITHER = oracles.BoxOracle(boxes=BOXES, rule="any")
LEFT, RIGHT = (oracles.box_mask(box, SIDE, SIDE) for box in BOXES)
IMAGE = oracles.lit(BOXES, SIDE, SIDE, 1)[None]
CONFIG = Config(
    stages=(evomask.Stage("only", population=10, genes=4, radii=(1, 2), generations=40),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)


@functools.cache
def reasons():
    return several(EITHER, IMAGE, 3, key=KEY, config=CONFIG, demand="sufficient", disjoint=True)


def test_disjoint_sufficient_masks_are_the_two_reasons_and_then_there_is_none():
    found = reasons()
    assert found.demanded == ("sufficient",) * 3
    first, second, third = found.explanations
    assert not (first.mask & second.mask).any() and not ((first.mask | second.mask) & third.mask).any()
    assert found.shared.tolist() == [[0, 0, 0]] and found.iou[0, 0, 1] == 0 and found.iou[0, 0, 0] == 1
    for one in (first, second):
        assert one.sufficient[0] and not one.necessary[0] and one.status[0] == Status.SUFFICIENT
    assert {bool((one.mask[0] & LEFT).sum() >= 5) for one in (first, second)} == {True, False}
    assert {bool((one.mask[0] & RIGHT).sum() >= 5) for one in (first, second)} == {True, False}
    # Eight pixels of evidence in each box, of which five are needed: three are left at most, and the third search says
    # so.
    assert third.status[0] == Status.NOT_SUFFICIENT and third.missing.keeps_confidence[0] > 0
    assert first.evaluations[0] == CONFIG.evaluations / 2  # the inverse is not looked at


def test_the_first_mask_is_that_of_explain():
    alone = evomask.explain(EITHER, IMAGE, key=KEY, config=CONFIG)
    found = several(EITHER, IMAGE, 1, key=KEY, config=CONFIG)
    jax.tree.map(np.testing.assert_array_equal, found.explanations[0], alone)
    assert found.demanded == ("complete",)


ONE_BOX = oracles.BoxOracle(boxes=((3, 3, 6, 6),))
ONE = oracles.lit((3, 3, 6, 6), SIDE, SIDE, 1)[None]


@functools.cache
def overlapping(weight):
    return several(ONE_BOX, ONE, 2, key=KEY, config=CONFIG, weight=weight)


def test_overlap_costs_and_both_masks_are_complete():
    """More than half of one box is needed, so two masks cannot be disjoint; the dearer the overlap, the less of it."""
    dear, free = overlapping(5.0), overlapping(0.0)
    for found in (dear, free):
        assert found.demanded == ("complete", "complete")
        assert all(one.complete[0] for one in found.explanations)
        jax.tree.map(np.testing.assert_array_equal, found.explanations[0], free.explanations[0])
    assert 0 < dear.shared[0, 1] < free.shared[0, 1]
    first, second = (one.mask for one in dear.explanations)
    assert dear.shared[0, 1] == pytest.approx((first & second).sum() / second.sum())
    assert dear.iou[0, 0, 1] == pytest.approx((first & second).sum() / (first | second).sum())
    # The search counts shared pixels 1 + weight times; the verified area counts every pixel once.
    last = dear.explanations[1]
    assert last.history.area[0, -1] == pytest.approx(last.area[0] + 5 * (first & second).mean(), rel=1e-5)


def test_where_the_first_mask_is_complete_a_disjoint_one_lacks_what_it_lacks():
    found = several(ONE_BOX, ONE, 2, key=KEY, config=CONFIG, disjoint=True)
    assert found.demanded == ("complete", "sufficient")
    first, second = found.explanations
    assert first.complete[0] and not second.sufficient[0]
    assert found.shared[0, 1] == 0 and second.missing.keeps_confidence[0] > 0


def test_overlaps_by_hand():
    masks = np.zeros((1, 3, 1, 6), bool)
    masks[0, 0, 0, :3] = masks[0, 1, 0, 2:4] = masks[0, 2, 0, 1:6] = True
    iou, shared = overlaps(masks)
    np.testing.assert_allclose(shared, [[0, 1 / 2, 3 / 5]], rtol=1e-6)
    np.testing.assert_allclose(iou, [[[1, 1 / 4, 2 / 6], [1 / 4, 1, 2 / 5], [2 / 6, 2 / 5, 1]]], rtol=1e-6)
    assert overlaps(np.zeros((1, 2, 1, 2), bool))[1].tolist() == [[0, 0]]


def test_a_wish_is_minus_what_is_missing_and_needs_what_its_constraint_needs():
    whole = fitness.smallest_complete()
    softened, without = fitness.demanded(whole, "sufficient", 0.5), fitness.demanded(whole, "sufficient")
    assert softened.needs_inverse and not without.needs_inverse and not without.needs_features
    one = jnp.ones(1)
    evaluation = evomask.Evaluation(0.25 * one, one, 3 * one, one, 2 * one, one, one)
    target = evomask.Target(jnp.zeros((1, 1, 1)), jnp.int32(0), jnp.float32(1.0))
    np.testing.assert_allclose(softened.objective(evaluation, target), -0.25 - 0.5 * (2 + fitness.SLACK), rtol=1e-6)
    assert (
        whole.violation(evaluation, target)
        > 0
        == softened.violation(evaluation, target)
        == without.violation(evaluation, target)
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(num=0), "num is 0: give a whole number of 1 or more"),
        (dict(num=2, demand="small"), "demand is 'small': give one of complete, sufficient, necessary"),
        (dict(num=2, weight=-1.0), "weight is -1.0 and wish is 0.02: give numbers from 0"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        several(EITHER, IMAGE, key=KEY, config=CONFIG, **options)


# ---------------------------------------------------------------------------------------------------------- stability


def seeds():
    """Three explanations of two images that differ as said below."""
    base = jax.tree.map(lambda field: np.stack([field, field]), explanation(8))
    masks = np.zeros((3, 2, 8, 8), bool)
    masks[:, 0, 0, :4] = True  # image 0: always the same
    masks[0, 1, :2], masks[1, 1, 1:3], masks[2, 1, :4] = True, True, True
    scores = masks * np.array([0.5, 0.7, 1.0], np.float32)[:, None, None, None]
    areas = masks.mean((2, 3), dtype=np.float32)
    return [
        dataclasses.replace(base, mask=mask, score=score, area=area, cp=0.5 / area, complete=np.array([True, seed > 0]))
        for seed, (mask, score, area) in enumerate(zip(masks, scores, areas))
    ]


def test_stability_by_hand():
    found = stability.stability(seeds())
    np.testing.assert_array_equal(found.iou[0], 1)
    np.testing.assert_allclose(found.iou[1], [[1, 1 / 3, 1 / 2], [1 / 3, 1, 1 / 2], [1 / 2, 1 / 2, 1]], rtol=1e-6)
    np.testing.assert_allclose(found.mean_iou, [1, 4 / 9], rtol=1e-6)
    np.testing.assert_allclose(found.area, [[1 / 16] * 3, [1 / 4, 1 / 4, 1 / 2]])
    np.testing.assert_allclose(found.kept[1, :, 0], [2 / 3, 1, 2 / 3, 1 / 3, 0, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(found.score[0, 0, 0], (0.5 + 0.7 + 1) / 3, rtol=1e-6)
    np.testing.assert_allclose(found.score_std[0, 0, 0], np.std([0.5, 0.7, 1], ddof=1), rtol=1e-6)
    second = stability.facts(jax.tree.map(lambda x: x[1], found))
    assert (second["seeds"], second["complete"], second["least_iou"]) == (3, 2, pytest.approx(1 / 3))
    assert second["area"] == {
        "mean": pytest.approx(1 / 3),
        "std": pytest.approx(np.std([0.25, 0.25, 0.5], ddof=1)),
        "least": 0.25,
        "greatest": 0.5,
    }


def test_stability_of_an_empty_mask_has_no_cp():
    empty = [dataclasses.replace(one, cp=np.full(2, np.inf, np.float32)) for one in seeds()]
    assert stability.facts(jax.tree.map(lambda x: x[0], stability.stability(empty)))["cp"]["mean"] is None


def test_two_masks_that_hold_and_share_little_are_several_reasons():
    first, second, third = seeds()
    found = stability.stability([first, second, third])
    assert found.holds.tolist() == [[True] * 3, [False, True, True]]
    assert found.least_shared.tolist() == [1, 0.5] and not found.several_reasons.any()
    allowed = dataclasses.replace(first, complete=np.array([True, True]))
    found = stability.stability([allowed, second, third])
    assert found.several_reasons.tolist() == [False, True]
    alone, other = (jax.tree.map(lambda x, row=row: x[row], found) for row in (0, 1))
    assert stability.sentence(alone) is None and stability.sentence(other) == (
        "two masks that both hold share 33 % of their pixels: there are several reasons; several=2 shows them"
    )
    facts = stability.facts(other)
    assert (facts["holds"], facts["several_reasons"], facts["least_shared"]) == (3, True, pytest.approx(1 / 3))
    assert "several reasons" in figure_words(plots.stability_figure(np.zeros((8, 8, 3)), other))
    assert "several reasons" not in figure_words(plots.stability_figure(np.zeros((8, 8, 3)), alone))


def figure_words(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_where_showings_are_drawn_the_precision_says_which_masks_hold():
    nothing = Tally(*np.zeros((4, 2, 0), int))
    held = Precision(Tally(*np.array([[200, 150]] * 4)), nothing, np.ones(2, int), np.zeros(2, bool), 200, 0)
    found = dataclasses.replace(seeds()[1], precision=held)
    assert found.met.tolist() == [True, True] and found.holds.tolist() == [True, False]


def test_disjoint_sufficient_masks_are_several_reasons():
    found = jax.tree.map(lambda x: np.asarray(x)[0], reasons())
    assert found.several_reasons and found.least_shared == 0
    assert niches.sentence(found) == "two masks that both hold share 0 % of their pixels: there are several reasons"
    assert sheets.several(found).numbers["holds"] == [True, True, False]


def test_seeds_are_keys_of_their_own():
    found, runs = stability.across_seeds(ONE_BOX, ONE, 2, key=KEY, config=CONFIG)
    again = evomask.explain(ONE_BOX, ONE, key=jax.random.fold_in(KEY, 1), config=CONFIG)
    jax.tree.map(np.testing.assert_array_equal, runs[1], again)
    assert found.complete.all() and (runs[0].mask != runs[1].mask).any()
    assert found.mean_iou[0] == pytest.approx(found.iou[0, 0, 1])


def test_stability_refuses_what_cannot_be_compared():
    first, *_ = seeds()
    with pytest.raises(InputError, match="two seeds or more, got 1"):
        stability.stability([first])
    with pytest.raises(InputError, match="different images or classes"):
        stability.stability([first, dataclasses.replace(first, label=first.label + 1)])
    with pytest.raises(InputError, match="num is 1: give a whole number of 2 or more"):
        stability.across_seeds(ONE_BOX, ONE, 1, key=KEY)
