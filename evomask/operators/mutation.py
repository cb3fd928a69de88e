"""Mutation: (key, genome int32[G, 3], space) -> genome. Every operator changes at most a few genes of one individual."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask import genome as genes_lib
from evomask.genome import OFF, Space, is_active
from evomask.types import Array, Genome, Key, record

MutationFn = Callable[[Key, Genome, Space], Genome]


def replace(key: Key, genome: Genome, space: Space) -> Genome:
    """A random gene, switched on or off, becomes a fresh one. The published mutation.

    >>> from evomask.genome import space
    >>> everywhere = space(jnp.ones((8, 8), bool), jnp.array([3]))
    >>> replace(jax.random.key(0), jnp.zeros((2, 3), jnp.int32), everywhere)[:, 2]
    Array([0, 3], dtype=int32)
    """
    key_place, key_gene = jax.random.split(key)
    place = jax.random.randint(key_place, (), 0, genome.shape[0])
    return genome.at[place].set(genes_lib.sample(key_gene, space, 1)[0])


def move(key: Key, genome: Genome, space: Space, scale: Array | float) -> Genome:
    """A random patch moves along one axis or both, by a Gaussian step of `scale` times its own side.

    Steps are rounded away from zero, so that it moves by at least a pixel, and the centre stays on the image.
    """
    key_place, key_step, key_axes = jax.random.split(key, 3)
    place = _active_place(key_place, genome)
    row, col, radius = genome[place]
    side = (2 * radius + 1).astype(jnp.float32)
    step = jax.random.normal(key_step, (2,)) * scale * side
    axes = jnp.array([[True, False], [False, True], [True, True]])[jax.random.randint(key_axes, (), 0, 3)]
    step = jnp.where(axes, jnp.sign(step) * jnp.ceil(jnp.abs(step)), 0.0).astype(jnp.int32)
    height, width = space.shape
    moved = jnp.stack([jnp.clip(row + step[0], 0, height - 1), jnp.clip(col + step[1], 0, width - 1), radius])
    return _set_if(genome, place, moved, radius >= 0)


def resize(key: Key, genome: Genome, space: Space, scale: Array | float, growth: Array | float = 0.3) -> Genome:
    """A random patch grows (with probability `growth`) or shrinks by a log-normal factor, one corner or the centre kept.

    The radius changes by at least one pixel and stays between 0 and half of the shorter side.
    """
    key_place, key_size, key_sign, key_anchor = jax.random.split(key, 4)
    place = _active_place(key_place, genome)
    row, col, radius = genome[place]
    factor = jnp.exp(jnp.abs(jax.random.normal(key_size)) * scale) - 1.0
    change = jnp.maximum(jnp.round(radius.astype(jnp.float32) * factor), 1.0).astype(jnp.int32)
    change = jnp.where(jax.random.bernoulli(key_sign, growth), change, -change)
    height, width = space.shape
    resized = jnp.clip(radius + change, 0, min(height, width) // 2)
    # Moving the centre against the change of radius keeps the sides on one side where they are.
    anchor = jax.random.randint(key_anchor, (2,), -1, 2) * (radius - resized)
    new = jnp.stack([jnp.clip(row + anchor[0], 0, height - 1), jnp.clip(col + anchor[1], 0, width - 1), resized])
    return _set_if(genome, place, new, radius >= 0)


def drop(key: Key, genome: Genome) -> Genome:
    """A random patch is switched off, unless it is the last one.

    >>> drop(jax.random.key(0), jnp.array([[1, 1, 1], [2, 2, -1]]))[:, 2]
    Array([ 1, -1], dtype=int32)
    """
    place = _active_place(key, genome)
    off = genome[place].at[2].set(OFF)
    return _set_if(genome, place, off, is_active(genome).sum() > 1)


def split(key: Key, genome: Genome, space: Space) -> Genome:
    """A random patch of radius above 1 becomes two of half its size at opposite corners, where a gene is free."""
    key_place, key_side = jax.random.split(key)
    place = _active_place(key_place, genome)
    free = jnp.argmin(is_active(genome))
    row, col, radius = genome[place]
    half = radius // 2
    reach = radius - half
    turn = jnp.where(jax.random.bernoulli(key_side), 1, -1)
    height, width = space.shape
    first = jnp.stack([jnp.clip(row - reach, 0, height - 1), jnp.clip(col - turn * reach, 0, width - 1), half])
    second = jnp.stack([jnp.clip(row + reach, 0, height - 1), jnp.clip(col + turn * reach, 0, width - 1), half])
    possible = (radius > 1) & ~is_active(genome)[free]
    return _set_if(_set_if(genome, place, first, possible), free, second, possible)


@record
class Replace:
    """`replace`."""

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return replace(key, genome, space)


@record
class Move:
    """`move` by steps of `scale` times the side of the patch."""

    scale: float = 0.25

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return move(key, genome, space, self.scale)


@record
class Resize:
    """`resize` by log-normal factors of width `scale`, growing with probability `growth`."""

    scale: float = 0.3
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
    """One of several mutations, drawn by weight, and again with probability `again`, up to four times in all."""

    mutations: tuple[MutationFn, ...]
    weights: tuple[float, ...]
    again: float = 0.0

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        if len(self.mutations) != len(self.weights):
            raise ValueError(f"Mixture has {len(self.mutations)} mutations but {len(self.weights)} weights: give one each")
        logits = jnp.log(jnp.stack([jnp.asarray(weight, jnp.float32) for weight in self.weights]))
        going = jnp.array(True)
        for key_turn in jax.random.split(key, 4):
            key_choice, key_change, key_again = jax.random.split(key_turn, 3)
            choice = jax.random.categorical(key_choice, logits)
            changed = jax.lax.switch(choice, self.mutations, key_change, genome, space)
            genome = jnp.where(going, changed, genome)
            going &= jax.random.bernoulli(key_again, self.again)
        return genome


def _active_place(key: Key, genome: Genome) -> Array:
    """The place of a random gene that is switched on (of any gene, if none is)."""
    return jax.random.categorical(key, jnp.where(is_active(genome), 0.0, -1e9))


def _set_if(genome: Genome, place: Array, gene: Array, condition: Array) -> Genome:
    return genome.at[place].set(jnp.where(condition, gene, genome[place]))
