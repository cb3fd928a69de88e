"""Occlusion: how much probability the label loses when a window of the image is blanked."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from evomask.baselines.base import compiled, probability
from evomask.fills import Constant, apply
from evomask.measures.budget import BudgetExceeded, Spent
from evomask.search.batching import batch_size, in_batches
from evomask.types import Array, Classifier, InputError, Key, record, static


@record
class Occlusion:
    """Occlusion (Zeiler & Fergus 2014): the mean drop of the label's probability over the windows that cover a pixel.

    Range [-1, 1]. The stride is the smallest with which the windows and the whole image fit into the budget.
    `window` is the side in pixels, by default a seventh of the image's, or the stride if that is more, so that
    every pixel is covered. The last window ends at the border.
    """

    window: int | None = static(default=None)
    fill: Callable = Constant()

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        rows, cols = self.windows(image_shape, budget)
        return Spent(forward=len(rows) * len(cols) + 1)

    def windows(self, image_shape: tuple[int, ...], budget: int) -> tuple[np.ndarray, np.ndarray]:
        """bool[R, H] and bool[C, W]: the rows and the columns that the R x C windows cover."""
        sides = image_shape[:2]
        if self.window is not None and not 1 <= self.window <= min(sides):
            raise InputError(
                f"window must lie in 1..{min(sides)} for an image of {sides[0]} x {sides[1]} pixels, got {self.window}"
            )
        for stride in range(1, max(sides) + 1):
            # Windows further apart than they are wide would leave pixels without a score.
            windows = [min(self.window or max(round(side / 7), stride), side) for side in sides]
            rows, cols = (_starts(side, window, stride) for side, window in zip(sides, windows, strict=True))
            if len(rows) * len(cols) < budget:
                break
        if stride > max(windows):
            raise BudgetExceeded(
                f"windows of {self.window} pixels need more than {budget} evaluations to cover an "
                f"image of {sides[0]} x {sides[1]} pixels: enlarge the window or the budget"
            )
        return tuple(  # pyright: ignore[reportReturnType]
            (np.arange(side)[None] >= starts[:, None]) & (np.arange(side)[None] < starts[:, None] + window)
            for side, window, starts in zip(sides, windows, (rows, cols), strict=True)
        )

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        blank = self.fill(key, image)
        rows, cols = (jnp.asarray(side) for side in self.windows(image.shape, budget))
        number = jnp.arange(len(rows) * len(cols) + 1)  # the last one is the whole image

        def probabilities(number: Array) -> Array:
            row, col = number // len(cols), number % len(cols)
            window = jnp.take(rows, row, axis=0, mode="fill", fill_value=False)[:, :, None] & cols[col][:, None, :]
            return probability(classifier, apply(~window, image, blank), label)

        found = in_batches(probabilities, number, batch_size(classifier))
        drop = (found[-1] - found[:-1]).reshape(len(rows), len(cols))
        rows, cols = rows.astype(jnp.float32), cols.astype(jnp.float32)
        return (rows.T @ drop @ cols) / (rows.sum(0)[:, None] * cols.sum(0)[None, :])


def _starts(side: int, window: int, stride: int) -> np.ndarray:
    """First pixels of windows `stride` apart, the last one flush with the border."""
    return np.unique(np.minimum(np.arange(0, side - window + stride, stride), side - window))
