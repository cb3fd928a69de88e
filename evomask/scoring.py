"""The score matrix: how much each pixel contributed to the decision, without a gradient.

A scoring rule is `(genome int32[G, 3], evaluation, feasible bool[], space) -> f32[H, W]`: what the best individual so
far, with its evaluation (fields f32[]), adds to the running sum after each generation.
"""

from __future__ import annotations

import jax.numpy as jnp

from evomask.genome import Space, coverage, rasterize
from evomask.types import Array, Evaluation, Genome, Mask, record


@record
class BestOfGeneration:
    """The published rule: every patch of the generation's best individual adds score / (pixels of its mask).

    The score is the confidence of the masked image, and -1 where the class changed or the inverse keeps it. Overlapping
    patches add up, so pixels that many patches agree on stand out, and smaller masks say more per pixel. (Run from top to
    bottom, the published code stops here with a TypeError: it calls its `score_mask` with one argument too few.)
    """

    def __call__(self, genome: Genome, evaluation: Evaluation, feasible: Array, space: Space) -> Array:
        score = jnp.where(feasible, evaluation.confidence, -1.0)
        return _inside(space, coverage(genome, space.shape)) * score / _pixels(evaluation, space)


@record
class BestFeasible:
    """The mask of the generation's best individual shares out its confidence among its pixels, if it breaks no constraint.

    So a pixel has no score until a mask with it holds, and the more the longer the search cannot do without it: what
    decides is at the top, then what smaller masks needed no more. Patches that overlap count once. Where no mask ever
    holds, only the final one has a score.

    >>> from evomask.genome import space
    >>> everywhere, patches = space(jnp.ones((1, 3), bool), jnp.array([1])), jnp.array([[0, 0, 1], [0, 0, 0]])
    >>> evaluation = Evaluation(*map(jnp.float32, (2 / 3, 0.5, 1.0, 0.1, -1.0, jnp.nan)))
    >>> BestFeasible()(patches, evaluation, jnp.array(True), everywhere)
    Array([[0.25, 0.25, 0.  ]], dtype=float32)
    """

    def __call__(self, genome: Genome, evaluation: Evaluation, feasible: Array, space: Space) -> Array:
        score = jnp.where(feasible, evaluation.confidence, 0.0)
        return _inside(space, rasterize(genome, space.shape).astype(jnp.float32)) * score / _pixels(evaluation, space)


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


def _inside(space: Space, values: Array) -> Array:
    return jnp.where(space.region, values, 0.0)


def _pixels(evaluation: Evaluation, space: Space) -> Array:
    return jnp.maximum(evaluation.area * space.region.size, 1.0)
