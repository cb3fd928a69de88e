"""Mutation: (key, genome int32[G, 3], space) -> genome.

Every operator changes k patches of one individual, where k is log-uniform between 1 and (number of candidates)^reach. A
`reach` of 0 always changes one; a `reach` of 1 makes steps of every size, so that the search takes long strides while
they still succeed and short ones at the end, without a rate to tune (the heavy-tailed mutation of Doerr et al. 2017).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.prng import inlined
from evomask.search.genome import OFF, Space, decode, is_active, pick
from evomask.types import Array, Genome, InputError, Key, record, set_tuples

MutationFn = Callable[[Key, Genome, Space], Genome]
MOST = 5  # numbers that a change of a gene takes


class Draws:
    """The random numbers of one change of one genome of G genes, drawn from `key` when they are first read.

    The functions below take them in place of a key, so that a `Mixture` draws once for all that it chooses between.
    """

    def __init__(self, key: Key, genes: int, space: Space | None = None):
        self.key, self.genes, self.space = key, genes, space

    @functools.cached_property
    def alone(self) -> Array:
        """f32[G + 1], for a `subset` where nothing else is drawn."""
        return jax.random.uniform(self.key, (self.genes + 1,))

    @functools.cached_property
    def chosen(self) -> Array:
        """f32[G + 1], for a `subset`."""
        return jax.random.uniform(self._keys[0], (self.genes + 1,))

    @functools.cached_property
    def fresh(self) -> Genome:
        """int32[G, 3], genes of the space."""
        return decode(self.each(2), self.space)

    def each(self, num: int) -> Array:
        """f32[G, num] for each gene, `num` at most MOST: parts of one row, which is faster on CPU."""
        return self._row[: self.genes * num].reshape(self.genes, num)

    @functools.cached_property
    def _row(self) -> Array:
        return jax.random.uniform(inlined(self._keys[1]), (self.genes * MOST,))

    @functools.cached_property
    def _keys(self) -> Key:
        return jax.random.split(self.key)


def drawn(key: Key | Draws, genome: Genome, space: Space | None = None) -> Draws:
    """The draws of a key, or those given."""
    return key if isinstance(key, Draws) else Draws(key, len(genome), space)


def replace(key: Key | Draws, genome: Genome, space: Space, reach: Array | float = 0.0) -> Genome:
    """Genes, switched on or off, become fresh ones. With one gene, the published mutation.

    >>> from evomask.search.genome import space
    >>> everywhere = space(jnp.ones((8, 8), bool), jnp.array([3]))
    >>> sorted(replace(jax.random.key(0), jnp.zeros((2, 3), jnp.int32), everywhere)[:, 2].tolist())
    [0, 3]
    """
    draws, anyone = drawn(key, genome, space), jnp.ones(len(genome), bool)
    return _where(subset(draws.chosen, anyone, reach), draws.fresh, genome)


def move(key: Key | Draws, genome: Genome, space: Space, scale: Array | float, reach: Array | float = 0.0) -> Genome:
    """Patches move along one axis or both, by exponential steps of mean `scale` times their own side.

    Steps are rounded up, so a patch moves by at least a pixel, and its centre stays on the image.
    """
    draws = drawn(key, genome, space)
    each = draws.each(5)
    along = pick(each[:, 0], 3)[:, None] != jnp.array([[1, 0]])  # rows, columns or both
    steps = _sign(each[:, 1:3]) * _exponential(each[:, 3:], scale * _side(genome)[:, None])
    steps = jnp.where(along, steps, 0)
    moved = _on_image(genome[:, 0] + steps[:, 0], genome[:, 1] + steps[:, 1], genome[:, 2], space)
    return _where(subset(draws.chosen, is_active(genome), reach), moved, genome)


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
    draws = drawn(key, genome, space)
    each = draws.each(4)
    change = _exponential(each[:, 0], scale * _side(genome))
    radius = genome[:, 2] + jnp.where(each[:, 1] < growth, change, -change)
    radius = jnp.clip(radius, OFF, min(space.shape) // 2)
    radius = jnp.where(radius < space.least, OFF, radius)
    # Moving the centre against the change of radius keeps the patch where it was on one side.
    anchor = (pick(each[:, 2:], 3) - 1) * (genome[:, 2] - radius)[:, None]
    resized = _on_image(genome[:, 0] + anchor[:, 0], genome[:, 1] + anchor[:, 1], radius, space)
    return _where(subset(draws.chosen, is_active(genome), reach), resized, genome)


def add(key: Key | Draws, genome: Genome, space: Space, reach: Array | float = 0.0) -> Genome:
    """Genes that are switched off become fresh patches: without it a mask of many genes off hardly grows again.

    >>> from evomask.search.genome import space
    >>> everywhere = space(jnp.ones((8, 8), bool), jnp.array([3]))
    >>> sorted(add(jax.random.key(0), jnp.array([[1, 1, 1], [2, 2, -1]]), everywhere)[:, 2].tolist())
    [1, 3]
    """
    draws = drawn(key, genome, space)
    return _where(subset(draws.chosen, ~is_active(genome), reach), draws.fresh, genome)


def drop(key: Key | Draws, genome: Genome, reach: Array | float = 0.0) -> Genome:
    """Patches are switched off, but never the last one.

    >>> sorted(drop(jax.random.key(0), jnp.array([[1, 1, 1], [2, 2, 1]]))[:, 2].tolist())
    [-1, 1]
    """
    active = is_active(genome)
    chosen = subset(drawn(key, genome).alone, active, reach)
    chosen &= jnp.any(active & ~chosen)
    return _where(chosen, genome.at[:, 2].set(OFF), genome)


def split(key: Key | Draws, genome: Genome, space: Space) -> Genome:
    """A random patch of radius above 1 becomes two of half its size at opposite corners, where a gene is free."""
    draws = drawn(key, genome, space)
    place = jnp.argmax(subset(draws.chosen, is_active(genome), 0.0))
    free = jnp.argmin(is_active(genome))
    row, col, radius = genome[place]
    half = radius // 2
    reach, turn = radius - half, _sign(draws.each(1)[0, 0]) * (radius - half)
    first = _on_image(row - reach, col - turn, half, space)
    second = _on_image(row + reach, col + turn, half, space)
    possible = (radius > 1) & (half >= space.least) & ~is_active(genome)[free]
    return jnp.where(possible, genome.at[place].set(first).at[free].set(second), genome)


@record
class Replace:
    """`replace`."""

    reach: float = 0.0

    def __call__(self, key: Key | Draws, genome: Genome, space: Space) -> Genome:
        return replace(key, genome, space, self.reach)


@record
class Move:
    """`move` by steps of `scale` times the side of the patch on average."""

    scale: float = 0.25
    reach: float = 0.0

    def __call__(self, key: Key | Draws, genome: Genome, space: Space) -> Genome:
        return move(key, genome, space, self.scale, self.reach)


@record
class Resize:
    """`resize` by steps of `scale` times the side of the patch on average, growing with probability `growth`."""

    scale: float = 0.1
    growth: float = 0.3
    reach: float = 0.0

    def __call__(self, key: Key | Draws, genome: Genome, space: Space) -> Genome:
        return resize(key, genome, space, self.scale, self.growth, self.reach)


@record
class Add:
    """`add`."""

    reach: float = 0.0

    def __call__(self, key: Key | Draws, genome: Genome, space: Space) -> Genome:
        return add(key, genome, space, self.reach)


@record
class Drop:
    """`drop`."""

    reach: float = 0.0

    def __call__(self, key: Key | Draws, genome: Genome, space: Space) -> Genome:
        return drop(key, genome, self.reach)


@record
class Split:
    """`split`."""

    def __call__(self, key: Key | Draws, genome: Genome, space: Space) -> Genome:
        return split(key, genome, space)


OURS = (Replace, Move, Resize, Add, Drop, Split)


@record
class Mixture:
    """One of several mutations, drawn by weight, and a second one with probability `again`."""

    mutations: tuple[MutationFn, ...]
    weights: tuple[float, ...]
    again: float = 0.0

    def __post_init__(self):
        set_tuples(self, ("mutations", "weights"))

    def __call__(self, key: Key | Draws, genome: Genome, space: Space) -> Genome:
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
            draws = Draws(key_turn, len(genome), space)
            changed = [
                mutation(draws if isinstance(mutation, OURS) else key_turn, genome, space)
                for mutation in self.mutations
            ]
            changed = jnp.stack(changed)
            return jnp.where(goes_on, changed[choice], genome), None

        return jax.lax.scan(turn, genome, (jax.random.split(key_turns), choices, goes_on))[0]


def subset(draws: Array, candidates: Array, reach: Array | float) -> Array:
    """bool[G]: k of the candidates, k log-uniform in 1 .. (number of candidates)^reach; none where there are none.

    `draws` are f32[G + 1], uniform in [0, 1).
    """
    most = jnp.maximum(candidates.sum(), 1).astype(jnp.float32)
    size = jnp.floor(jnp.exp(draws[0] * reach * jnp.log(most + 1.0))).clip(1.0, most)
    draws = jnp.where(candidates, draws[1:], 2.0)
    places = jnp.sum(draws[None] < draws[:, None], axis=1)  # on CPU much faster than sorting many short rows
    return candidates & (places < size.astype(jnp.int32))


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
