"""Crossover of two parents: (key, a int32[G, 3], b int32[G, 3]) -> children int32[2, G, 3].

Each child takes every gene from one of the parents at the same place, and the second is the first's complement.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.search.genome import pick
from evomask.types import Array, Genome, Key, record


def one_point(key: Key, a: Genome, b: Genome) -> Genome:
    """Genes before a random cut from one parent, the rest from the other. The published operator.

    >>> a, b = jnp.zeros((4, 3), int), jnp.ones((4, 3), int)
    >>> one_point(jax.random.key(0), a, b)[:, :, 0].sum(axis=0)
    Array([1, 1, 1, 1], dtype=int32)
    """
    genes = a.shape[0]
    cut = 1 + pick(jax.random.uniform(key), max(genes - 1, 1))
    return _exchange(jnp.arange(genes) >= cut, a, b)


def two_point(key: Key, a: Genome, b: Genome) -> Genome:
    """Genes between two random cuts change places."""
    genes = a.shape[0]
    low, high = jnp.sort(pick(jax.random.uniform(key, (2,)), genes + 1))
    place = jnp.arange(genes)
    return _exchange((low <= place) & (place < high), a, b)


def uniform(key: Key, a: Genome, b: Genome, rate: Array | float) -> Genome:
    """Every gene changes places with probability `rate` (Syswerda 1989)."""
    return _exchange(jax.random.bernoulli(key, rate, (a.shape[0],)), a, b)


@record
class OnePoint:
    """`one_point`."""

    def __call__(self, key: Key, a: Genome, b: Genome) -> Genome:
        return one_point(key, a, b)


@record
class TwoPoint:
    """`two_point`."""

    def __call__(self, key: Key, a: Genome, b: Genome) -> Genome:
        return two_point(key, a, b)


@record
class Uniform:
    """`uniform` with the given exchange rate in [0, 1]; a rate of 0 copies the parents."""

    rate: float = 0.5

    def __call__(self, key: Key, a: Genome, b: Genome) -> Genome:
        return uniform(key, a, b, self.rate)


def _exchange(exchanged: Array, a: Genome, b: Genome) -> Genome:
    exchanged = exchanged[:, None]
    return jnp.stack([jnp.where(exchanged, b, a), jnp.where(exchanged, a, b)])
