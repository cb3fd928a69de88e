"""Masks of every size that a search believed in, so that the choice among them can be made on further showings."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.search.genome import OFF
from evomask.search.surrogate import log_odds
from evomask.types import Array, Evaluation, Genome, Mask, Target, record, static


@record
class Rungs:
    """In each of N bins of area, the mask that is believed to be furthest from incomplete."""

    surplus: Array  # f32[N], see `surplus`; -inf where there was none
    genome: Array  # int32[N, G, 3]
    mask: Mask  # bool[N, H, W]


@record
class Ladder:
    """Fills `bins` rungs; bin i of N holds areas from (i / N)^2 to ((i + 1) / N)^2, as in `front.Collect`."""

    demand: str = static(default="complete")  # or "sufficient", "necessary"
    bins: int = static(default=40)

    def init(self, shape: tuple[int, int], genes: int) -> Rungs:
        """Empty rungs, of masks of H x W pixels."""
        genomes, masks = jnp.full((self.bins, genes, 3), OFF, jnp.int32), jnp.zeros((self.bins, *shape), bool)
        return Rungs(jnp.full(self.bins, -jnp.inf), genomes, masks)

    def add(self, rungs: Rungs, genomes: Genome, masks: Mask, believed: Evaluation, target: Target) -> Rungs:
        """The rungs after P genomes int32[P, G, 3] and their masks bool[P, H, W]: one changes where a mask does better.

        >>> from evomask.search import genome
        >>> genomes = jnp.array([[[0, 0, 0]], [[0, 1, 0]], [[0, 0, 1]]])
        >>> masks = genome.rasterize(genomes, (1, 2))
        >>> figures = [0.5, 0.5, 1.0], [0.85, 0.9, 0.95], [1.0, 2.0, 3.0], [0.1, 0.1, 0.1], [-3.0, -3.0, -3.0]
        >>> seen = Evaluation(*map(jnp.array, figures), *jnp.zeros((2, 3)))
        >>> target = Target(jnp.zeros((1, 2, 1)), jnp.int32(0), jnp.float32(0.9))
        >>> rungs = Ladder(bins=2).add(Ladder(bins=2).init((1, 2), 1), genomes, masks, seen, target)
        >>> [round(float(one), 2) for one in rungs.surplus], rungs.mask.astype(int).reshape(2, 2).tolist()
        ([-inf, 1.49], [[0, 0], [1, 1]])
        """
        bins = len(rungs.surplus)
        slot = jnp.minimum((jnp.sqrt(believed.area) * bins).astype(jnp.int32), bins - 1)
        room = jnp.where(
            slot[None] == jnp.arange(bins)[:, None], surplus(believed, target, self.demand)[None], -jnp.inf
        )
        best, most = jnp.argmax(room, axis=1), room.max(1)
        fresh = Rungs(most, genomes[best], masks[best])
        better = most > rungs.surplus
        return jax.tree.map(lambda new, old: jnp.where(_like(better, new), new, old), fresh, rungs)


def surplus(evaluation: Evaluation, target: Target, demand: str = "complete") -> Array:
    """f32[P], nats by which the tightest condition of what is demanded is met; -inf where something is unknown.

    A condition on confidences is measured in log-odds, in which a network's outputs err alike near 0.5 and near 1.
    """
    enough = log_odds(evaluation.confidence) - log_odds(target.ratio * target.confidence)
    sufficient, necessary = jnp.minimum(evaluation.margin, enough), -evaluation.inverse_margin
    least = {"sufficient": sufficient, "necessary": necessary}.get(demand, jnp.minimum(sufficient, necessary))
    return jnp.where(jnp.isnan(least), -jnp.inf, least)


def _like(flags: Array, fields: Array) -> Array:
    """bool[N], with as many axes as fields [N, ...]."""
    return flags.reshape(-1, *[1] * (fields.ndim - 1))
