"""The genome: a mask as the union of square patches.

A gene is (row, col, radius) and covers rows row - radius .. row + radius and columns col - radius .. col + radius,
clipped at the border. A negative radius switches the gene off. (The published code takes abs() of a negative start,
so that a patch near the top-left border begins at the wrong pixel; clipping mends that.)
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from evomask.types import Array, Genome, InputError, Key, Mask, record

OFF = -1  # the radius of a gene that is switched off


@record
class Space:
    """Where patches may lie and how large they may be: what sampling and mutation need to know of a stage."""

    region: Mask  # bool[H, W], pixels that may be kept
    cumulative: Array  # f32[H * W], cumulative density of patch centres, ending at one
    radii: Array  # int32[R], the radii drawn from

    @property
    def shape(self) -> tuple[int, int]:
        return self.region.shape[-2:]


def space(region: Mask, radii: Array, density: Array | None = None) -> Space:
    """The search space of a region.

    Args:
      region: bool[H, W]; patch centres are drawn inside it, and masks are cut to it. An empty one counts as whole.
      radii: int32[R] in pixels.
      density: f32[H, W], non-negative, how likely a centre is at each pixel; uniform where None.

    >>> space(jnp.array([[True, False]]), jnp.array([1])).cumulative
    Array([1., 1.], dtype=float32)
    """
    region = region | ~region.any()
    weights = region.astype(jnp.float32) if density is None else jnp.where(region, density, 0.0)
    weights = jnp.where(weights.sum() > 0, weights, region.astype(jnp.float32))
    cumulative = jnp.cumsum(weights.reshape(-1))
    return Space(region, cumulative / cumulative[-1], jnp.asarray(radii, jnp.int32))


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
    return coverage(genome, shape, step) > 0


def coverage(genome: Genome, shape: tuple[int, int], step: int = 1) -> Array:
    """How many patches cover each pixel: int32[..., G, 3] -> f32[..., H, W].

    One matrix product of row and column indicators, so that a whole population costs next to nothing.

    >>> coverage(jnp.array([[0, 0, 1], [1, 1, 0]]), (2, 3))
    Array([[1., 1., 0.],
           [1., 2., 0.]], dtype=float32)
    """
    row, col, radius = (genome[..., None, i] for i in range(3))
    lead = range(genome.ndim - 1)
    places = [jnp.expand_dims(jnp.arange(step // 2, length, step), lead) for length in shape]
    rows = (jnp.abs(places[0] - row) <= radius).astype(jnp.float32)
    cols = (jnp.abs(places[1] - col) <= radius).astype(jnp.float32)
    return jnp.einsum("...gh,...gw->...hw", rows, cols, preferred_element_type=jnp.float32)


def area(mask: Mask) -> Array:
    """Fraction of pixels kept: bool[..., H, W] -> f32[...] in [0, 1]. Counted in integers, so exact.

    >>> float(area(jnp.array([[True, False], [False, False]])))
    0.25
    """
    pixels = mask.shape[-2] * mask.shape[-1]
    return jnp.sum(mask, axis=(-2, -1), dtype=jnp.int32).astype(jnp.float32) / pixels


def is_active(genome: Genome) -> Array:
    """bool[..., G]: which genes are switched on."""
    return genome[..., 2] >= 0


def resize(genome: Genome, genes: int) -> Genome:
    """The same with `genes` genes, int32[genes, 3]: those that are on come first; then it is cut, or filled with genes off.

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
