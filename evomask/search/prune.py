"""The neighbours of a genome, one patch dropped or one step smaller, and the descent to a mask that none of them
betters.

A mask is 1-minimal where it is complete and no neighbour is. Neighbours are looked at in micro-batches, smallest mask
first, so that the first complete one is the smallest; once all of them are known to be broken, that is the certificate.
Every neighbour's mask lies inside the mask itself, so the region that the search was confined to never has to be known.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.search.genome import OFF, is_active, rasterize
from evomask.types import SLACK, Array, Evaluation, Genome, Mask, Target, decide, record

UNKNOWN = -1  # in place of flags: no such patch, or not looked at
MOST = 8  # neighbours looked at together; more would be a waste where an early one is complete


class Broken(enum.IntFlag):
    """What of completeness a mask breaks; 0: nothing."""

    CLASS = 1  # the masked image loses the class
    CONFIDENCE = 2  # it loses too much confidence
    INVERSE = 4  # the inverse-masked image keeps the class


@record
class Pruned:
    """Where the descent ended."""

    genome: Genome  # int32[G, 3]
    mask: Mask  # bool[H, W]
    broken: Array  # int32[2, G], `Broken` flags where a patch is dropped (row 0) and shrunk by a step (1), or UNKNOWN
    minimal: Array  # bool[], the mask is complete and each of its neighbours is broken
    looked: Array  # int32[], masks that the classifier was asked about
    steps: Array  # int32[], neighbours that took the mask's place


def broken(evaluation: Evaluation, target: Target, demand: str = "complete") -> Array:
    """int32[P], `Broken` flags of what is demanded, with the slack of the search's constraints; NaN is broken."""
    # A ratio of one asks for what the whole image has, and no more.
    enough = jnp.minimum(target.ratio * target.confidence * jnp.exp(SLACK), target.confidence)
    verdict = decide(evaluation.margin, evaluation.confidence, evaluation.inverse_margin, enough, slack=SLACK)
    sufficient = {Broken.CLASS: verdict.keeps_class, Broken.CONFIDENCE: verdict.keeps_confidence}
    necessary = {Broken.INVERSE: verdict.loses_class}
    flags = {"sufficient": sufficient, "necessary": necessary}.get(demand, sufficient | necessary)
    return sum(jnp.where(holds, 0, int(flag)) for flag, holds in flags.items()).astype(jnp.int32)  # pyright: ignore[reportAttributeAccessIssue]


def neighbours(genome: Genome, mask: Mask) -> tuple[Genome, Mask, Array]:
    """Every patch dropped, then every patch one step smaller: int32[2G, G, 3], their masks bool[2G, H, W], which are
    real.

    Dropping is not real where the patch is off, nor is shrinking at radius 0, which is dropping.

    >>> genomes, masks, real = neighbours(jnp.array([[0, 0, 1], [0, 3, 0], [0, 0, -1]]), jnp.ones((1, 4), bool))
    >>> masks[:4].astype(int).reshape(4, 4)
    Array([[0, 0, 0, 1],
           [1, 1, 0, 0],
           [1, 1, 0, 1],
           [1, 0, 0, 1]], dtype=int32)
    >>> real.tolist()
    [True, True, False, True, False, False]
    """
    every = jnp.arange(genome.shape[0])
    copies = jnp.broadcast_to(genome, (genome.shape[0], *genome.shape))
    genomes = jnp.concatenate([copies.at[every, every, 2].set(OFF), copies.at[every, every, 2].add(-1)])
    real = jnp.concatenate([is_active(genome), genome[:, 2] > 0])
    return genomes, mask[None] & rasterize(genomes, mask.shape), real


def tidy(genome: Genome, mask: Mask) -> Genome:
    """The same mask from as few and as small patches as dropping and shrinking one at a time leaves; costs nothing.

    >>> tidy(jnp.array([[1, 1, 1], [0, 0, 0], [2, 2, 5]]), jnp.ones((3, 3), bool)).tolist()
    [[1, 1, -1], [0, 0, -1], [2, 2, 2]]
    """

    def free(genome: Genome) -> tuple[Genome, Array]:
        genomes, masks, real = neighbours(genome, mask)
        return genomes, real & (masks == mask[None]).all((1, 2))

    def body(state: tuple[Genome, Genome, Array]) -> tuple[Genome, Genome, Array]:
        _, genomes, is_free = state
        genome = genomes[jnp.argmax(is_free)]
        return genome, *free(genome)

    return jax.lax.while_loop(lambda state: state[2].any(), body, (genome, *free(genome)))[0]


def prune(
    genome: Genome,
    mask: Mask,
    complete: Array,
    look: Callable[[Mask], Array],
    *,
    budget: Array | int,
    descend: bool,
    size: int = MOST,
) -> Pruned:
    """Looks at the neighbours of a complete mask; goes on from the smallest complete one (`descend`) until there is
    none.

    Args:
      genome: int32[G, 3], of the mask bool[H, W]; what it covers outside of the mask stays outside.
      complete: bool[], whether the mask is; otherwise nothing is looked at.
      look: bool[size, H, W] -> `Broken` flags int32[size]. Where fewer than `size` are left, the rest are not charged.
      budget: the most masks to look at.
      descend: False only looks at the neighbours of the mask as it is, all of them.
    """
    pairs = 2 * genome.shape[0]

    def cond(state: tuple[Pruned, Array, Array]) -> Array:
        pruned, cursor, num = state
        return complete & (cursor < num) & (pruned.looked + jnp.minimum(size, num - cursor) <= budget)

    def body(state: tuple[Pruned, Array, Array]) -> tuple[Pruned, Array, Array]:
        pruned, cursor, num = state
        genomes, masks, real = neighbours(pruned.genome, pruned.mask)
        pixels = jnp.where(real, masks.sum((1, 2)), mask.size + 1)
        slots = jnp.pad(jnp.argsort(pixels), (0, size))[cursor + jnp.arange(size)]
        asked = cursor + jnp.arange(size) < num
        same = (masks[slots] == pruned.mask[None]).all((1, 2))
        flags = jnp.where(same, 0, look(masks[slots]))
        holds, looked = asked & (flags == 0), pruned.looked + asked.sum()
        known = pruned.broken.reshape(-1).at[jnp.where(asked, slots, pairs)].set(flags, mode="drop").reshape(2, -1)
        stay = Pruned(pruned.genome, pruned.mask, known, pruned.minimal, looked, pruned.steps), cursor + size, num
        if not descend:
            return stay

        def move(_) -> tuple[Pruned, Array, Array]:
            best = slots[jnp.argmax(holds)]  # the first is the smallest
            tidied = tidy(genomes[best], masks[best])
            nothing = jnp.full_like(known, UNKNOWN)
            moved = Pruned(tidied, masks[best], nothing, pruned.minimal, looked, pruned.steps + 1)
            return moved, jnp.int32(0), _num(tidied)

        return jax.lax.cond(holds.any(), move, lambda _: stay, None)

    genome = tidy(genome, mask) if descend else genome
    unknown = jnp.full((2, genome.shape[0]), UNKNOWN, jnp.int32)
    start = Pruned(genome, mask, unknown, jnp.bool_(False), jnp.int32(0), jnp.int32(0))
    pruned, cursor, num = jax.lax.while_loop(cond, body, (start, jnp.int32(0), _num(genome)))
    known = jnp.where(pruned.genome[:, 2] == 0, pruned.broken[:1], pruned.broken)  # at radius 0, shrinking is dropping
    minimal = complete & (cursor >= num) & ((known > 0) | ~is_active(pruned.genome)[None]).all()
    return Pruned(pruned.genome, pruned.mask, known, minimal, pruned.looked, pruned.steps)


def _num(genome: Genome) -> Array:
    """int32[], how many neighbours are real."""
    return (is_active(genome).sum() + (genome[:, 2] > 0).sum()).astype(jnp.int32)
