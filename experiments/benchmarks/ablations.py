"""Operators that only an ablation needs; those of evomask itself are in `evomask.operators`."""

from __future__ import annotations

import jax.numpy as jnp

from evomask.search.genome import OFF, Space, is_active
from evomask.search.operators.mutation import subset
from evomask.types import Genome, Key, record


@record
class Flip:
    """Mutation of a plain bit chromosome, in which every gene has a place of its own (`operators.Tile`): k bits turn
    over.

    A gene that comes on has the first radius of its stage. k is log-uniform between 1 and (number of genes)^reach.

    >>> import jax
    >>> from evomask.search.genome import space
    >>> genome = jnp.array([[0, 0, 1], [3, 0, -1]])
    >>> Flip(1e6)(jax.random.key(0), genome, space(jnp.ones((4, 4), bool), jnp.array([1])))
    Array([[ 0,  0, -1],
           [ 3,  0,  1]], dtype=int32)
    """

    reach: float = 0.5

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        chosen = subset(key, jnp.ones(genome.shape[0], bool), self.reach)
        turned = jnp.where(is_active(genome), OFF, space.radii[0])
        return genome.at[:, 2].set(jnp.where(chosen, turned, genome[:, 2]))
