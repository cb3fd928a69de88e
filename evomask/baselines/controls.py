"""Controls that look at nothing, or only at chance: what every explainer must beat."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.baselines.base import compiled
from evomask.fills import Constant
from evomask.measures.budget import Spent
from evomask.search.batching import batch_size
from evomask.search.evaluate import evaluate
from evomask.types import RATIO, Array, Classifier, Key, Target, decide, record


@record
class RandomPatches:
    """The smallest complete one of random squares, as a mask bool[H, W].

    Draws budget / 2 - 1 squares beside the whole image, sides uniform in 1..min(H, W), centres uniform, clipped at
    the border, and evaluates each masked and inverse-masked. A square is complete when it keeps the label with at
    least `ratio` of the probability that the whole image has, and its inverse loses the label. Without a complete
    one: the square whose smaller margin, of keeping the label and of losing it in the inverse, is greatest. The
    score is itself a mask.
    """

    ratio: float = RATIO
    fill: Callable = Constant()

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=2 * (_squares(budget) + 1))

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        fill_key, patch_key = jax.random.split(key)
        blank = self.fill(fill_key, image)
        squares = random_squares(patch_key, _squares(budget), *image.shape[:2])
        masks = jnp.concatenate([jnp.full_like(squares[:1], True), squares])
        target = Target(image, label, jnp.nan)  # its confidence comes with the others, as that of the first mask
        found = evaluate(
            classifier, target, blank, masks, inverse=True, features=False, batch_size=batch_size(classifier)
        )
        enough = self.ratio * found.confidence[0]
        complete = decide(found.margin, found.confidence, found.inverse_margin, enough).complete
        smallest = jnp.argmin(jnp.where(complete, found.area, jnp.inf))
        nearest = jnp.argmax(jnp.minimum(found.margin, -found.inverse_margin))
        return masks[jnp.where(complete.any(), smallest, nearest)]


@record
class RandomPixels:
    """Uniform noise in [0, 1) as a score: the pixels in a random order. Spends nothing."""

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent()

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        return jax.random.uniform(key, image.shape[:2])


@record
class CentredSquare:
    """1 at the centre, 0 at the border, constant on centred rectangles of the image's proportions. Spends nothing."""

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent()

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        height, width, _ = image.shape
        row, col = (jnp.abs(2 * jnp.arange(side) + 1 - side).astype(jnp.float32) / side for side in (height, width))
        return 1.0 - jnp.maximum(row[:, None], col[None, :])


def random_squares(key: Key, num: int, height: int, width: int) -> Array:
    """bool[num, H, W]: one square each, sides uniform in 1..min(H, W), centres uniform, clipped at the border."""
    side_key, row_key, col_key = jax.random.split(key, 3)
    side = jax.random.randint(side_key, (num, 1), 1, min(height, width) + 1)
    row = jax.random.randint(row_key, (num, 1), 0, height) - side // 2
    col = jax.random.randint(col_key, (num, 1), 0, width) - side // 2
    rows = (jnp.arange(height)[None] >= row) & (jnp.arange(height)[None] < row + side)
    cols = (jnp.arange(width)[None] >= col) & (jnp.arange(width)[None] < col + side)
    return rows[:, :, None] & cols[:, None, :]


def _squares(budget: int) -> int:
    return max(budget // 2 - 1, 1)
