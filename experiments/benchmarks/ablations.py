"""Operators that only an ablation needs; those of evomask itself are in `evomask.operators`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.search.genome import OFF, Space, is_active, resize
from evomask.search.operators.founding import inherit
from evomask.search.operators.mutation import Draws, subset
from evomask.types import Array, Genome, Key, record


def has_place(genome: Genome) -> Array:
    """bool[..., G]: whether a gene has a place, which it lacks where a population was not filled.

    >>> has_place(jnp.array([[0, 0, 1], [3, 0, -1], [-1, -1, -1]])).tolist()
    [True, True, False]
    """
    return (genome[..., :2] >= 0).all(-1)


@record
class Flip:
    """Mutation of a plain bit chromosome, in which every gene has a place of its own (`operators.Tile`): k bits turn
    over.

    A gene that comes on has the first radius of its stage. k is log-uniform between 1 and (number of genes)^reach.
    Genes without a place, as a population has them where it was not filled, stay off: they would be patches of no tile.

    >>> from evomask.search.genome import space
    >>> genome = jnp.array([[0, 0, 1], [3, 0, -1]])
    >>> Flip(1e6)(jax.random.key(0), genome, space(jnp.ones((4, 4), bool), jnp.array([1])))
    Array([[ 0,  0, -1],
           [ 3,  0,  1]], dtype=int32)
    """

    reach: float = 0.5

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        chosen = subset(Draws(key, len(genome)).alone, has_place(genome), self.reach)
        turned = jnp.where(is_active(genome), OFF, space.radii[0])
        return genome.at[:, 2].set(jnp.where(chosen, turned, genome[:, 2]))


@record
class Around:
    """Founders on both sides of the champion of a plain bit chromosome: `operators.Bracket` without new patches.

    The first half keeps each bit with a probability that falls evenly to `sparsest`; in the others, bits that are off
    come on with one that rises to one, so that the last founder keeps all that has a place.

    >>> from evomask.search.genome import space
    >>> genome = jnp.array([[0, 0, 1], [3, 0, -1]])
    >>> Around(1.0)(jax.random.key(0), space(jnp.ones((4, 4), bool), jnp.array([1])), 2, 2, genome)[..., 2].tolist()
    [[1, -1], [1, 1]]
    """

    sparsest: float = 0.6

    def __call__(self, key: Key, space: Space, num: int, genes: int, champion: Genome) -> Genome:
        key_thin, key_more = jax.random.split(key)
        more, whole = num // 2, resize(champion, genes)
        thinned = inherit(key_thin, space, num - more, genes, champion, self.sparsest)
        chance = (jnp.arange(more, dtype=jnp.float32) + 1.0) / max(more, 1)
        comes = (jax.random.uniform(key_more, (more, genes)) < chance[:, None]) & has_place(whole)[None]
        radius = jnp.where(is_active(whole)[None], whole[None, :, 2], jnp.where(comes, space.radii[0], OFF))
        return jnp.concatenate([thinned, jnp.broadcast_to(whole, (more, *whole.shape)).at[..., 2].set(radius)])
