"""Metrics and cuts: values known by construction, reference implementations' values, and maps that say nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from evomask import baselines
from evomask.measures import metrics, thresholding
from evomask.measures.thresholding import Reason

BOX = (2, 4, 4, 4)
SIDE = 12
INSIDE = oracles.box_mask(BOX, SIDE, SIDE)
IMAGES = jnp.asarray(oracles.lit(BOX, SIDE, SIDE))[None]
BLANKS = jnp.zeros_like(IMAGES)
LABELS = jnp.array([1])
ORACLE = oracles.BoxOracle(boxes=(BOX,))
AREA = 16 / SIDE**2
SIGMOID = 1 / (1 + np.exp(-20 * (np.arange(17) / 16 - 0.5)))  # probability of class 1 with n lit pixels in the box


def judge(mask, classifier=ORACLE, label=1):
    return metrics.judge(classifier, IMAGES, jnp.array([label]), jnp.asarray(mask)[None], BLANKS)


def first_pixels(num):
    """The first `num` pixels of the box, row by row."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[tuple(np.argwhere(INSIDE)[:num].T)] = True
    return mask


# ----------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    "kept, sufficient, necessary",
    [(16, True, True), (12, True, True), (9, False, True), (8, False, True), (7, False, False), (0, False, False)],
)
def test_verdict_of_parts_of_the_box(kept, sufficient, necessary):
    # Label 1 needs more than 8 of 16 pixels, and 90 % of the confidence 10 of them (sigmoid(20 * (10/16 - 1/2)) =
    # 0.924).
    verdict = judge(first_pixels(kept))
    np.testing.assert_allclose(verdict.confidence[0], SIGMOID[kept], rtol=1e-5)
    np.testing.assert_allclose(verdict.inverse_confidence[0], SIGMOID[16 - kept], rtol=1e-5)
    np.testing.assert_allclose(verdict.whole[0], SIGMOID[16], rtol=1e-5)
    np.testing.assert_allclose(verdict.margin[0], 20 * (kept / 16 - 0.5), atol=1e-4)
    np.testing.assert_allclose(verdict.blank_confidence[0], SIGMOID[0], rtol=1e-5)
    np.testing.assert_allclose(verdict.blank_margin[0], -10, atol=1e-4)
    assert bool(metrics.sufficient(verdict)[0]) == sufficient
    assert bool(metrics.necessary(verdict)[0]) == necessary
    assert bool(metrics.complete(verdict)[0]) == (sufficient and necessary)
    area = kept / SIDE**2 if sufficient and necessary else 1.0
    np.testing.assert_allclose(metrics.complete_area(verdict)[0], area, rtol=1e-6)


def test_ratio_asks_for_confidence():
    verdict = judge(first_pixels(9))  # sigmoid(1.25) = 0.777
    assert bool(metrics.sufficient(verdict, 0.0)[0]) and bool(metrics.sufficient(verdict, 0.77)[0])
    assert not bool(metrics.sufficient(verdict, 0.79)[0])


def test_redundant_evidence_is_sufficient_but_not_necessary_and_the_conjunction_the_other_way_round():
    boxes = ((2, 4, 4, 4), (8, 0, 4, 4))
    image = jnp.asarray(oracles.lit(boxes, SIDE, SIDE))[None]
    one = jnp.asarray(oracles.box_mask(boxes[0], SIDE, SIDE))[None]
    found = {}
    for rule in ("any", "all"):
        verdict = metrics.judge(oracles.BoxOracle(boxes=boxes, rule=rule), image, LABELS, one, BLANKS)
        found[rule] = (bool(metrics.sufficient(verdict)[0]), bool(metrics.necessary(verdict)[0]))
    assert found == {"any": (True, False), "all": (False, True)}


def test_constant_classifier_is_sufficient_and_never_necessary():
    verdict = judge(np.zeros((SIDE, SIDE), bool), oracles.constant())
    assert bool(metrics.sufficient(verdict)[0]) and not bool(metrics.necessary(verdict)[0])
    assert float(metrics.complete_area(verdict)[0]) == 1.0
    assert np.isinf(metrics.cp(verdict.confidence, verdict.area)[0])
    np.testing.assert_allclose(metrics.cp_floored(verdict.confidence, verdict.area)[0], 20 * verdict.confidence[0])


def test_nan_classifier_is_neither():
    verdict = judge(INSIDE, oracles.nan())
    assert not bool(metrics.sufficient(verdict)[0]) and not bool(metrics.necessary(verdict)[0])
    assert float(metrics.complete_area(verdict)[0]) == 1.0


def test_drop_and_increase():
    whole, masked = jnp.array([0.8, 0.5]), jnp.array([0.6, 0.7])
    np.testing.assert_allclose(metrics.confidence_drop(whole, masked), [0.25, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(metrics.confidence_increase(whole, masked), [0.0, 1.0])


def test_iou_precision_recall():
    truth, mask = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    truth[:, :2], mask[0, 1:4] = True, True  # 8 pixels; 12 pixels of which 4 shared, and an empty mask
    truth, mask = jnp.asarray(truth), jnp.asarray(mask)
    np.testing.assert_allclose(metrics.iou(mask, truth), [4 / 16, 0.0])
    np.testing.assert_allclose(metrics.precision(mask, truth), [4 / 12, 0.0])
    np.testing.assert_allclose(metrics.recall(mask, truth), [4 / 8, 0.0])
    assert np.isnan(metrics.recall(mask, jnp.zeros_like(truth))).all()
    assert float(metrics.iou(mask[1], mask[1])) == 1.0


# ------------------------------------------------------------------------------------------------------------ cuts


def sweep(scores, classifier=ORACLE, steps=SIDE**2):
    return thresholding.sweep(classifier, IMAGES, LABELS, jnp.asarray(scores)[None], BLANKS, steps=steps)


def test_cuts_of_a_perfect_map_are_the_smallest_possible():
    scores = np.where(INSIDE, 1.0, -1.0).astype(np.float32)
    seen = sweep(scores)
    keeps = thresholding.smallest_sufficient(seen)
    complete = thresholding.smallest_complete(seen)
    best = thresholding.best_cp(seen)
    cp = SIGMOID[9:] / (np.arange(9, 17) / SIDE**2)
    for cut, pixels in ((keeps, 9), (complete, 10), (best, 9 + int(cp.argmax()))):  # sigmoid(2.5) = 0.924 of 1
        np.testing.assert_allclose(cut.area, pixels / SIDE**2, rtol=1e-6)
        assert cut.mask[0].sum() == pixels and not (cut.mask[0] & ~INSIDE).any()
        assert cut.reason[0] == Reason.FOUND
    assert thresholding.cost(SIDE**2).forward == 2 * SIDE**2


def test_coarse_sweep_rounds_up_to_its_next_prefix():
    scores = np.where(INSIDE, 1.0, 0.0).astype(np.float32)
    cut = thresholding.smallest_sufficient(sweep(scores, steps=9))  # prefixes of 16, 32, ... pixels
    np.testing.assert_array_equal(cut.mask[0], INSIDE)


def test_inverted_map_keeps_the_class_only_at_the_end():
    scores = np.where(INSIDE, -5.0, -1.0).astype(np.float32)  # all negative, and wrong
    cut = thresholding.smallest_sufficient(sweep(scores))
    np.testing.assert_allclose(cut.area, (SIDE**2 - 16 + 9) / SIDE**2, rtol=1e-6)
    assert cut.reason[0] == Reason.FOUND


def test_all_negative_map_cuts_like_its_shifted_self():
    scores = oracles.heat_maps(1, SIDE)[0]
    cuts = [thresholding.smallest_complete(sweep(s)) for s in (scores, scores - 100, scores * 3)]
    assert (scores - 100).max() < 0
    for cut in cuts[1:]:
        np.testing.assert_array_equal(cut.mask, cuts[0].mask)


def test_constant_map_gives_pixels_drawn_at_random_and_says_so():
    constant = np.full((SIDE, SIDE), 0.3, np.float32)
    cut = thresholding.smallest_sufficient(sweep(constant))
    assert cut.reason[0] == Reason.CONSTANT
    assert np.sum(cut.mask[0] & INSIDE) == 9  # the prefix that ends with the ninth pixel of the box
    last = np.asarray(thresholding.places(jnp.asarray(constant)))[np.asarray(cut.mask[0])].argmax()
    assert INSIDE[np.asarray(cut.mask[0])][last]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_map_that_is_not_finite_gives_no_mask_and_says_so(bad):
    scores = np.where(INSIDE, 1.0, 0.0).astype(np.float32)
    scores[0, 0] = bad
    seen = sweep(scores)
    for cut in (
        thresholding.smallest_sufficient(seen),
        thresholding.smallest_complete(seen),
        thresholding.best_cp(seen),
        thresholding.fixed_area(seen.score, 0.1),
        thresholding.own_mask(seen.score),
    ):
        assert cut.reason[0] == Reason.NOT_FINITE and float(cut.area[0]) == 1.0 and bool(cut.mask.all())


@pytest.mark.parametrize("classifier, label", [(ORACLE, 0), (oracles.nan(), 1)])
def test_no_prefix_found(classifier, label):
    # For label 0 the whole image is not of the class, but dark prefixes are: ask for completeness, which none has.
    seen = thresholding.sweep(classifier, IMAGES, jnp.array([label]), jnp.asarray(INSIDE, jnp.float32)[None], BLANKS)
    cut = thresholding.smallest_complete(seen)
    if label:
        assert cut.reason[0] == Reason.NOT_FOUND and float(cut.area[0]) == 1.0
    else:  # 2 to 7 lit pixels kept, the rest in the inverse: label 0 kept, and lost by the inverse
        assert cut.reason[0] == Reason.FOUND and bool(
            metrics.judge(classifier, IMAGES, jnp.array([label]), cut.mask, BLANKS).inverse_margin[0] < 0
        )


def test_constant_classifier_has_no_complete_prefix():
    seen = sweep(oracles.heat_maps(1, SIDE)[0], oracles.constant())
    assert thresholding.smallest_sufficient(seen).mask.sum() == 1
    assert thresholding.smallest_complete(seen).reason[0] == Reason.NOT_FOUND


def test_areas_without_evaluations():
    scores = jnp.asarray(oracles.heat_maps(2, SIDE))
    for fraction in (0.05, 0.1, 0.2):
        cut = thresholding.fixed_area(scores, fraction)
        assert cut.mask.sum((1, 2)).tolist() == [round(fraction * SIDE**2)] * 2
    masks = jnp.asarray(np.stack([first_pixels(3), first_pixels(7)]))
    equal = thresholding.equal_area(scores, masks)
    assert equal.mask.sum((1, 2)).tolist() == [3, 7]
    for b in range(2):
        kept = np.asarray(equal.mask[b])
        assert np.asarray(scores[b])[kept].min() > np.asarray(scores[b])[~kept].max()
    np.testing.assert_array_equal(thresholding.own_mask(masks.astype(jnp.float32)).mask, masks)


@pytest.mark.parametrize(
    "change, problem",
    [
        (dict(steps=0), "steps"),
        (dict(steps=SIDE**2 + 1), "steps"),
        (dict(scores=jnp.zeros((1, 3, 3))), "scores"),
        (dict(labels=jnp.array([1, 1])), "labels"),
    ],
)
def test_sweep_refuses_bad_input(change, problem):
    given = dict(images=IMAGES, labels=LABELS, scores=jnp.zeros((1, SIDE, SIDE)), blanks=BLANKS, steps=4) | change
    with pytest.raises(ValueError, match=problem):
        thresholding.sweep(ORACLE, **given)
    with pytest.raises(ValueError, match="fraction"):
        thresholding.fixed_area(given["scores"], 0.0)


def test_sweep_compiles_once():
    before = thresholding._sweep._cache_size()
    for seed in range(3):
        sweep(oracles.heat_maps(1, SIDE, seed)[0], steps=7)
    assert thresholding._sweep._cache_size() == before + 1


def test_equal_scores_are_in_random_order_and_the_same_for_every_map():
    first, again, other = (thresholding.places(jnp.zeros((16, 16)), order) for order in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert 0 < ((first < 64) & (other < 64)).sum() < 64
    raised = jnp.zeros((16, 16)).at[3, 5].set(1.0)
    assert thresholding.places(raised)[3, 5] == 0
    rows = np.asarray(first < 64).sum(1)  # four of sixteen in each row; 16, 16, 16, 16, 0 ... in pixel order
    assert rows.max() < 4 + 4 * (16 * 0.25 * 0.75) ** 0.5


# --------------------------------------------------------------------------------------------- insertion, deletion


def test_auc_of_a_perfect_and_of_an_inverted_map():
    perfect = jnp.where(INSIDE, 1.0, 0.0)[None]
    steps = SIDE**2
    rise = np.r_[SIGMOID, np.full(steps - 16, SIGMOID[16])]  # probability with 0, 1, ... pixels put back
    fall = np.r_[SIGMOID[::-1], np.full(steps - 16, SIGMOID[0])]
    area = lambda curve: (curve.sum() - 0.5 * (curve[0] + curve[-1])) / steps
    given = (ORACLE, IMAGES, LABELS, perfect, BLANKS)
    np.testing.assert_allclose(metrics.insertion_auc(*given, steps=steps)[0], area(rise), rtol=1e-5)
    np.testing.assert_allclose(metrics.deletion_auc(*given, steps=steps)[0], area(fall), rtol=1e-5)
    worst = metrics.deletion_auc(ORACLE, IMAGES, LABELS, -perfect, BLANKS, steps=steps)[0]
    np.testing.assert_allclose(worst, area(rise[::-1]), rtol=1e-5)


def test_curves_of_equal_scores_are_the_mean_over_random_orders():
    """In the order of the pixels, row by row, a map that says nothing would be credited with the picture's rows."""
    rng, steps = np.random.default_rng(0), SIDE**2
    area = lambda order: SIGMOID[np.r_[0, np.cumsum(order)]][:-1].mean() + (SIGMOID[16] - SIGMOID[0]) / (2 * steps)
    inside = np.asarray(INSIDE).reshape(-1)
    drawn = np.array([area(rng.permutation(inside)) for _ in range(400)])
    bound = 3 * drawn.std() / metrics.ORDERS**0.5
    nothing = jnp.zeros((1, SIDE, SIDE))
    [found] = metrics.insertion_auc(ORACLE, IMAGES, LABELS, nothing, BLANKS, steps=steps)
    assert abs(found - drawn.mean()) < bound < abs(area(inside) - drawn.mean())
    assert metrics.orders(nothing) == metrics.ORDERS and metrics.orders(jnp.arange(4.0).reshape(1, 2, 2)) == 1


def test_auc_of_a_map_that_is_not_finite_is_nan_and_a_constant_classifier_gives_its_confidence():
    given = (IMAGES, LABELS)
    assert np.isnan(metrics.deletion_auc(ORACLE, *given, jnp.full((1, SIDE, SIDE), jnp.nan), BLANKS, steps=4)).all()
    found = metrics.deletion_auc(oracles.constant(), *given, jnp.zeros((1, SIDE, SIDE)), BLANKS, steps=4)
    np.testing.assert_allclose(found, jax.nn.softmax(jnp.array([0.0, 10.0]))[1], rtol=1e-6)


# -------------------------------------------------- values of Captum, Quantus, scikit-image and SciPy (references)

SCORES = jnp.asarray(oracles.heat_maps())
TRUTH = np.zeros((2, 16, 16), bool)
TRUTH[:, 8:15, 6:12] = True


def test_curves_equal_the_reference():
    images = jnp.asarray(oracles.conv_images())
    given = (oracles.conv(), images, jnp.array([0, 2]), SCORES, jnp.zeros_like(images))
    np.testing.assert_allclose(metrics.deletion_auc(*given, steps=16), [0.205716, 0.242803], atol=1e-5)
    np.testing.assert_allclose(metrics.insertion_auc(*given, steps=16), [0.19662, 0.245495], atol=1e-5)


def test_mu_fidelity_equals_quantus():
    np.random.seed(7)
    order = np.stack([np.random.choice(256, 40, replace=False) for _ in range(50)])
    subsets = np.zeros((50, 256), bool)
    np.put_along_axis(subsets, order, True, axis=1)
    images = jnp.asarray(oracles.conv_images(channels=1))
    found = metrics.mu_fidelity(
        oracles.conv(channels=1),
        images,
        jnp.array([0, 2]),
        SCORES,
        jnp.zeros_like(images),
        jnp.asarray(subsets).reshape(50, 16, 16),
    )
    np.testing.assert_allclose(found, [0.071751, -0.037945], atol=1e-5)


def test_maps_equal_quantus():
    positive, truth = jnp.abs(SCORES), jnp.asarray(TRUTH)
    np.testing.assert_allclose(metrics.gini(SCORES), [0.39925, 0.394624], atol=1e-5)
    np.testing.assert_allclose(metrics.pointing_game(positive, truth), [1.0, 0.0])
    np.testing.assert_allclose(metrics.energy_in_object(positive, truth), [0.166447, 0.180388], atol=1e-5)
    top = thresholding.fixed_area(positive, 26 / 256).mask
    np.testing.assert_allclose(metrics.precision(top, truth), [0.153846, 0.192308], atol=1e-5)


def test_sensitivity_equals_captum_and_quantus():
    moved = np.stack([np.asarray(SCORES) + 0.1 * oracles.heat_maps(seed=seed) for seed in range(3, 8)])
    np.testing.assert_allclose(metrics.sensitivity(SCORES, jnp.asarray(moved)), [0.101577, 0.099916], atol=1e-5)


def test_ssim_and_rank_correlation_equal_scikit_image_and_scipy():
    low, high = SCORES.min((1, 2), keepdims=True), SCORES.max((1, 2), keepdims=True)
    one, two = (SCORES - low) / (high - low)
    assert float(metrics.ssim(one, two)) == pytest.approx(0.084367, abs=1e-5)
    assert float(metrics.ssim(one, one)) == pytest.approx(1.0, abs=1e-6)
    rough = jnp.round(SCORES)
    assert float(metrics.rank_correlation(rough[0], rough[1])) == pytest.approx(0.051306, abs=1e-5)
    with pytest.raises(ValueError, match="11 x 11"):
        metrics.ssim(jnp.zeros((8, 8)), jnp.zeros((8, 8)))


# ------------------------------------------------------------------------------------------------ oracles and maps


def test_mu_fidelity_of_the_true_contributions_is_one_and_of_nothing_is_zero():
    images = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))
    net = oracles.linear(jax.random.key(1), 8, 8, num_classes=2)
    small = oracles.LinearOracle(net.weights * 1e-3, net.bias)  # softmax is linear for small logits
    contribution = (images[0] * (small.weights[:, 0] - small.weights[:, 1]).reshape(8, 8, 3)).sum(-1)[None]
    subsets = metrics.random_subsets(jax.random.key(2), 64, (8, 8), 20)
    assert subsets.sum((1, 2)).tolist() == [20] * 64
    given = (images, jnp.array([0]))
    fidelity = lambda net, score: float(metrics.mu_fidelity(net, *given, score, jnp.zeros_like(images), subsets)[0])
    assert fidelity(small, contribution) == pytest.approx(1.0, abs=1e-3)
    assert fidelity(small, -contribution) == pytest.approx(-1.0, abs=1e-3)
    assert fidelity(small, jnp.full((1, 8, 8), 0.3)) == 0.0
    assert fidelity(oracles.constant(), contribution) == 0.0
    assert np.isnan(fidelity(small, jnp.full((1, 8, 8), jnp.nan)))


def test_pointing_game_tolerance_ties_and_failures():
    scores = jnp.zeros((4, 16, 16)).at[0, 9, 9].set(1.0).at[1, 7, 3].set(1.0).at[3].set(jnp.nan)
    truth = jnp.broadcast_to(jnp.asarray(oracles.box_mask((8, 8, 4, 4), 16, 16)), scores.shape)
    # Pixel (7, 3) is 1 row and 5 columns from the object's corner (8, 8): 5.1 pixels away.
    np.testing.assert_allclose(metrics.pointing_game(scores, truth), [1.0, 0.0, 16 / 256, np.nan])
    assert metrics.pointing_game(scores, truth, 5)[1] == 0.0
    assert metrics.pointing_game(scores, truth, 6)[1] == 1.0


def test_energy_and_sparsity_of_maps_that_say_nothing():
    flat = jnp.stack([jnp.zeros((4, 4)), jnp.full((4, 4), 2.0), jnp.full((4, 4), -2.0), jnp.full((4, 4), jnp.nan)])
    truth = jnp.zeros((4, 4, 4), bool).at[:, :2].set(True)
    np.testing.assert_allclose(metrics.energy_in_object(flat, truth), [0.0, 0.5, 0.0, np.nan])
    np.testing.assert_allclose(metrics.gini(flat), [0.0, 0.0, 0.0, np.nan], atol=1e-7)
    assert float(metrics.rank_correlation(flat[1], SCORES[0, :4, :4])) == 0.0
    assert np.isnan(metrics.rank_correlation(flat[3], flat[1]))


def test_stability():
    masks = jnp.asarray(np.stack([first_pixels(4), first_pixels(8), first_pixels(8)]))
    np.testing.assert_allclose(metrics.mask_stability(masks), (0.5 + 0.5 + 1.0) / 3)
    scores = jnp.stack([SCORES, 2 * SCORES, -SCORES])
    np.testing.assert_allclose(metrics.score_stability(scores), [-1 / 3, -1 / 3], atol=1e-5)
    with pytest.raises(ValueError, match="two seeds"):
        metrics.score_stability(scores[:1])


def test_max_sensitivity_of_a_linear_map_is_bounded_by_the_radius():
    images = jnp.full((2, 4, 4, 1), 0.5)
    double = lambda x: 2 * x.mean(-1)
    found = metrics.max_sensitivity(double, images, key=jax.random.key(0), radius=0.1, samples=4)
    # |e| / |x| with every pixel of e below 0.1 and of x equal to 0.5; uniform noise has a root mean square of r / sqrt
    # 3.
    assert (found <= 0.2).all() and (found >= 0.2 / 3**0.5).all()
    still = metrics.max_sensitivity(lambda x: jnp.ones(x.shape[:3]), images, key=jax.random.key(0), samples=2)
    np.testing.assert_array_equal(still, [0.0, 0.0])


def test_randomisation_check_tells_a_gradient_from_an_edge_detector():
    net = oracles.linear(jax.random.key(0), 16, 16, num_classes=2)
    images = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))

    def gradient(classifier, images):
        explain = baselines.IntegratedGradients(steps=4)
        return explain(classifier, images, [0, 1], key=jax.random.key(0), budget=8)

    edges = lambda classifier, images: jnp.abs(jnp.diff(images.mean(-1), axis=1, prepend=0.0))
    rank, similar = metrics.randomisation_check(gradient, net, images, key=jax.random.key(2))
    # 256 pixels: chance has a standard deviation of 1/16.
    assert (jnp.abs(rank) < 4 / 16).all() and (jnp.abs(similar) < 0.3).all()
    rank, similar = metrics.randomisation_check(edges, net, images, key=jax.random.key(2))
    np.testing.assert_allclose(rank, [1.0, 1.0], atol=1e-5)
    np.testing.assert_allclose(similar, [1.0, 1.0], atol=1e-5)


def test_shuffled_weights_are_the_same_weights_elsewhere():
    net = oracles.linear(jax.random.key(0), 4, 4)
    shuffled = metrics.shuffle_weights(jax.random.key(1), net)
    np.testing.assert_array_equal(np.sort(shuffled.weights, axis=None), np.sort(net.weights, axis=None))
    assert float(jnp.abs(shuffled.weights - net.weights).max()) > 0.1
    with pytest.raises(ValueError, match="no weights"):
        metrics.shuffle_weights(jax.random.key(1), ORACLE)
