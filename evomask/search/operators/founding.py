"""Founders, the individuals of generation 0: (key, space, num, genes, champion) -> int32[num, genes, 3].

The champion, int32[G', 3], is the best genome of the stage before; all its genes are off in the first stage.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.search.genome import OFF, Space, is_active, resize, sample
from evomask.types import Array, Genome, Key, record


def scatter(key: Key, space: Space, num: int, genes: int) -> Genome:
    """Independent random patches: the published founders."""
    return sample(key, space, num * genes).reshape(num, genes, 3)


def tile(key: Key, space: Space, num: int, genes: int, sparsest: Array | float) -> Genome:
    """Random parts of one tiling of the whole image; gene i is the same tile in every founder.

    The first founder keeps all tiles, so a mask that keeps the class is there from the start; the others keep each tile
    with a probability that falls evenly to `sparsest`.

    >>> from evomask.search.genome import rasterize, space
    >>> everywhere = space(jnp.ones((8, 12), bool), jnp.array([3]))
    >>> bool(rasterize(tile(jax.random.key(0), everywhere, 3, 9, 0.2)[0], (8, 12)).all())
    True
    """
    return _thinned(key, _tiling(space.shape, genes), num, sparsest)


def inherit(key: Key, space: Space, num: int, genes: int, champion: Genome, sparsest: Array | float) -> Genome:
    """Random parts of the champion; the first founder is all of it, cut to `genes` genes or filled up with genes off.

    >>> from evomask.search.genome import space
    >>> everywhere = space(jnp.ones((8, 12), bool), jnp.array([3]))
    >>> inherit(jax.random.key(0), everywhere, 5, 2, jnp.array([[1, 2, 3]]), 0.2)[0]
    Array([[ 1,  2,  3],
           [-1, -1, -1]], dtype=int32)
    """
    return _thinned(key, resize(champion, genes), num, sparsest)


def bracket(
    key: Key, space: Space, num: int, genes: int, champion: Genome, sparsest: Array | float, largest: Array | float
) -> Genome:
    """Masks on both sides of the champion: the first half of the founders as in `inherit`, the others the champion
    grown.

    Their patches grow by radii that rise quadratically to `largest` times the shorter side. So a stage whose champion
    lacks something begins with masks that lack less, where it only has to shrink again.

    >>> from evomask.search.genome import space
    >>> everywhere = space(jnp.ones((8, 12), bool), jnp.array([3]))
    >>> bracket(jax.random.key(0), everywhere, 4, 1, jnp.array([[1, 2, 3]]), 1.0, 0.5)[:, 0, 2]
    Array([3, 3, 4, 7], dtype=int32)
    """
    thinned = inherit(key, space, num - num // 2, genes, champion, sparsest)
    steps = (jnp.arange(num // 2, dtype=jnp.float32) + 1.0) / max(num // 2, 1)
    growth = jnp.ceil(largest * min(space.shape) * jnp.square(steps)).astype(jnp.int32)
    whole = thinned[0]
    radius = jnp.where(is_active(whole)[None], whole[None, :, 2] + growth[:, None], OFF)
    grown = jnp.broadcast_to(whole, (num // 2, *whole.shape)).at[..., 2].set(radius)
    return jnp.concatenate([thinned, grown])


@record
class Scatter:
    """`scatter`."""

    def __call__(self, key: Key, space: Space, num: int, genes: int, champion: Genome) -> Genome:
        return scatter(key, space, num, genes)


@record
class Tile:
    """`tile`, where the last founder keeps a share `sparsest` of the tiles."""

    sparsest: float = 0.3

    def __call__(self, key: Key, space: Space, num: int, genes: int, champion: Genome) -> Genome:
        return tile(key, space, num, genes, self.sparsest)


@record
class Inherit:
    """`inherit`, where the last founder keeps a share `sparsest` of the patches."""

    sparsest: float = 0.5

    def __call__(self, key: Key, space: Space, num: int, genes: int, champion: Genome) -> Genome:
        return inherit(key, space, num, genes, champion, self.sparsest)


@record
class Bracket:
    """`bracket`, from a share `sparsest` of the patches to patches grown by `largest` times the shorter side."""

    sparsest: float = 0.5
    largest: float = 0.5

    def __call__(self, key: Key, space: Space, num: int, genes: int, champion: Genome) -> Genome:
        return bracket(key, space, num, genes, champion, self.sparsest, self.largest)


def _thinned(key: Key, genome: Genome, num: int, sparsest: Array | float) -> Genome:
    """Copies of a genome that keep each patch with a probability that falls evenly from one to `sparsest`."""
    kept = jax.random.uniform(key, (num, genome.shape[0])) < jnp.linspace(1.0, sparsest, num)[:, None]
    radius = jnp.where(kept, genome[None, :, 2], OFF)
    return jnp.broadcast_to(genome, (num, *genome.shape)).at[..., 2].set(radius)


def _tiling(shape: tuple[int, int], genes: int) -> Genome:
    """Squares that cover the image, as many as `genes` allows, on an even grid; genes left over are off."""
    height, width = shape
    grids = [(r, c) for r in range(1, genes + 1) for c in range(1, genes // r + 1)]
    side, rows, cols = min((max(-(-height // r), -(-width // c)), r, c) for r, c in grids)
    radius = side // 2
    centre = lambda length, parts: ((jnp.arange(parts, dtype=jnp.float32) + 0.5) * length / parts).astype(jnp.int32)
    row, col = jnp.meshgrid(centre(height, rows), centre(width, cols), indexing="ij")
    tiles = jnp.stack([row, col, jnp.full_like(row, radius)], axis=-1).reshape(-1, 3)
    return jnp.concatenate([tiles, jnp.full((genes - rows * cols, 3), OFF, jnp.int32)])
