"""The score matrix: how much each pixel contributed to the decision, without a gradient.

A scoring rule is `(genome int32[G, 3], evaluation, feasible bool[], space) -> f32[H, W]`: what the best individual so
far, with its evaluation (fields f32[]), adds to the running sum after each generation.
"""

from __future__ import annotations

import jax.numpy as jnp

from evomask.search.genome import Space, coverage
from evomask.types import Array, Evaluation, Genome, Mask, record


@record
class BestOfGeneration:
    """The published rule: every patch of the generation's best individual adds score / (pixels of its mask).

    The score is the confidence of the masked image, and `infeasible` where the class changed or the inverse keeps it
    (or another constraint is broken): -1 as published. With 0 only masks that hold say what a pixel contributes; where
    none ever does, only the final mask has a score. Overlapping patches add up, so pixels that many patches agree on
    stand out, and smaller masks say more per pixel. (Run from top to bottom, the published code stops here with a
    TypeError: it calls its `score_mask` with one argument too few.)

    >>> from evomask.search.genome import space
    >>> everywhere, patches = space(jnp.ones((1, 3), bool), jnp.array([1])), jnp.array([[0, 0, 1], [0, 0, 0]])
    >>> evaluation = Evaluation(*map(jnp.float32, (2 / 3, 0.5, 1.0, 0.1, -1.0, jnp.nan, 1.0)))
    >>> BestOfGeneration()(patches, evaluation, jnp.array(True), everywhere)
    Array([[0.5 , 0.25, 0.  ]], dtype=float32)
    """

    infeasible: float = -1.0

    def __call__(self, genome: Genome, evaluation: Evaluation, feasible: Array, space: Space) -> Array:
        score = jnp.where(feasible, evaluation.confidence, self.infeasible)
        pixels = jnp.maximum(evaluation.area * space.region.size, 1.0)
        return jnp.where(space.region, coverage(genome, space.shape), 0.0) * score / pixels


def normalize(total: Array, mask: Mask, inside_only: bool) -> Array:
    """The sum of all generations -> score f32[H, W] in [0, 1]: negative sums count as none, the largest becomes one.

    Args:
      total: f32[H, W], what the scoring rule added up.
      mask: bool[H, W], the final mask.
      inside_only: the published form, where pixels outside the final mask score zero. Otherwise they follow below every
        pixel of the mask, in the order of their own sums, so that the score ranks the whole image.

    >>> total, mask = jnp.array([[4.0, 2.0, 3.0, -1.0]]), jnp.array([[True, True, False, False]])
    >>> normalize(total, mask, inside_only=True)
    Array([[1. , 0.5, 0. , 0. ]], dtype=float32)
    >>> normalize(total, mask, inside_only=False)
    Array([[1.   , 0.75 , 0.375, 0.   ]], dtype=float32)
    """
    total = jnp.maximum(total, 0.0)
    inside = jnp.where(mask, total, 0.0)
    inside = inside / jnp.maximum(inside.max(), jnp.finfo(jnp.float32).tiny)
    if inside_only:
        return inside
    outside = jnp.where(mask, 0.0, total)
    outside = outside / jnp.maximum(outside.max(), jnp.finfo(jnp.float32).tiny)
    return jnp.where(mask, 0.5 + 0.5 * inside, 0.375 * outside)
