"""Mutation: (key, genome int32[G, 3], space) -> genome.

Every operator changes k patches of one individual, where k is log-uniform between 1 and (number of candidates)^reach. A
`reach` of 0 always changes one; a `reach` of 1 makes steps of every size, so that the search takes long strides while
they still succeed and short ones at the end, without a rate to tune (the heavy-tailed mutation of Doerr et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.search.genome import OFF, Space, decode, is_active, pick
from evomask.types import Array, Genome, InputError, Key, record, set_tuples

MutationFn = Callable[[Key, Genome, Space], Genome]


def replace(key: Key, genome: Genome, space: Space, reach: Array | float = 0.0) -> Genome:
    """Genes, switched on or off, become fresh ones. With one gene, the published mutation.

    >>> from evomask.search.genome import space
    >>> everywhere = space(jnp.ones((8, 8), bool), jnp.array([3]))
    >>> sorted(replace(jax.random.key(0), jnp.zeros((2, 3), jnp.int32), everywhere)[:, 2].tolist())
    [0, 3]
    """
    key_chosen, key_genes = jax.random.split(key)
    anyone = jnp.ones(genome.shape[0], bool)
    fresh = decode(_uniform(key_genes, genome.shape[0], 2), space)
    return _where(subset(key_chosen, anyone, reach), fresh, genome)


def move(key: Key, genome: Genome, space: Space, scale: Array | float, reach: Array | float = 0.0) -> Genome:
    """Patches move along one axis or both, by exponential steps of mean `scale` times their own side.

    Steps are rounded up, so a patch moves by at least a pixel, and its centre stays on the image.
    """
    key_chosen, key_steps = jax.random.split(key)
    draws = _uniform(key_steps, genome.shape[0], 5)
    along = pick(draws[:, 0], 3)[:, None] != jnp.array([[1, 0]])  # rows, columns or both
    steps = _sign(draws[:, 1:3]) * _exponential(draws[:, 3:], scale * _side(genome)[:, None])
    steps = jnp.where(along, steps, 0)
    moved = _on_image(genome[:, 0] + steps[:, 0], genome[:, 1] + steps[:, 1], genome[:, 2], space)
    return _where(subset(key_chosen, is_active(genome), reach), moved, genome)


def resize(
    key: Key,
    genome: Genome,
    space: Space,
    scale: Array | float,
    growth: Array | float,
    reach: Array | float = 0.0,
) -> Genome:
    """Patches grow (with probability `growth`) or shrink, keeping one corner, the middle of a side, or their centre.

    A radius changes by an exponential step of mean `scale` times the side, by at least one pixel. It stays at most half
    of the shorter side, and a patch that shrinks to nothing, or below the least radius, is switched off.
    """
    key_chosen, key_sizes = jax.random.split(key)
    draws = _uniform(key_sizes, genome.shape[0], 4)
    change = _exponential(draws[:, 0], scale * _side(genome))
    radius = genome[:, 2] + jnp.where(draws[:, 1] < growth, change, -change)
    radius = jnp.clip(radius, OFF, min(space.shape) // 2)
    radius = jnp.where(radius < space.least, OFF, radius)
    # Moving the centre against the change of radius keeps the patch where it was on one side.
    anchor = (pick(draws[:, 2:], 3) - 1) * (genome[:, 2] - radius)[:, None]
    resized = _on_image(genome[:, 0] + anchor[:, 0], genome[:, 1] + anchor[:, 1], radius, space)
    return _where(subset(key_chosen, is_active(genome), reach), resized, genome)


def add(key: Key, genome: Genome, space: Space, reach: Array | float = 0.0) -> Genome:
    """Genes that are switched off become fresh patches: without it a mask of many genes off hardly grows again.

    >>> from evomask.search.genome import space
    >>> everywhere = space(jnp.ones((8, 8), bool), jnp.array([3]))
    >>> sorted(add(jax.random.key(0), jnp.array([[1, 1, 1], [2, 2, -1]]), everywhere)[:, 2].tolist())
    [1, 3]
    """
    key_chosen, key_genes = jax.random.split(key)
    fresh = decode(_uniform(key_genes, genome.shape[0], 2), space)
    return _where(subset(key_chosen, ~is_active(genome), reach), fresh, genome)


def drop(key: Key, genome: Genome, reach: Array | float = 0.0) -> Genome:
    """Patches are switched off, but never the last one.

    >>> sorted(drop(jax.random.key(0), jnp.array([[1, 1, 1], [2, 2, 1]]))[:, 2].tolist())
    [-1, 1]
    """
    active = is_active(genome)
    chosen = subset(key, active, reach)
    chosen &= jnp.any(active & ~chosen)
    return _where(chosen, genome.at[:, 2].set(OFF), genome)


def split(key: Key, genome: Genome, space: Space) -> Genome:
    """A random patch of radius above 1 becomes two of half its size at opposite corners, where a gene is free."""
    key_chosen, key_side = jax.random.split(key)
    place = jnp.argmax(subset(key_chosen, is_active(genome), 0.0))
    free = jnp.argmin(is_active(genome))
    row, col, radius = genome[place]
    half = radius // 2
    reach, turn = radius - half, _sign(jax.random.uniform(key_side)) * (radius - half)
    first = _on_image(row - reach, col - turn, half, space)
    second = _on_image(row + reach, col + turn, half, space)
    possible = (radius > 1) & (half >= space.least) & ~is_active(genome)[free]
    return jnp.where(possible, genome.at[place].set(first).at[free].set(second), genome)


@record
class Replace:
    """`replace`."""

    reach: float = 0.0

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return replace(key, genome, space, self.reach)


@record
class Move:
    """`move` by steps of `scale` times the side of the patch on average."""

    scale: float = 0.25
    reach: float = 0.0

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return move(key, genome, space, self.scale, self.reach)


@record
class Resize:
    """`resize` by steps of `scale` times the side of the patch on average, growing with probability `growth`."""

    scale: float = 0.1
    growth: float = 0.3
    reach: float = 0.0

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return resize(key, genome, space, self.scale, self.growth, self.reach)


@record
class Add:
    """`add`."""

    reach: float = 0.0

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return add(key, genome, space, self.reach)


@record
class Drop:
    """`drop`."""

    reach: float = 0.0

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return drop(key, genome, self.reach)


@record
class Split:
    """`split`."""

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        return split(key, genome, space)


@record
class Mixture:
    """One of several mutations, drawn by weight, and a second one with probability `again`."""

    mutations: tuple[MutationFn, ...]
    weights: tuple[float, ...]
    again: float = 0.0

    def __post_init__(self):
        set_tuples(self, ("mutations", "weights"))

    def __call__(self, key: Key, genome: Genome, space: Space) -> Genome:
        if len(self.mutations) != len(self.weights):
            raise InputError(
                f"Mixture has {len(self.mutations)} mutations but {len(self.weights)} weights: give one each"
            )
        cumulative = jnp.cumsum(jnp.stack([jnp.asarray(weight, jnp.float32) for weight in self.weights]))
        key_turns, key_draws = jax.random.split(key)
        draws = jax.random.uniform(key_draws, (3,))
        choices = jnp.searchsorted(cumulative, draws[:2] * cumulative[-1], side="right").clip(
            0, len(self.mutations) - 1
        )
        goes_on = jnp.stack([jnp.array(True), draws[2] < self.again])

        def turn(genome: Genome, args: tuple[Key, Array, Array]) -> tuple[Genome, None]:
            key_turn, choice, goes_on = args
            # Not `switch`: mapped over a population it takes all branches as well, and copies the space for each
            # individual.
            changed = jnp.stack([mutation(key_turn, genome, space) for mutation in self.mutations])
            return jnp.where(goes_on, changed[choice], genome), None

        return jax.lax.scan(turn, genome, (jax.random.split(key_turns), choices, goes_on))[0]


def subset(key: Key, candidates: Array, reach: Array | float) -> Array:
    """bool[G]: k of the candidates, k log-uniform in 1 .. (number of candidates)^reach; none where there are none."""
    draws = jax.random.uniform(key, (candidates.shape[0] + 1,))
    most = jnp.maximum(candidates.sum(), 1).astype(jnp.float32)
    size = jnp.floor(jnp.exp(draws[0] * reach * jnp.log(most + 1.0))).clip(1.0, most)
    draws = jnp.where(candidates, draws[1:], 2.0)
    places = jnp.sum(draws[None] < draws[:, None], axis=1)  # on CPU much faster than sorting many short rows
    return candidates & (places < size.astype(jnp.int32))


def _uniform(key: Key, genes: int, each: int) -> Array:
    """Draws in [0, 1) for each gene, f32[genes, each]: drawn in one row, which is faster on CPU and gives the same
    numbers.
    """
    return jax.random.uniform(key, (genes * each,)).reshape(genes, each)


def _where(chosen: Array, changed: Genome, genome: Genome) -> Genome:
    return jnp.where(chosen[:, None], changed, genome)


def _on_image(row: Array, col: Array, radius: Array, space: Space) -> Array:
    height, width = space.shape
    return jnp.stack([jnp.clip(row, 0, height - 1), jnp.clip(col, 0, width - 1), radius], axis=-1)


def _side(genome: Genome) -> Array:
    return (2 * genome[:, 2] + 1).astype(jnp.float32)


def _exponential(draw: Array, mean: Array) -> Array:
    """Whole steps of at least one: a uniform draw -> int32."""
    return jnp.ceil(-jnp.log1p(-draw) * mean).astype(jnp.int32).clip(1)


def _sign(draw: Array) -> Array:
    return jnp.where(draw < 0.5, -1, 1)
