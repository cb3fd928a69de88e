"""The genome: a mask as the union of square patches.

A gene is (row, col, radius) and covers rows row - radius .. row + radius and columns col - radius .. col + radius,
clipped at the border. A negative radius switches the gene off. (The published code takes abs() of a negative start,
so that a patch near the top-left border begins at the wrong pixel; clipping mends that.)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from evomask.types import Array, Genome, InputError, Key, Mask, record

OFF = -1  # the radius of a gene that is switched off
WORD = 32  # bits


@record
class Space:
    """Where patches may lie and how large they may be: what sampling and mutation need to know of a stage."""

    region: Mask  # bool[H, W], pixels that may be kept
    cumulative: Array  # f32[H * W], cumulative density of patch centres, ending at one
    radii: Array  # int32[R], the radii drawn from
    least: Array  # int32[], a patch that shrinks below this radius is switched off

    @property
    def shape(self) -> tuple[int, int]:
        return self.region.shape[-2:]  # pyright: ignore[reportReturnType]


def space(region: Mask, radii: Array, density: Array | None = None, least: Array | int = 0) -> Space:
    """The search space of a region.

    Args:
      region: bool[H, W]; patch centres are drawn inside it, and masks are cut to it. An empty one counts as whole.
      radii: int32[R] in pixels.
      density: f32[H, W], non-negative, how likely a centre is at each pixel; uniform where None.
      least: the smallest radius that mutation leaves a patch with.

    >>> space(jnp.array([[True, False]]), jnp.array([1])).cumulative
    Array([1., 1.], dtype=float32)
    """
    region = region | ~region.any()
    weights = region.astype(jnp.float32) if density is None else jnp.where(region, density, 0.0)
    weights = jnp.where(weights.sum() > 0, weights, region.astype(jnp.float32))
    cumulative = jnp.cumsum(weights.reshape(-1))
    return Space(region, cumulative / cumulative[-1], jnp.asarray(radii, jnp.int32), jnp.asarray(least, jnp.int32))


def sample(key: Key, space: Space, num: int) -> Genome:
    """Draws `num` genes: int32[num, 3], centres by the density of the space, radii uniformly from its list.

    >>> everywhere = space(jnp.ones((8, 8), bool), jnp.array([2]))
    >>> sample(jax.random.key(0), everywhere, 5).shape
    (5, 3)
    """
    return decode(jax.random.uniform(key, (num, 2)), space)


def decode(draws: Array, space: Space) -> Genome:
    """Genes from uniform draws in [0, 1): f32[..., 2] -> int32[..., 3]; the inverse of the two distribution functions.

    >>> decode(jnp.array([0.0, 0.99]), space(jnp.eye(4, dtype=bool), jnp.array([2, 5])))
    Array([0, 0, 5], dtype=int32)
    """
    # side="right" skips pixels of zero density, whose cumulative value equals their predecessor's.
    flat = jnp.searchsorted(space.cumulative, draws[..., 0], side="right")
    row, col = jnp.divmod(jnp.minimum(flat, space.cumulative.size - 1), space.shape[1])
    return jnp.stack([row, col, space.radii[pick(draws[..., 1], space.radii.size)]], axis=-1).astype(jnp.int32)


def pick(draw: Array, num: Array | int) -> Array:
    """Uniform draws in [0, 1) -> int32 in 0 .. num - 1.

    >>> pick(jnp.array([0.0, 0.5, 0.99]), 4)
    Array([0, 2, 3], dtype=int32)
    """
    return jnp.minimum((draw * jnp.asarray(num, jnp.float32)).astype(jnp.int32), num - 1)


def rasterize(genome: Genome, shape: tuple[int, int], step: int = 1) -> Mask:
    """Patches -> masks: int32[..., G, 3] -> bool[..., H, W], True where any patch covers the pixel.

    With a `step`, only of every so many rows and columns, the middle ones.

    >>> rasterize(jnp.array([[0, 0, 1], [3, 3, 0], [1, 3, -1]]), (4, 4)).astype(int)
    Array([[1, 1, 0, 0],
           [1, 1, 0, 0],
           [0, 0, 0, 0],
           [0, 0, 0, 1]], dtype=int32)
    """
    rows, cols = _covered(genome, shape, step)
    # The genes of a row are the bits of its words, so are those of a column: a pixel is covered where the two share
    # one.
    words = lambda covers, first: pack(covers[..., first : first + WORD, :])
    shared = (
        words(rows, first)[..., :, None] & words(cols, first)[..., None, :] for first in range(0, rows.shape[-2], WORD)
    )
    return functools.reduce(jnp.logical_or, (bits != 0 for bits in shared))


def coverage(genome: Genome, shape: tuple[int, int]) -> Array:
    """How many patches cover each pixel: int32[..., G, 3] -> f32[..., H, W].

    >>> coverage(jnp.array([[0, 0, 1], [1, 1, 0]]), (2, 3))
    Array([[1., 1., 0.],
           [1., 2., 0.]], dtype=float32)
    """
    rows, cols = (covers.astype(jnp.float32) for covers in _covered(genome, shape, 1))
    return jnp.einsum("...gh,...gw->...hw", rows, cols, preferred_element_type=jnp.float32)


def _covered(genome: Genome, shape: tuple[int, int], step: int) -> tuple[Array, Array]:
    """Which rows and which columns, of every so many, each patch covers: bool[..., G, h] and bool[..., G, w]."""
    row, col, radius = (genome[..., None, i] for i in range(3))
    lead = range(genome.ndim - 1)
    rows, cols = (jnp.expand_dims(jnp.arange(step // 2, length, step), lead) for length in shape)
    return jnp.abs(rows - row) <= radius, jnp.abs(cols - col) <= radius


def pack(flags: Array) -> Array:
    """At most 32 flags as bits of one word: bool[..., N, L] -> uint32[..., L]."""
    places = jnp.arange(flags.shape[-2], dtype=jnp.uint32)[:, None]
    shifted = flags.astype(jnp.uint32) << jnp.expand_dims(places, range(flags.ndim - 2))
    return shifted.sum(-2, dtype=jnp.uint32)


def area(mask: Mask) -> Array:
    """Fraction of pixels kept: bool[..., H, W] -> f32[...] in [0, 1]. Counted in integers, so exact.

    >>> float(area(jnp.array([[True, False], [False, False]])))
    0.25
    """
    height, width = mask.shape[-2:]
    # Rows as bits of words, which are counted: on CPU many times as fast as a sum of 32-bit numbers.
    words = (pack(mask[..., row : row + WORD, :]) for row in range(0, height, WORD))
    counted = sum(jax.lax.population_count(part).sum(-1, dtype=jnp.uint32) for part in words)
    return counted.astype(jnp.float32) / (height * width)  # pyright: ignore[reportAttributeAccessIssue]


def boundary(mask: Mask) -> Array:
    """Length of a mask's boundary inside the picture, over that of the picture's border: bool[..., H, W] -> f32[...].

    Counted in sides of pixels. A square in the middle has the square root of its area; holes and pieces cost more.

    >>> float(boundary(jnp.array([[True, False], [False, False]])))
    0.25
    """
    height, width = mask.shape[-2:]
    down, across = mask[..., 1:, :] != mask[..., :-1, :], mask[..., 1:] != mask[..., :-1]
    return (area(down) * ((height - 1) * width) + area(across) * (height * (width - 1))) / (2 * (height + width))


def is_active(genome: Genome) -> Array:
    """bool[..., G]: which genes are switched on."""
    return genome[..., 2] >= 0


def resize(genome: Genome, genes: int) -> Genome:
    """int32[G, 3] -> int32[genes, 3]: the genes that are on come first; then it is cut, or filled up with genes off.

    >>> resize(jnp.array([[0, 0, OFF], [1, 2, 3]]), 1).tolist(), resize(jnp.array([[1, 2, 3]]), 2).tolist()
    ([[1, 2, 3]], [[1, 2, 3], [-1, -1, -1]])
    """
    on_first = genome[jnp.argsort(~is_active(genome))][:genes]
    return jnp.concatenate([on_first, jnp.full((genes - on_first.shape[0], 3), OFF, jnp.int32)])


def scale_radii(radii: Sequence[float | int], shape: tuple[int, int]) -> np.ndarray:
    """Radii in pixels (integers) or as fractions of the shorter side (floats below one) -> int32[R] pixels.

    Raises:
      InputError: a radius is not positive, or as long as the shorter side.

    >>> scale_radii((30, 0.1), (224, 300))
    array([30, 22], dtype=int32)
    """
    short = min(shape)
    if not radii:
        raise InputError("radii is empty: give at least one, in pixels (8) or as a fraction of the shorter side (0.05)")
    for radius in radii:
        if not 0 < radius < short:
            raise InputError(
                f"radius {radius} does not fit an image of {shape[0]} x {shape[1]} pixels: "
                f"give pixels from 1 to {short - 1}, or a fraction of the shorter side between 0 and 1"
            )
    pixels = [round(radius * short) if radius < 1 else round(radius) for radius in radii]
    return np.asarray(pixels, np.int32)
