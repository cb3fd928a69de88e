"""What masks are compared by: their pixels as bits, or short sketches of large masks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from evomask.search.genome import WORD, pack
from evomask.types import Array, Mask


def sketch(masks: Mask, grid: int) -> Array:
    """bool[P, h, w] -> uint32[P, F], the pixels as bits, where h and w are at most `grid`; else f32[P, grid * grid].

    Those are count sketches (Charikar et al. 2002), whole numbers: pixels `grid` rows or columns apart are added up
    with fixed random signs. So a squared distance is the number of pixels that differ: exactly where these lie within
    `grid` x `grid`, as after a small change, and else in the mean.

    >>> masks = jnp.array([[[True, False, True], [False, True, False]]])
    >>> sketch(masks, 3), sketch(masks, 2)
    (Array([[21]], dtype=uint32), Array([[ 2.,  0.,  0., -1.]], dtype=float32))
    """
    num, height, width = masks.shape
    if max(height, width) <= grid:
        flags = masks.reshape(num, height * width)
        flags = jnp.pad(flags, ((0, 0), (0, -flags.shape[1] % WORD)))
        return pack(flags.reshape(num, -1, WORD).swapaxes(1, 2))
    signs = np.random.default_rng(0).choice(np.float32([-1, 1]), (height, width))
    total = jnp.zeros((num, grid, grid))
    for row in range(0, height, grid):  # window by window, which is faster than one sum
        for col in range(0, width, grid):
            window = slice(row, row + grid), slice(col, col + grid)
            signed = jnp.where(masks[:, *window], signs[None, *window], 0.0)
            total = total.at[:, : signed.shape[1], : signed.shape[2]].add(signed)
    return total.reshape(num, -1)


def differing(first: Array, second: Array, pixels: int) -> Array:
    """The share of their `pixels` in which masks differ, by sketches [P, F] and [Q, F]: f32[P, Q].

    Exact for bits, which is much faster on a CPU too; of sketches of large masks an estimate, which may fall below 0.

    >>> differing(jnp.array([[5], [0]], jnp.uint32), jnp.array([[4]], jnp.uint32), 4).tolist()
    [[0.25], [0.25]]
    """
    if first.dtype == jnp.uint32:
        bits = jax.lax.population_count(first[:, None] ^ second[None])
        return bits.sum(-1, dtype=jnp.uint32).astype(jnp.float32) / pixels
    first, second = (sketches / np.sqrt(pixels, dtype=np.float32) for sketches in (first, second))
    squares = lambda features: jnp.square(features).sum(1)
    products = jnp.matmul(first, second.T, precision="highest")
    return squares(first)[:, None] + squares(second)[None] - 2.0 * products


def fingerprints(sketches: Array) -> Array:
    """Numbers that are equal for equal masks and hardly ever for others, zero for the empty one: [P, F] -> uint32[P].

    >>> same, other, again, empty = fingerprints(jnp.array([[1.0, -1.0], [1.0, 0.0], [1.0, -1.0], [0.0, 0.0]])).tolist()
    >>> same == again, same == other, empty
    (True, False, 0)
    """
    words = sketches if sketches.dtype == jnp.uint32 else sketches.astype(jnp.int32).astype(jnp.uint32)
    of_places = np.random.default_rng(0).integers(0, 2**32, sketches.shape[1], dtype=np.uint32)
    return (_mix(words ^ of_places[None]) - _mix(of_places)[None]).sum(1, dtype=jnp.uint32)


def _mix(words):
    """Every bit of a word changes about half of those of the result (MurmurHash3's finalizer, Appleby 2011)."""
    words = (words ^ words >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    words = (words ^ words >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return words ^ words >> np.uint32(16)
