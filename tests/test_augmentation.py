"""What a training is made of: augmentation, optimizers, calibration; each against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from evomask import training

KEY = jax.random.key(2)


def test_crops_are_shifts():
    image = jnp.arange(64.0).reshape(8, 8, 1) / 64
    crops = training.random_crop(jax.random.key(0), jnp.broadcast_to(image[None], (200, 8, 8, 1)), 2)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    shifts = [np.asarray(padded[i : i + 8, j : j + 8]) for i in range(5) for j in range(5)]
    counts = [sum(np.array_equal(crop, shift) for crop in np.asarray(crops)) for shift in shifts]
    assert sum(counts) == 200 and min(counts) > 0


def test_erased_rectangles_have_the_asked_sizes_and_fills():
    images = jnp.full((1000, 16, 16, 3), 2.0)  # a value that no fill has
    erase = jax.jit(jax.vmap(lambda k, i: training.random_erase(k, i, 0.6, (0.1, 0.4), 0.5)))
    erased = np.asarray(erase(jax.random.split(jax.random.key(1), 1000), images))
    inside = (erased != 2).all(-1)
    np.testing.assert_array_equal(inside, (erased != 2).any(-1))
    for mask in inside[:50]:  # one full rectangle
        assert mask.sum() == mask.any(0).sum() * mask.any(1).sum()
    happened = inside.any((1, 2))
    assert 0.55 < happened.mean() < 0.65
    share = inside[happened].mean((1, 2))
    assert 0.05 < share.min() < 0.12 and 0.35 < share.max() < 0.45 and 0.22 < share.mean() < 0.28
    spread = np.array([image[mask].std(0).max() for image, mask in zip(erased[happened], inside[happened])])
    black = np.array([image[mask].max() == 0 for image, mask in zip(erased[happened], inside[happened])])
    assert 0.44 < black.mean() < 0.56 and 0.18 < (spread > 0.1).mean() < 0.32  # noise; the rest has one colour


def test_shares_of_mixup():
    shares = np.asarray(training.mixup_shares(jax.random.key(3), 4000, 0.3))
    drawn = scipy.stats.beta(0.3, 0.3)
    expected, deviation = 2 * drawn.expect(lambda s: s, ub=0.5), drawn.std()  # folded at a half, so less than that
    assert 0 <= shares.min() and 0.45 < shares.max() <= 0.5
    assert abs(shares.mean() - expected) < 4 * deviation / np.sqrt(4000)
    assert np.all(np.asarray(training.mixup_shares(jax.random.key(3), 5, 0.0)) == 0)


def test_rates_rise_and_fall():
    recipe = training.Recipe(learning_rate=0.3, warmup=0.25, momentum=0.0, weight_decay=0.1)
    optimizer = training.make_optimizer(recipe, 100)
    params = {"matrix": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    state, sizes, update = optimizer.init(params), [], jax.jit(optimizer.update)
    for _ in range(100):
        updates, state = update(jax.tree.map(jnp.ones_like, params), state, params)
        sizes.append(-float(updates["bias"][0]))
        np.testing.assert_allclose(updates["matrix"], 1.1 * updates["bias"][0], rtol=1e-5)  # decays matrices only
    assert int(np.argmax(sizes)) == 25 and max(sizes) == pytest.approx(0.3)
    assert sizes[0] == 0 and sizes[-1] < 1e-3


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_biases_of_normalisations_learn_faster(name):
    optimizer = training.make_optimizer(training.Recipe(optimizer=name, warmup=0.0, bias_rate=64.0), 10)
    params = {
        "ConvNorm_0": {"BatchNorm_0": {"bias": jnp.ones(2)}, "weights": jnp.zeros((2, 2))},
        "head": {"bias": jnp.ones(2)},
    }
    updates, _ = jax.jit(optimizer.update)(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(updates["ConvNorm_0"]["BatchNorm_0"]["bias"], 64.0 * updates["head"]["bias"], rtol=1e-6)
    np.testing.assert_allclose(updates["ConvNorm_0"]["weights"][0], updates["head"]["bias"], rtol=1e-6)


def test_muon_moves_kernels_by_orthogonal_matrices():
    recipe = training.Recipe(
        optimizer="muon", warmup=0.0, kernel_rate=0.1, kernel_decay=0.5, learning_rate=0.2, momentum=0.0
    )
    optimizer = training.make_optimizer(recipe, 10)
    params = {"ConvNorm_0": {"kernel": jnp.ones((3, 3, 2, 4))}, "head": {"bias": jnp.ones(2)}}
    gradients = {"ConvNorm_0": {"kernel": jax.random.normal(KEY, (3, 3, 2, 4))}, "head": {"bias": jnp.ones(2)}}
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    matrix = np.asarray(updates["ConvNorm_0"]["kernel"] / -0.1 - 0.5).reshape(18, 4)  # without rate and decay
    given = np.asarray(gradients["ConvNorm_0"]["kernel"]).reshape(18, 4)
    _, sizes, right = np.linalg.svd(matrix)
    assert ((sizes > 0.6) & (sizes < 1.3)).all() and np.linalg.cond(
        given
    ) > 1.2  # near one, which is all that three steps give
    np.testing.assert_allclose(
        np.sort(abs(np.linalg.svd(given)[2] @ right.T)), [[0, 0, 0, 1]] * 4, atol=1e-3
    )  # same directions
    np.testing.assert_allclose(updates["head"]["bias"], -0.2, rtol=1e-6)


def test_calibration_error():
    logits = np.log(np.array([[0.9, 0.1]] * 10 + [[0.45, 0.55]] * 10, np.float32))
    labels = np.array([0] * 6 + [1] * 4 + [1] * 5 + [0] * 5)  # right 6 of 10 at confidence 0.9, 5 of 10 at 0.55
    assert training.calibration_error(logits, labels) == pytest.approx((0.3 + 0.05) / 2, abs=1e-6)


def test_half_precision_stays_close():
    images = jax.random.uniform(jax.random.key(0), (8, 8, 8, 3))
    full, half = (training.residual_cnn(2, p, widths=(4,), depth=1, directions=4) for p in ("float32", "bfloat16"))
    params, stats = full.init(jax.random.key(1), images)
    params["head"]["kernel"] = jnp.ones((4, 2))
    logits = [jax.jit(t.apply, static_argnums=3)(params, stats, images, True)[0] for t in (full, half)]
    assert logits[1].dtype == jnp.float32
    np.testing.assert_allclose(*logits, rtol=0.05, atol=0.05)
    assert np.abs(logits[0] - logits[1]).max() > 0
