"""Mutation: (key, genome int32[G, 3], space) -> genome. Every operator changes at most a few genes of one individual."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.genome import OFF, Space, decode, is_active, pick
from evomask.types import Array, Genome, Key, record

MOST_TURNS = 4  # of a `Mixture`
MutationFn = Callable[[Key, Genome, Space], Genome]


def replace(key: Key, genome: Genome, space: Space) -> Genome:
    """A random gene, switched on or off, becomes a fresh one. The published mutation.

    >>> from evomask.genome import space
    >>> everywhere = space(jnp.ones((8, 8), bool), jnp.array([3]))
    >>> sorted(replace(jax.random.key(0), jnp.zeros((2, 3), jnp.int32), everywhere)[:, 2].tolist())
    [0, 3]
    """
    draws = jax.random.uniform(key, (3,))
    return genome.at[pick(draws[0], genome.shape[0])].set(decode(draws[1:], space))


def move(key: Key, genome: Genome, space: Space, scale: Array | float) -> Genome:
    """A random patch moves along one axis or both, by an exponential step of mean `scale` times its own side.

    Steps are rounded up, so that it moves by at least a pixel, and the centre stays on the image.
    """
    draws = jax.random.uniform(key, (6,))
    place = _active_place(draws[0], genome)
    row, col, radius = genome[place]
    side = (2 * radius + 1).astype(jnp.float32)
    axes = jnp.array([[1, 0], [0, 1], [1, 1]])[pick(draws[1], 3)]
    step = axes * _sign(draws[2:4]) * _exponential(draws[4:], scale * side)
    return _set_if(genome, place, _on_image(row + step[0], col + step[1], radius, space), radius >= 0)


def resize(key: Key, genome: Genome, space: Space, scale: Array | float, growth: Array | float) -> Genome:
    """A random patch grows (with probability `growth`) or shrinks, keeping one corner, the middle of a side, or its centre.

    The radius changes by an exponential step of mean `scale` times the side, by at least one pixel, and stays between 0
    and half of the shorter side.
    """
    draws = jax.random.uniform(key, (5,))
    place = _active_place(draws[0], genome)
    row, col, radius = genome[place]
    change = _exponential(draws[1], scale * (2 * radius + 1).astype(jnp.float32))
    change = jnp.where(draws[2] < growth, change, -change)
    resized = jnp.clip(radius + change, 0, min(space.shape) // 2)
    # Moving the centre against the change of radius keeps the patch where it was on one side.
    anchor = (pick(draws[3:], 3) - 1) * (radius - resized)
    return _set_if(genome, place, _on_image(row + anchor[0], col + anchor[1], resized, space), radius >= 0)


def drop(key: Key, genome: Genome) -> Genome:
    """A random patch is switched off, unless it is the last one.

    >>> sorted(drop(jax.random.key(0), jnp.array([[1, 1, 1], [2, 2, 1]]))[:, 2].tolist())
    [-1, 1]
    """
    place = _active_place(jax.random.uniform(key), genome)
    return _set_if(genome, place, genome[place].at[2].set(OFF), is_active(genome).sum() > 1)


def split(key: Key, genome: Genome, space: Space) -> Genome:
    """A random patch of radius above 1 becomes two of half its size at opposite corners, where a gene is free."""
    draws = jax.random.uniform(key, (2,))
    place = _active_place(draws[0], genome)
    free = jnp.argmin(is_active(genome))
    row, col, radius = genome[place]
    half = radius // 2
    reach, turn = radius - half, _sign(draws[1]) * (radius - half)
    first = _on_image(row - reach, col - turn, half, space)
    second = _on_image(row + reach, col + turn, half, space)
    possible = (radius > 1) & ~is_active(genome)[free]
    return _set_if(_set_if(genome, place, first, possible), free, second, possible)


@record
class Replace:
    """`replace`."""

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return replace(key, genome, space)


@record
class Move:
    """`move` by steps of `scale` times the side of the patch on average."""

    scale: float = 0.25

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return move(key, genome, space, self.scale)


@record
class Resize:
    """`resize` by steps of `scale` times the side of the patch on average, growing with probability `growth`."""

    scale: float = 0.1
    growth: float = 0.3

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return resize(key, genome, space, self.scale, self.growth)


@record
class Drop:
    """`drop`."""

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return drop(key, genome)


@record
class Split:
    """`split`."""

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return split(key, genome, space)


@record
class Mixture:
    """One of several mutations, drawn by weight, and again with probability `again`, up to `MOST_TURNS` times in all."""

    mutations: tuple[MutationFn, ...]
    weights: tuple[float, ...]
    again: float = 0.0

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        if len(self.mutations) != len(self.weights):
            raise ValueError(f"Mixture has {len(self.mutations)} mutations but {len(self.weights)} weights: give one each")
        weights = jnp.cumsum(jnp.stack([jnp.asarray(weight, jnp.float32) for weight in self.weights]))
        branches = [functools.partial(_call, mutation) for mutation in self.mutations]  # `switch` hashes its branches
        key_turns, key_draws = jax.random.split(key)
        draws = jax.random.uniform(key_draws, (MOST_TURNS, 2))
        choices = jnp.minimum(jnp.searchsorted(weights, draws[:, 0] * weights[-1], side="right"), len(branches) - 1)
        going = jnp.cumprod(draws[:, 1] < self.again) > 0  # whether there is a turn after this one

        def turn(genome: Genome, args: tuple[Key, Array, Array]) -> tuple[Genome, None]:
            key_turn, choice, is_on = args
            return jnp.where(is_on, jax.lax.switch(choice, branches, key_turn, genome, space), genome), None

        is_on = jnp.concatenate([jnp.array([True]), going[:-1]])
        return jax.lax.scan(turn, genome, (jax.random.split(key_turns, MOST_TURNS), choices, is_on))[0]


def _call(mutation: MutationFn, key: Key, genome: Genome, space: Space) -> Genome:
    return mutation(key, genome, space)


def _active_place(draw: Array, genome: Genome) -> Array:
    """The place of a random gene that is switched on; the first place, if none is."""
    active = is_active(genome)
    return jnp.argmax(jnp.cumsum(active) > pick(draw, jnp.maximum(active.sum(), 1)))


def _on_image(row: Array, col: Array, radius: Array, space: Space) -> Array:
    height, width = space.shape
    return jnp.stack([jnp.clip(row, 0, height - 1), jnp.clip(col, 0, width - 1), radius])


def _exponential(draw: Array, mean: Array) -> Array:
    """Whole steps of at least one: a uniform draw -> int32."""
    return jnp.ceil(-jnp.log1p(-draw) * mean).astype(jnp.int32).clip(1)


def _sign(draw: Array) -> Array:
    return jnp.where(draw < 0.5, -1, 1)


def _set_if(genome: Genome, place: Array, gene: Array, condition: Array) -> Genome:
    return genome.at[place].set(jnp.where(condition, gene, genome[place]))
