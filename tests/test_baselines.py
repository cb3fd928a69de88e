"""Every registered baseline keeps one contract, finds evidence that is known, and equals its reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from evomask import fills
from evomask.baselines import BASELINES, base, gradcam, gradients, greedy, lima, occlusion, phasewin, rise, sobol
from evomask.baselines.hsic import hsic
from evomask.baselines.lime import segment
from evomask.measures.budget import Account, Bill, BudgetExceeded, Counted, Spent, UnequalBudgets, bare, common_budget
from evomask.types import record, static

SIDE, BUDGET = 16, 65
BOX = (2, 8, 4, 4)
INSIDE = oracles.box_mask(BOX, SIDE, SIDE)
ORACLE = oracles.BoxOracle(boxes=(BOX,), sharpness=8.0)
LIT = oracles.lit(BOX, SIDE, SIDE, background=0.2)
NOISE = np.random.default_rng(0).uniform(size=LIT.shape).astype(np.float32)
IMAGES = np.stack([LIT, np.where(INSIDE[..., None], LIT, NOISE)])
LABELS = np.array([1, 1])
KEY = jax.random.key(0)
CONTROLS = ("random_patches", "random_pixels", "centred_square")
BLACK_BOX = ("occlusion", "rise", "hsic", "sobol", "lime", "shap", "kernelshap")  # with a score that has a size
ORDERS = ("greedy_regions", "lima", "phasewin")  # of regions
BLIND = ("random_pixels", "centred_square")  # look at neither the image nor the classifier
every = pytest.mark.parametrize("name", BASELINES)


@functools.cache
def explain(name, counted=False, budget=BUDGET):
    """One run per method serves most of the tests."""
    classifier = Counted(ORACLE, budget)
    scores = BASELINES[name]()(classifier, IMAGES, LABELS, key=KEY, budget=budget)
    return (scores, classifier.spent) if counted else scores


# ---------------------------------------------------------------------------------------------------- the contract


@every
def test_shape_dtype_finite(name):
    scores = explain(name)
    assert scores.shape == (2, SIDE, SIDE) and scores.dtype in (jnp.float32, bool)  # a heat map, or masks
    assert bool(jnp.isfinite(scores).all())


@every
def test_same_key_same_bits_and_nothing_is_compiled_again(name):
    first = explain(name)
    compiled = base._explain._cache_size()
    again = BASELINES[name]()(ORACLE, IMAGES, LABELS, key=KEY, budget=BUDGET)
    np.testing.assert_array_equal(again, first)
    other = BASELINES[name]()(ORACLE, IMAGES[::-1].copy(), LABELS, key=jax.random.key(1), budget=BUDGET)
    assert base._explain._cache_size() == compiled
    if name in ("rise", "hsic", "sobol", "lime", "kernelshap", "random_patches", "random_pixels"):
        assert bool((other[::-1] != first).any())
    elif name != "shap":  # breaks ties by chance; the noise of SmoothGrad does not matter to the oracle's linear logit
        np.testing.assert_array_equal(other[::-1], first)


@every
def test_image_gets_the_same_score_alone(name):
    alone = BASELINES[name]()(ORACLE, IMAGES[1:], LABELS[1:], key=KEY, budget=BUDGET)
    np.testing.assert_allclose(alone[0], explain(name)[1], atol=1e-5)


@every
def test_cost_is_declared_within_the_budget_and_reported(name):
    declared = BASELINES[name]().cost(IMAGES.shape[1:], BUDGET)
    _, spent = explain(name, counted=True)
    assert len(spent) == 2
    assert declared.total <= BUDGET
    if name in ("shap", *ORDERS):  # nothing is left to split; SLIC found fewer regions
        assert all(2 <= one.total <= declared.total for one in spent)
    else:
        assert spent == [declared, declared]


@every
@pytest.mark.parametrize("name_of_none", ["budget", "images", "range", "labels", "class", "key", "shape"])
def test_bad_input_is_named(name, name_of_none):
    good = dict(images=IMAGES, labels=LABELS, key=KEY, budget=BUDGET)
    change, problem = {
        "budget": (dict(budget=0), "budget is 0: give a whole number of 1 or more"),
        "images": (dict(images=IMAGES[0]), r"images are float32\[16, 16, 3\]"),
        "range": (dict(images=IMAGES * 255), "images range from"),
        "labels": (dict(labels=LABELS[:1]), "labels are"),
        "class": (dict(labels=np.array([1, 2])), "classes from 0 to 1"),
        "key": (dict(key=-1), "jax.random.key"),
        "shape": (dict(images=np.full((2, SIDE, SIDE, 3), np.nan, np.float32)), "images range from nan"),
    }[name_of_none]
    given = good | change
    with pytest.raises((ValueError, TypeError), match=problem):
        BASELINES[name]()(ORACLE, given.pop("images"), given.pop("labels"), **given)


# -------------------------------------------------------------------------------------------------- known evidence


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in (*CONTROLS, *ORDERS)])
def test_explainers_score_the_box_higher_than_the_rest(name):
    budget = {"sobol": 1200, "kernelshap": 300}.get(name, BUDGET)  # whose cells are few where the budget is small
    for score in np.asarray(explain(name, budget=budget)):
        # Every pixel of the box counts and no other does; blurred maps spill over its border.
        assert score[INSIDE].mean() > score[~INSIDE].mean() + 2 * score[~INSIDE].std()
        assert INSIDE[np.unravel_index(score.argmax(), score.shape)]


def test_centred_square_is_centred_and_random_pixels_are_even():
    square = np.asarray(explain("centred_square")[0])
    np.testing.assert_array_equal(square, square[::-1, ::-1])
    assert square.argmax() == 7 * SIDE + 7 and square[0, 0] == square.min()
    pixels = np.asarray(explain("random_pixels")[0])
    assert 0 <= pixels.min() and pixels.max() < 1 and abs(pixels.mean() - 0.5) < 4 / (12 * SIDE**2) ** 0.5


def test_random_patches_return_the_smallest_complete_square_that_was_drawn():
    from evomask.baselines.controls import random_squares

    _, patch_key = jax.random.split(KEY)
    drawn = np.asarray(random_squares(patch_key, BUDGET // 2 - 1, SIDE, SIDE))
    kept = np.array([(mask & INSIDE).sum() for mask in drawn]) / 16
    sigmoid = lambda brightness: 1 / (1 + np.exp(-8.0 * (brightness - 0.5)))
    complete = (kept > 0.5) & (sigmoid(kept) >= 0.9 * sigmoid(1.0))
    assert complete.any() and not complete.all()
    smallest = min((mask for mask, good in zip(drawn, complete) if good), key=np.sum)
    np.testing.assert_array_equal(explain("random_patches")[0], smallest)


def test_integrated_gradients_add_up():
    net = oracles.linear(KEY, 8, 8)
    images = jnp.asarray(oracles.conv_images(side=8))
    scores = gradients.IntegratedGradients(fill=fills.Constant(0.25))(net, images, [0, 2], key=KEY, budget=128)
    difference = net(images) - net(jnp.full_like(images, 0.25))
    np.testing.assert_allclose(scores.sum((1, 2)), difference[jnp.arange(2), jnp.array([0, 2])], rtol=1e-4)
    weights = net.weights[:, 0].reshape(8, 8, 3)
    np.testing.assert_allclose(scores[0], ((images[0] - 0.25) * weights).sum(-1), atol=1e-4)


def test_smoothgrad_of_a_linear_network_is_its_weights():
    net = oracles.linear(KEY, 8, 8)
    scores = gradients.SmoothGrad()(net, oracles.conv_images(side=8), [0, 2], key=KEY, budget=8)
    np.testing.assert_allclose(scores[1], jnp.abs(net.weights[:, 2]).reshape(8, 8, 3).max(-1), rtol=1e-5)


def test_smoothgrad_averages_over_the_noise():
    explain = lambda noise, key: gradients.SmoothGrad(noise=noise)(
        oracles.conv(), oracles.conv_images(side=8), [0, 2], key=jax.random.key(key), budget=20
    )
    still, one, two = explain(0.0, 0), explain(0.5, 0), explain(0.5, 1)
    logit = lambda images: oracles.conv()(images)[jnp.arange(2), jnp.array([0, 2])].sum()
    plain = jax.jit(jax.grad(logit))(jnp.asarray(oracles.conv_images(side=8)))
    np.testing.assert_allclose(still, jnp.abs(plain).max(-1), atol=1e-6)
    assert float(jnp.abs(one - two).max()) > 1e-3 and float(jnp.abs(one - still).max()) > 1e-3


def test_rise_is_the_weighted_mean_of_its_masks():
    @jax.jit
    def by_definition(images):
        _, grid_key, shift_key = jax.random.split(KEY, 3)
        cells = jax.random.bernoulli(grid_key, 0.5, (BUDGET, 4, 4)).astype(jnp.float32)
        masks = rise.smooth_masks(cells, jax.random.randint(shift_key, (BUDGET, 2), 0, jnp.array([[4, 4]])), 16, 16)
        found = jax.nn.softmax(ORACLE(masks[..., None] * images), axis=-1)[:, 1]
        return (found[:, None, None] * masks).mean(0) / 0.5

    np.testing.assert_allclose(explain("rise")[0], by_definition(jnp.asarray(IMAGES[:1])), atol=1e-5)


def test_occlusion_by_hand():
    image = jnp.zeros((4, 4, 1)).at[0, 0, 0].set(1.0)
    score = occlusion.Occlusion(window=2)(oracles.BoxOracle(boxes=((0, 0, 2, 2),)), image[None], [1], key=KEY, budget=5)
    before, after = (1 / (1 + np.exp(-20 * (x - 0.5))) for x in (0.25, 0.0))
    np.testing.assert_allclose(score[0], np.kron([[before - after, 0], [0, 0]], np.ones((2, 2))), atol=1e-6)


@pytest.mark.parametrize(
    "shape, budget", [((32, 32, 3), 2000), ((224, 224, 3), 2000), ((16, 30, 1), 65), ((8, 8, 1), 2)]
)
def test_occlusion_windows_cover_the_image_within_the_budget(shape, budget):
    rows, cols = occlusion.Occlusion().windows(shape, budget)
    assert rows.any(0).all() and cols.any(0).all()
    assert len(rows) * len(cols) + 1 <= budget
    assert rows.shape[1] == shape[0] and cols.shape[1] == shape[1]


# --------------------------------------------------------------- values of Captum, pytorch-grad-cam, RISE and HSIC
# Printed by experiments/tools/check_references.py: the standard deviation and the score of pixel (5, 6), for two
# images.

REFERENCES = {
    "Grad-CAM": (gradcam.GradCAM(), 3, [0.002008, 0.000919, 0.0, 0.0]),
    "integrated gradients": (gradients.IntegratedGradients(64), 128, [0.022415, 0.010749, 0.001331, -0.0228]),
    "occlusion": (occlusion.Occlusion(4), 60, [0.002925, 0.00582, -0.011068, -0.024167]),
    "Grad-CAM++": (gradcam.GradCAMPlusPlus(), 3, [0.216246, 0.168674, 0.141852, 0.004182]),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_equals_the_reference(name):
    method, budget, expected = REFERENCES[name]
    scores = np.asarray(method(oracles.conv(), oracles.conv_images(), [0, 2], key=jax.random.key(3), budget=budget))
    if name == "Grad-CAM++":  # the reference scales its maps to [0, 1]
        low, high = scores.min((1, 2), keepdims=True), scores.max((1, 2), keepdims=True)
        scores = (scores - low) / (high - low)
    np.testing.assert_allclose([*scores.std((1, 2)), *scores[:, 5, 6]], expected, atol=1e-5)


def test_hsic_estimator_equals_the_matrix_form():
    shown = np.random.default_rng(5).uniform(size=(40, 9)) < 0.5
    outputs = np.random.default_rng(6).uniform(size=40).astype(np.float32)
    expected = [0.110628, 0.359253, 0.281076, 0.212319, 0.248291, 0.095749, 0.127645, 0.416588, 0.005274]
    np.testing.assert_allclose(hsic(jnp.asarray(shown), jnp.asarray(outputs), jnp.float32(0.3)), expected, atol=1e-5)


def test_rise_masks_are_unbiased_and_bilinear():
    cells = jnp.zeros((1, 4, 4)).at[0, 1, 1].set(1.0)
    mask = rise.smooth_masks(cells, jnp.array([[1, 2]]), 16, 16)[0]
    # 5/4 of 16 pixels show 4 cells: cell 1 is centred on pixel 1.5 * 5 - 0.5 = 7, less the shift.
    assert np.unravel_index(np.asarray(mask).argmax(), (16, 16)) == (6, 5)
    assert float(mask.max()) == pytest.approx(1.0)
    np.testing.assert_allclose(mask[6, 5:11], [1.0, 0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-6)
    ones = rise.smooth_masks(jnp.ones((2, 4, 4)), jnp.array([[0, 0], [3, 3]]), 16, 16)
    np.testing.assert_allclose(ones, np.ones((2, 16, 16)), atol=1e-6)


# -------------------------------------------------------------------------------- one colour, constant, NaN, fills


@every
def test_one_colour_image_and_constant_classifier_give_finite_scores(name):
    image = np.full((1, SIDE, SIDE, 3), 0.5, np.float32)
    score = BASELINES[name]()(oracles.constant(), image, [1], key=KEY, budget=BUDGET)
    assert bool(jnp.isfinite(score).all())
    if name not in (*CONTROLS, "rise"):  # nothing depends on any pixel; RISE shows how often each was kept
        np.testing.assert_allclose(score, np.zeros_like(score), atol=1e-6)


@every
def test_nan_classifier_gives_nan_or_says_why_not(name):
    run = functools.partial(BASELINES[name](), oracles.nan(), IMAGES[:1], [1], key=KEY, budget=BUDGET)
    if name in ("lime", "shap", "kernelshap", *ORDERS):
        with pytest.raises(ValueError, match="classifier returned NaN"):
            run()
    elif name in (*CONTROLS, "gradcam", "gradcam_plus_plus", "integrated_gradients", "smoothgrad"):
        assert run().shape == (1, SIDE, SIDE)  # the gradient of constant logits is zero, even of NaN
    else:
        assert bool(jnp.isnan(run()).any())


@pytest.mark.parametrize("name", [*BLACK_BOX, "integrated_gradients"])
def test_fill_is_what_the_classifier_sees(name):
    # Blanked with white, a white box that decides the class cannot be missed by anything.
    white = np.ones((1, SIDE, SIDE, 3), np.float32)
    score = BASELINES[name](fill=fills.Constant(1.0))(ORACLE, white, [1], key=KEY, budget=BUDGET)
    expected = np.zeros((1, SIDE, SIDE)) if name != "rise" else None
    if name == "rise":
        plain = BASELINES[name]()(ORACLE, white, [1], key=KEY, budget=BUDGET)
        assert float(score.mean()) > float(plain.mean()) + 0.1
    else:
        np.testing.assert_allclose(score, expected, atol=1e-5)


# ---------------------------------------------------------------------------------------------- features and depth


def test_grad_cam_takes_the_deepest_map_with_places():
    shapes = [f.shape[1:3] for f in ORACLE.features(jnp.asarray(IMAGES))]
    assert shapes == [(16, 16), (8, 8), (1, 1)]
    chosen = explain("gradcam")
    np.testing.assert_array_equal(gradcam.GradCAM(depth=1)(ORACLE, IMAGES, LABELS, key=KEY, budget=3), chosen)
    sharp = gradcam.GradCAM(depth=0)(ORACLE, IMAGES, LABELS, key=KEY, budget=3)
    np.testing.assert_array_equal(np.asarray(sharp[0]) > 0, INSIDE)
    with pytest.raises(ValueError, match="depth 3 does not exist"):
        gradcam.GradCAM(depth=3)(ORACLE, IMAGES, LABELS, key=KEY, budget=3)


@record
class NoFeatures:
    def __call__(self, images):
        return ORACLE(images)


@record
class OnlyPoints(NoFeatures):
    def features(self, images):
        return (ORACLE.features(images)[2],)

    def from_features(self, depth, feature):
        return ORACLE.from_features(2, feature)


@pytest.mark.parametrize(
    "classifier, problem",
    [
        (NoFeatures(), "no features and no from_features"),
        (OnlyPoints(), "every feature map of the classifier is 1 x 1"),
    ],
)
@pytest.mark.parametrize("name", ["gradcam", "gradcam_plus_plus"])
def test_grad_cam_says_what_is_missing(name, classifier, problem):
    with pytest.raises(ValueError, match=problem):
        BASELINES[name]()(classifier, IMAGES, LABELS, key=KEY, budget=3)


# -------------------------------------------------------------------------------------------------------- packages


def test_small_images_get_a_useful_number_of_segments():
    for image in (
        oracles.conv_images(side=32)[0],
        np.full((32, 32, 3), 0.5, np.float32),
        np.full((32, 32, 1), 0.5, np.float32),
    ):
        segments = segment(image, None)
        assert segments.shape == (32, 32) and segments.min() == 0
        assert 36 <= segments.max() + 1 <= 80
        assert set(np.unique(segments)) == set(range(segments.max() + 1))


def test_shap_leaves_the_global_generator_as_it_was():
    np.random.seed(3)
    expected = np.random.get_state()[1].copy()
    BASELINES["shap"]()(ORACLE, IMAGES[:1], LABELS[:1], key=KEY, budget=8)
    np.testing.assert_array_equal(np.random.get_state()[1], expected)


# ---------------------------------------------------------------------------------------------------------- budget


@record
class Tally:
    """An oracle that reports to the host how many images it has really been given."""

    seen: object = static()
    batch_size: int = static(default=8)

    def __call__(self, images):
        jax.debug.callback(lambda x: self.seen.append(len(x)), images)
        return ORACLE(images)


class Seen(list):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


@pytest.mark.parametrize("name", [*BLACK_BOX, "random_patches", "random_pixels"])
def test_declared_cost_is_what_the_classifier_really_sees(name):
    seen = Seen()
    counted = Counted(Tally(seen), 64)
    jax.block_until_ready(BASELINES[name]()(counted, IMAGES[:1], LABELS[:1], key=KEY, budget=64))
    jax.effects_barrier()
    (spent,) = counted.spent
    # Micro-batches of 8 are filled up, at most 7 images each time that the method asks.
    assert spent.forward <= sum(seen) <= spent.forward + 7 * max(len(seen), 1)
    if name in ("rise", "hsic", "lime"):
        assert sum(seen) == spent.forward == 64


def test_too_small_a_budget_is_refused_before_anything_runs():
    for name, budget in (("integrated_gradients", 1), ("occlusion", 1), ("shap", 3), ("random_patches", 3)):
        seen = Seen()
        with pytest.raises(BudgetExceeded, match=f"more than the budget of {budget}"):
            BASELINES[name]()(Tally(seen), IMAGES[:1], LABELS[:1], key=KEY, budget=budget)
        jax.effects_barrier()
        assert not seen
    with pytest.raises(BudgetExceeded, match="more than the budget of 2"):
        gradcam.GradCAM()(ORACLE, IMAGES, LABELS, key=KEY, budget=2)
    with pytest.raises(BudgetExceeded, match="windows of 2 pixels"):
        occlusion.Occlusion(2)(ORACLE, IMAGES, LABELS, key=KEY, budget=4)


def test_account_stops_before_the_classifier_is_called():
    seen = Seen()
    account = Account(Tally(seen), budget=10)
    image = np.zeros((6, SIDE, SIDE, 3), np.float32)
    assert account(image).shape == (6, 2)
    with pytest.raises(BudgetExceeded, match="12 evaluations"):
        account(image)
    jax.effects_barrier()
    assert sum(seen) == 8 and account.spent == Spent(6)


def test_counted_enforces_its_own_budget():
    counted = Counted(ORACLE, 10)
    assert bare(counted) is ORACLE and bare(ORACLE) is ORACLE
    with pytest.raises(BudgetExceeded, match="more than the budget of 10"):
        BASELINES["rise"]()(counted, IMAGES, LABELS, key=KEY, budget=16)
    with pytest.raises(ValueError, match="give a whole number of 1 or more"):
        Counted(ORACLE, 2.5)


def test_unequal_budgets_are_not_compared():
    bills = [Bill("rise", 64, [Spent(64)] * 2), Bill("gradcam", 64, [Spent(2, 1)] * 2)]
    assert common_budget(bills) == 64
    for wrong in ([*bills, Bill("lime", 65, [Spent(64)])], [*bills, Bill("lime", 64, [Spent(60, 5)])], []):
        with pytest.raises(UnequalBudgets):
            common_budget(wrong)


WORTH = np.array([0.1, 0.4, 0.0, 0.2, 0.3, 0.05])


def asked_of(worth, budget=10**6):
    """An objective to which every region adds what it is worth, and the number of sets that it was asked about."""
    asked = []

    def objective(kept):
        if sum(asked) + len(kept) > budget:
            raise BudgetExceeded("no more")
        asked.append(len(kept))
        return kept.astype(float) @ worth

    return objective, asked


def test_greedy_search_takes_regions_by_what_they_add():
    objective, asked = asked_of(WORTH)
    assert greedy.order(objective, 6) == [1, 4, 3, 0, 5, 2]
    assert asked == [6, 5, 4, 3, 2, 1]


def test_search_from_both_ends_finds_the_same_order_for_less():
    objective, asked = asked_of(WORTH)
    assert lima.order(objective, 6, doubtful=2) == [1, 4, 3, 0, 5, 2]
    assert asked == [6, 2, 4, 2, 2, 1]  # takes from both ends while more than two are left


def test_the_end_of_the_order_is_what_the_end_says_least_with():
    """Regions 2 and 3 say nothing alone and everything together: only one of them may go to the end."""
    objective = lambda kept: kept.astype(float) @ np.array([0.5, 0.1, 0.0, 0.0, 0.2]) + (kept[:, 2] & kept[:, 3])
    assert lima.order(objective, 5, doubtful=2) == [0, 4, 3, 1, 2]


@pytest.mark.parametrize("worth", [WORTH, np.random.default_rng(0).gamma(0.3, size=60)], ids=["six", "sixty"])
def test_phases_find_nearly_the_order_of_greedy_search_for_less(worth):
    objective, asked = asked_of(worth)
    found = phasewin._Search(phasewin.PhaseWin(), objective, len(worth)).order()
    assert sorted(found) == list(range(len(worth)))
    assert found[0] == worth.argmax() and found[-1] == worth.argmin()
    first = worth[found].cumsum()
    assert (first >= 0.95 * np.sort(worth)[::-1].cumsum()).all()
    if len(worth) > 6:
        assert sum(asked) < 0.5 * len(worth) * (len(worth) + 1) / 2


def test_a_phase_ends_where_gains_fall_faster():
    """By the ratios of 1.0, 0.95 and 0.81: the last one falls too fast, and is not taken within the phase."""
    worth = np.array([1.0, 0.95, 0.81, 0.1])
    search = phasewin._Search(phasewin.PhaseWin(), asked_of(worth)[0], 4)
    left = [0, 1, 2, 3]
    assert search._take_best(left)
    assert search._phase(left) == [3] and search.taken == [0, 1] and left == [2]


@pytest.mark.parametrize("budget", [7, 8, 20, 30])
def test_a_search_whose_evaluations_are_spent_orders_what_is_left_by_what_it_last_gained(budget):
    found = phasewin._Search(phasewin.PhaseWin(), asked_of(WORTH, budget)[0], 6).order()
    assert found == [1, 4, 3, 0, 5, 2]


def test_sobol_indices_of_a_product_are_known():
    """x y, both uniform: the variance is 7/144, of which what depends on x alone or with y is 4/7."""
    first, second = np.random.default_rng(1).uniform(size=(2, 20_000, 2)).astype(np.float32)
    designs = sobol.replicated(jnp.asarray(first), jnp.asarray(second))
    assert designs.shape == (4, 20_000, 2)
    np.testing.assert_array_equal(designs[3, :, 0], first[:, 0])
    np.testing.assert_array_equal(designs[3, :, 1], second[:, 1])
    np.testing.assert_allclose(sobol.total_indices(designs.prod(-1)), [4 / 7, 4 / 7], atol=0.02)
    np.testing.assert_allclose(sobol.total_indices(3.0 * designs[..., 0]), [1.0, 0.0], atol=0.02)
    assert sobol.total_indices(jnp.ones((4, 8))).tolist() == [0.0, 0.0]


def test_shapley_values_of_superpixels_share_out_what_the_picture_adds():
    """Where all sets of four segments are asked, the values share out what the picture adds to nothing."""
    score = np.asarray(BASELINES["kernelshap"](segments=4)(ORACLE, IMAGES[:1], [1], key=KEY, budget=60))[0]
    segments = segment(IMAGES[0], 4)
    values = [score[segments == number].mean() for number in range(segments.max() + 1)]
    whole, blank = (float(base.probability(ORACLE, x[None], 1)[0]) for x in (IMAGES[0], np.zeros_like(IMAGES[0])))
    assert sum(values) == pytest.approx(whole - blank, abs=1e-4)


@pytest.mark.parametrize(("budget", "regions"), [(2, 1), (30, 5), (29, 4), (2000, 44), (10**6, 49)])
def test_greedy_search_has_as_many_regions_as_it_can_afford(budget, regions):
    assert BASELINES["greedy_regions"]().cost((32, 32, 3), budget).forward == regions * (regions + 1)


@pytest.mark.parametrize("name", ORDERS)
def test_searches_for_an_order_of_regions_find_the_box(name):
    oracle, image = oracles.BoxOracle(boxes=((8, 8, 8, 8),)), oracles.lit((8, 8, 8, 8), 24, 24, background=0.3)[None]
    spent = Counted(oracle, 300)
    score = np.asarray(BASELINES[name]()(spent, image, [1], key=0, budget=300))[0]
    inside = oracles.box_mask((8, 8, 8, 8), 24, 24)
    assert score[inside].min() > score[~inside].mean() and spent.spent[0].forward <= 300
