"""Survival: (fitness f32[P + O], num) -> int32[num]. The first `num` entries are parents, the rest their offspring."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.types import Array, InputError, record, static


def plus(fitness: Array, num: int) -> Array:
    """(mu + lambda): the best `num` of parents and offspring together, best first.

    >>> plus(jnp.array([1.0, 0.0, 3.0, 2.0]), 2)
    Array([2, 3], dtype=int32)
    """
    return jax.lax.top_k(jnp.where(jnp.isnan(fitness), -jnp.inf, fitness), num)[1].astype(jnp.int32)


def elitism(fitness: Array, num: int, elites: int) -> Array:
    """The offspring, their worst `elites` replaced by the best parents. Published with one elite.

    Raises:
      InputError: there are not enough offspring to fill the places that the elites leave.

    >>> elitism(jnp.array([5.0, 0.0, 3.0, 2.0]), 2, elites=1)
    Array([0, 2], dtype=int32)
    """
    offspring = fitness.shape[0] - num
    if not 0 <= elites <= num or offspring < num - elites:
        raise InputError(
            f"elitism keeps {elites} of {num} parents and needs {num - elites} offspring, but there are {offspring}: "
            "give the stage as many offspring as individuals"
        )
    parents, children = plus(fitness[:num], elites), plus(fitness[num:], num - elites)
    return jnp.concatenate([parents, num + children])


@record
class Plus:
    """`plus`."""

    def __call__(self, fitness: Array, num: int) -> Array:
        return plus(fitness, num)


@record
class Elitism:
    """`elitism` with `elites` parents; needs as many offspring as parents."""

    elites: int = static(default=1)

    def __call__(self, fitness: Array, num: int) -> Array:
        return elitism(fitness, num, self.elites)
