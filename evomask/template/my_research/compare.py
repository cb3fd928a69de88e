"""What evomask is compared with, and by: a baseline and a metric."""

import jax.numpy as jnp

from evomask import record
from evomask.baselines.base import compiled
from evomask.measures.budget import Spent


@record
class Brightness:
    """Baseline: bright pixels are important. Its score is f32[H, W]; it asks the classifier for nothing."""

    gain: float = 1.0

    __call__ = compiled

    def cost(self, image_shape, budget):
        """What is spent on one image; what is sent through the classifier is counted, and must agree."""
        return Spent(0)

    def explain(self, classifier, image, label, key, budget):
        return self.gain * image.mean(-1)


def middle(asked):
    """Metric f32[B] of heat maps `asked.score` f32[B, H, W]: the share of the middle quarter."""
    score = jnp.maximum(jnp.asarray(asked.score, jnp.float32), 0.0)  # what speaks against the class does not count
    height, width = score.shape[1:]
    inside = score[:, height // 4 : height - height // 4, width // 4 : width - width // 4].sum((1, 2))
    return inside / jnp.maximum(score.sum((1, 2)), 1e-9)
