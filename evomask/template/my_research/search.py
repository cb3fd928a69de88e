"""What the search is made of: an operator, a fill and a term of the fitness."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from evomask import record


@record
class Jitter:
    """Mutation: every patch moves by up to `pixels`.

    A gene is (row, column, radius) of a patch, a genome int32[G, 3] of them.
    """

    pixels: float = 2.0

    def __call__(self, key, genome, space):
        step = jax.random.uniform(key, genome[:, :2].shape, minval=-1.0, maxval=1.0) * self.pixels
        limits = jnp.array([side - 1 for side in space.shape])
        return genome.at[:, :2].set(jnp.clip(genome[:, :2] + step.astype(jnp.int32), 0, limits[None]))


@record
class Negative:
    """Fill: a blanked pixel is shown as in a photograph's negative. Images are f32[H, W, C] in [0, 1]."""

    white: float = 1.0

    def __call__(self, key, image):
        return self.white - image


@record
class Rounded:
    """Term of the fitness, larger is better: minus the boundary that a mask has beyond a square of its area.

    An `evomask.Evaluation` says everything about P masks, a term returns f32[P].
    """

    needs_inverse: ClassVar[bool] = False  # no inverse mask has to be evaluated for it
    needs_features: ClassVar[bool] = False

    def __call__(self, evaluation, target):
        return -jnp.maximum(evaluation.boundary - jnp.sqrt(evaluation.area), 0.0)
