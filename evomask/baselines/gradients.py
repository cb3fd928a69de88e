"""Integrated gradients and SmoothGrad: the gradient of the label's logit with respect to the pixels."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.baselines.base import compiled
from evomask.fills import Constant
from evomask.measures.budget import Spent
from evomask.prng import unrolled
from evomask.search.batching import batch_size, in_batches
from evomask.types import Array, Classifier, Key, record, static


@record
class IntegratedGradients:
    """Integrated gradients (Sundararajan et al. 2017, eq. 3), summed over the channels; range (-inf, inf).

    (x - x') times the mean gradient of the label's logit at the midpoints of `steps` equal parts of the straight
    way from the blank image x' to x. The sum over the pixels tends to logit(x) - logit(x') as the steps grow.
    Spends min(steps, budget / 2) forward and as many backward passes.
    """

    steps: int = static(default=64)
    fill: Callable = Constant()

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        steps = _affordable(self.steps, budget)
        return Spent(forward=steps, backward=steps)

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        steps = _affordable(self.steps, budget)
        blank = self.fill(key, image)
        way = (jnp.arange(steps, dtype=jnp.float32) + 0.5) / steps

        def gradients(way: Array) -> Array:
            images = blank[None] + way[:, None, None, None] * (image - blank)[None]
            return _gradients(classifier, images, label)

        mean = in_batches(gradients, way, batch_size(classifier)).mean(0)
        return ((image - blank) * mean).sum(-1)


@record
class SmoothGrad:
    """SmoothGrad (Smilkov et al. 2017): the mean gradient of the label's logit over noisy copies of the image.

    Then the absolute value and the greatest channel, as in the paper; range [0, inf). The noise is normal with a
    standard deviation of `noise` times the image's own range. Spends min(samples, budget / 2) forward and as many
    backward passes. Noisy images are not clipped to [0, 1], as in the paper.
    """

    samples: int = static(default=50)
    noise: float = 0.15

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        samples = _affordable(self.samples, budget)
        return Spent(forward=samples, backward=samples)

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        deviation = self.noise * (image.max() - image.min())

        def gradients(number: Array) -> Array:
            noise = jax.vmap(lambda n: jax.random.normal(unrolled(jax.random.fold_in(key, n)), image.shape))(number)
            return _gradients(classifier, image[None] + deviation * noise, label)

        found = in_batches(gradients, jnp.arange(_affordable(self.samples, budget)), batch_size(classifier))
        return jnp.abs(found.mean(0)).max(-1)


def _affordable(steps: int, budget: int) -> int:
    return max(min(steps, budget // 2), 1)


def _gradients(classifier: Classifier, images: Array, label: Array) -> Array:
    """f32[N, H, W, C]: of the label's logit, each image on its own."""
    return jax.grad(lambda images: classifier(images)[:, label].sum())(images)
