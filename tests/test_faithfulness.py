"""ROAD, infidelity, sensitivity-n, calibration, cascading randomisation: known by construction, and by others' code."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from evomask.measures import faithfulness, metrics
from evomask.types import InputError

SCORES = jnp.asarray(oracles.heat_maps())
LABELS = jnp.array([0, 2])
BOX = (5, 6, 4, 3)


def solved(image: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The system of equations with its matrix written out."""
    height, width = kept.shape
    matrix, right = np.eye(height * width), image.reshape(-1, image.shape[2]).astype(float)
    for r, c in np.argwhere(~kept):
        row = np.zeros((height, width))
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                if (dr or dc) and 0 <= r + dr < height and 0 <= c + dc < width:
                    row[r + dr, c + dc] = 1 / 12 if dr and dc else 1 / 6
        matrix[r * width + c] -= row.ravel() / row.sum()
        right[r * width + c] = 0.0
    return np.linalg.solve(matrix, right).reshape(image.shape)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_imputed_solves_the_equations_of_the_missing_pixels(share):
    image = jax.random.uniform(jax.random.key(0), (9, 12, 3))
    kept = jax.random.uniform(jax.random.key(1), (9, 12)) < share
    found = faithfulness.imputed(jax.random.key(2), image, kept, 0.0)
    np.testing.assert_allclose(found, solved(np.asarray(image), np.asarray(kept)), atol=1e-5)
    np.testing.assert_array_equal(found[kept], image[kept])
    noisy = faithfulness.imputed(jax.random.key(2), image, kept) - found
    assert not noisy[kept].any() and float(noisy[~kept].std()) == pytest.approx(0.01, rel=0.5)


def test_road_equals_pytorch_grad_cam():
    images = jnp.asarray(oracles.conv_images())
    given = oracles.conv(), images, LABELS, SCORES
    found = faithfulness.road(*given, key=0, percentiles=(25, 50, 75), noise=0.0)
    np.testing.assert_allclose(found, [0.004576, -0.000118], atol=1e-5)


def test_road_prefers_the_box_that_decides_and_turns_its_sign_with_the_map():
    oracle, image = oracles.BoxOracle(boxes=(BOX,)), jnp.asarray(oracles.lit(BOX, 16, 16))[None]
    truth = jnp.asarray(oracles.box_mask(BOX, 16, 16), jnp.float32)[None]
    ask = lambda score: float(faithfulness.road(oracle, image, jnp.array([1]), score, key=0, noise=0.0)[0])
    assert ask(truth) > 0.2
    assert ask(-truth) == pytest.approx(-ask(truth), abs=0.05)  # equal scores in another order
    assert np.isnan(ask(truth * jnp.nan))
    np.testing.assert_allclose(faithfulness.road(oracles.constant(), image, jnp.array([1]), truth, key=0), 0.0)


def test_infidelity_equals_captum():
    images = jnp.asarray(oracles.conv_images())
    subsets = metrics.random_subsets(jax.random.key(4), 30, (16, 16), 40)
    found = faithfulness.infidelity(oracles.conv(), images, LABELS, SCORES, jnp.zeros_like(images), subsets)
    np.testing.assert_allclose(found, [0.000573, 0.000529], atol=1e-6)


def small_linear() -> tuple[oracles.LinearOracle, jax.Array, jax.Array]:
    """A network that is linear in the probability but for 1e-3, its image, and what each pixel contributes."""
    image = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))
    net = oracles.linear(jax.random.key(1), 8, 8, num_classes=2)
    small = oracles.LinearOracle(net.weights * 1e-3, net.bias)
    return small, image, (image[0] * (small.weights[:, 0] - small.weights[:, 1]).reshape(8, 8, 3)).sum(-1)[None]


def test_of_the_true_contributions_nothing_is_unfaithful():
    net, image, contribution = small_linear()
    curve = lambda score: (net, image, jnp.array([0]), score, jnp.zeros_like(image))
    subsets = metrics.random_subsets(jax.random.key(2), 64, (8, 8), 20)
    drop = metrics.drops(*curve(contribution), subsets)[1][0]
    assert float(faithfulness.infidelity(*curve(contribution), subsets)[0]) < 1e-4 * float((drop**2).mean())
    nothing = faithfulness.infidelity(*curve(jnp.zeros_like(contribution)), subsets)
    np.testing.assert_allclose(nothing, [(drop**2).mean()], rtol=1e-5)
    assert float(faithfulness.sensitivity_n(*curve(contribution), key=0)[0]) == pytest.approx(1.0, abs=1e-3)
    assert float(faithfulness.sensitivity_n(*curve(-contribution), key=0)[0]) == pytest.approx(-1.0, abs=1e-3)


def test_calibration_is_the_area_between_what_is_promised_and_what_is_lost():
    oracle, image = oracles.BoxOracle(boxes=(BOX,)), jnp.asarray(oracles.lit(BOX, 16, 16))[None]
    truth = jnp.asarray(oracles.box_mask(BOX, 16, 16), jnp.float32)[None]
    given = oracle, image, jnp.array([1])
    blank = jnp.zeros_like(image)
    flat = jnp.ones_like(truth)
    ordered = truth + jnp.arange(256.0).reshape(1, 16, 16) * 1e-7  # one order, the box first
    found = float(faithfulness.calibration(*given, ordered, blank, steps=256)[0])
    kept = jnp.asarray([all_but_the_best(np.asarray(ordered[0]), num) for num in range(257)])
    curve = np.asarray(jax.nn.softmax(oracle(image * kept[..., None].astype(jnp.float32)), axis=-1)[:, 1])
    promised = np.concatenate([[0.0], np.cumsum(-np.sort(-np.asarray(ordered).ravel()))]) / np.asarray(ordered).sum()
    gap = np.abs(promised * (curve[0] - curve[-1]) - (curve[0] - curve))
    assert found == pytest.approx((gap.sum() - 0.5 * (gap[0] + gap[-1])) / 256, abs=1e-4)
    assert found < 0.1 < float(faithfulness.calibration(*given, flat, blank)[0])
    assert np.isnan(faithfulness.calibration(*given, flat * jnp.nan, blank)[0])


def all_but_the_best(score: np.ndarray, num: int) -> np.ndarray:
    """bool[H, W]: all but the best `num` pixels."""
    kept = np.ones(score.size, bool)
    kept[np.argsort(-score.ravel(), kind="stable")[:num]] = False
    return kept.reshape(score.shape)


def test_cascading_randomisation_goes_layer_by_layer():
    net, image, _ = small_linear()
    explainer = lambda net, images: jnp.abs(images * net.weights[:, 0].reshape(1, 8, 8, 3)).sum(-1)
    found = faithfulness.cascading_randomisation(explainer, net, image, ["bias", "weights"], key=0)
    assert found.shape == (2, 1)
    assert float(found[0, 0]) == pytest.approx(1.0)  # the explainer does not look at it
    assert abs(float(found[1, 0])) < 0.5
    with pytest.raises(InputError, match="no array's name has 'head' in it: there are .bias|.weights"):
        faithfulness.cascading_randomisation(explainer, net, image, ["head"], key=0)


def test_bad_settings_are_named():
    net, image, score = small_linear()
    with pytest.raises(InputError, match=r"percentiles are \[0\]: give some from 1 to 99"):
        faithfulness.road(net, image, jnp.array([0]), score, key=0, percentiles=(0,))
    with pytest.raises(InputError, match=r"sizes are \[1.0\]: give shares of the cells"):
        faithfulness.sensitivity_n(net, image, jnp.array([0]), score, image, key=0, sizes=(1.0,))
