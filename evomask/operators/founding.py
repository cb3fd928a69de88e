"""Founders, the individuals of generation 0: (key, space, num, genes) -> int32[num, genes, 3]."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.genome import OFF, Space, sample
from evomask.types import Array, Genome, Key, record


def scatter(key: Key, space: Space, num: int, genes: int) -> Genome:
    """Independent random patches: the published founders."""
    return sample(key, space, num * genes).reshape(num, genes, 3)


def tile(key: Key, space: Space, num: int, genes: int, sparsest: Array | float) -> Genome:
    """Random parts of one tiling of the whole image; gene i is the same tile in every founder.

    The first founder keeps all tiles, so a mask that keeps the class is there from the start; the others keep each tile
    with a probability that falls evenly to `sparsest`.

    >>> from evomask.genome import rasterize, space
    >>> everywhere = space(jnp.ones((8, 12), bool), jnp.array([3]))
    >>> bool(rasterize(tile(jax.random.key(0), everywhere, 3, 9, 0.2)[0], (8, 12)).all())
    True
    """
    tiles = _tiling(space.shape, genes)
    keep = jnp.linspace(1.0, sparsest, num)[:, None]
    kept = jax.random.uniform(key, (num, genes)) < keep
    founders = jnp.broadcast_to(tiles, (num, genes, 3))
    return founders.at[..., 2].set(jnp.where(kept, founders[..., 2], OFF))


@record
class Scatter:
    """`scatter`."""

    def __call__(self, key: Key, space: Space, num: int, genes: int) -> Genome:
        return scatter(key, space, num, genes)


@record
class Tile:
    """`tile`, where the last founder keeps a share `sparsest` of the tiles."""

    sparsest: float = 0.3

    def __call__(self, key: Key, space: Space, num: int, genes: int) -> Genome:
        return tile(key, space, num, genes, self.sparsest)


def _tiling(shape: tuple[int, int], genes: int) -> Genome:
    """Squares that cover the image, as many as `genes` allows, on an even grid; genes left over are off."""
    height, width = shape
    grids = [(r, c) for r in range(1, genes + 1) for c in range(1, genes // r + 1)]
    side, rows, cols = min((max(-(-height // r), -(-width // c)), r, c) for r, c in grids)
    radius = side // 2
    centre = lambda length, parts: ((jnp.arange(parts) + 0.5) * length / parts).astype(jnp.int32)
    row, col = jnp.meshgrid(centre(height, rows), centre(width, cols), indexing="ij")
    tiles = jnp.stack([row, col, jnp.full_like(row, radius)], axis=-1).reshape(-1, 3)
    return jnp.concatenate([tiles, jnp.full((genes - rows * cols, 3), OFF, jnp.int32)])
