"""What masks are compared by tells how many pixels differ, and whether any do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evomask.search.sketches import differing, fingerprints, sketch

SHAPE = (12, 20)
KEY = jax.random.key(0)


def distances(grid, first, second):
    """Numbers of pixels in which each mask and its other differ, by their sketches."""
    pixels = first[0].size
    return np.diag(differing(sketch(first, grid), sketch(second, grid), pixels)) * pixels


@pytest.mark.parametrize("shape", [(12, 20), (13, 17), (1, 1), (8, 32)])
def test_bits_tell_every_change_exactly(shape):
    first, second = jax.random.bernoulli(KEY, 0.5, (2, 9, *shape))
    assert sketch(first, 32).dtype == jnp.uint32
    share = differing(sketch(first, 32), sketch(second, 32), first[0].size)
    np.testing.assert_array_equal(share, (first[:, None] ^ second[None]).mean((2, 3)))


@pytest.mark.parametrize("shape", [(12, 20), (13, 17)])
def test_sketches_tell_small_changes_exactly(shape):
    """Pixels that differ within 5 x 5 come to places of their own, wherever they are and whatever else is kept."""
    first = jax.random.bernoulli(KEY, 0.5, (30, *shape))
    corners = np.random.default_rng(0).integers(0, np.array(shape) - 4, (30, 2))
    changed = jax.random.bernoulli(jax.random.key(2), 0.5, (30, 5, 5))
    change = jnp.zeros((30, *shape), bool)
    change = jax.vmap(lambda a, part, at: jax.lax.dynamic_update_slice(a, part, at))(change, changed, corners)
    found = distances(5, first, first ^ change)
    np.testing.assert_allclose(found, change.sum((1, 2)), rtol=1e-5)


def test_sketches_are_right_in_the_mean():
    """Pixels that fall together have random signs: of F places the sum of squares errs by (2 / F)^0.5 of itself."""
    first, second = (jax.random.bernoulli(jax.random.key(n), 0.5, (1000, 64, 64)) for n in (1, 2))
    ratio = distances(8, first, second) / np.asarray((first ^ second).sum((1, 2)))
    assert abs(ratio.mean() - 1.0) < 5 * (2 / 64 / 1000) ** 0.5
    assert ratio.std() < 1.1 * (2 / 64) ** 0.5


@pytest.mark.parametrize("grid", [5, 20])
@pytest.mark.parametrize("column", [0, 7])
def test_fingerprints_tell_masks_apart(grid, column):
    """4,096 masks that differ in 3 x 4 pixels; 32 bits for each, so 2^-9 collisions are expected."""
    bits = (np.arange(4096)[:, None] >> np.arange(12)) & 1
    masks = np.zeros((4096, *SHAPE), bool)
    masks[:, 3:6, column : column + 4] = bits.reshape(-1, 3, 4)
    prints = np.asarray(fingerprints(sketch(jnp.asarray(masks), grid)))
    assert prints.dtype == np.uint32 and len(np.unique(prints)) == 4096
    np.testing.assert_array_equal(prints, fingerprints(sketch(jnp.asarray(masks[::-1].copy()), grid))[::-1])
