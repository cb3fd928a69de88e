"""Parent selection: (key, fitness f32[P], num) -> int32[num], indices of parents. Larger fitness is better; NaN is
worst.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.search.genome import pick
from evomask.types import Array, Key, record, static


def tournament(key: Key, fitness: Array, num: int, size: int) -> Array:
    """The best of `size` entrants drawn with replacement, `num` times (Goldberg & Deb 1991).

    >>> tournament(jax.random.key(0), jnp.array([0.0, 1.0]), 3, size=64)
    Array([1, 1, 1], dtype=int32)
    """
    entrants = pick(jax.random.uniform(key, (num, size)), fitness.shape[0])
    winners = jnp.argmax(_nan_is_worst(fitness)[entrants], axis=1)
    return jnp.take_along_axis(entrants, winners[:, None], axis=1)[:, 0]


def rank(key: Key, fitness: Array, num: int, pressure: Array | float) -> Array:
    """Linear ranking (Baker 1985): the best is drawn `pressure` times as often as the average, the worst 2 - pressure.

    >>> picks = rank(jax.random.key(0), jnp.array([0.0, 3.0, 1.0]), 900, pressure=2.0)
    >>> jnp.bincount(picks, length=3)[0]  # with pressure 2 the worst is never drawn
    Array(0, dtype=int32)
    """
    size = fitness.shape[0]
    ranks = jnp.argsort(jnp.argsort(_nan_is_worst(fitness))).astype(jnp.float32)
    weights = (2.0 - pressure) + 2.0 * (pressure - 1.0) * ranks / max(size - 1, 1)
    cumulative = jnp.cumsum(weights)
    draws = jax.random.uniform(key, (num,)) * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, draws, side="right"), size - 1).astype(jnp.int32)


def truncation(key: Key, fitness: Array, num: int, fraction: Array | float) -> Array:
    """Uniform among the best `fraction` of the population (at least one).

    >>> truncation(jax.random.key(0), jnp.array([0.0, 3.0, 1.0, 2.0]), 3, fraction=0.25)
    Array([1, 1, 1], dtype=int32)
    """
    size = fitness.shape[0]
    order = jnp.argsort(-_nan_is_worst(fitness))
    kept = jnp.clip(jnp.round(fraction * size), 1, size)
    draws = jnp.floor(jax.random.uniform(key, (num,)) * kept).astype(jnp.int32)
    return order[jnp.minimum(draws, size - 1)].astype(jnp.int32)


@record
class Tournament:
    """`tournament` with `size` entrants."""

    size: int = static(default=4)

    def __call__(self, key: Key, fitness: Array, num: int) -> Array:
        return tournament(key, fitness, num, self.size)


@record
class Rank:
    """`rank` with selection pressure in [1, 2]."""

    pressure: float = 1.8

    def __call__(self, key: Key, fitness: Array, num: int) -> Array:
        return rank(key, fitness, num, self.pressure)


@record
class Truncation:
    """`truncation` to the best `fraction` in (0, 1]."""

    fraction: float = 0.25

    def __call__(self, key: Key, fitness: Array, num: int) -> Array:
        return truncation(key, fitness, num, self.fraction)


def _nan_is_worst(fitness: Array) -> Array:
    return jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)
