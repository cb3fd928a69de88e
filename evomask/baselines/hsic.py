"""HSIC attribution: how strongly the label's probability depends on each cell of a grid being shown."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.baselines.base import compiled, probability, upsample
from evomask.fills import Constant, apply
from evomask.measures.budget import Spent
from evomask.search.batching import batch_size, in_batches
from evomask.types import Array, Classifier, Key, record, static


@record
class HSIC:
    """HSIC attribution (Novello et al. 2022): the dependence of the output on each cell; range [0, inf).

    N = budget binary grids from a Latin hypercube (every cell is shown in half of them), each cell enlarged to a
    rectangle of pixels; the score of a cell is its Hilbert-Schmidt independence criterion with the label's
    probability, enlarged bilinearly. Dependence has no sign: a cell that hides the class scores like one that
    shows it. Where the probability never changes, the score is zero everywhere. The default grid is 7 x 7, and
    8 x 8 below 64 pixels. Xplique takes the median of the outputs as the width of the output kernel; here it is
    their standard deviation, for the median is next to zero where most masked images lose the class.
    """

    grid: int | None = static(default=None)
    fill: Callable = Constant()

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=budget)

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        height, width, _ = image.shape
        fill_key, grid_key = jax.random.split(key)
        blank = self.fill(fill_key, image)
        grid = self.grid or (7 if min(height, width) >= 64 else 8)
        half = jnp.broadcast_to((jnp.arange(budget) % 2 == 0)[:, None], (budget, grid * grid))
        shown = jax.random.permutation(grid_key, half, axis=0, independent=True)

        def probabilities(shown: Array) -> Array:
            cells = shown.reshape(-1, grid, grid)
            masks = cells[:, jnp.arange(height) * grid // height][:, :, jnp.arange(width) * grid // width]
            return probability(classifier, apply(masks, image, blank), label)

        found = in_batches(probabilities, shown, batch_size(classifier))
        score = hsic(shown, found, jnp.maximum(found.std(), 1e-6))
        return upsample(score.reshape(grid, grid), height, width)


def hsic(shown: Array, outputs: Array, width: Array) -> Array:
    """bool[N, D], f32[N], f32[] -> tr(K_d H L H) / N, f32[D], the biased HSIC of each binary input with the output.

    L is the Gaussian kernel of the outputs, K_d the kernel 1/2 - (x - x')^2 of a binary input. With s = x - 1/2
    that is 2 s s', of rank one, so the trace is 2 s' H L H s and no N x N matrix is needed for any input.
    """
    kernel = jnp.exp(-jnp.square(outputs[:, None] - outputs[None, :]) / (2.0 * width**2))
    signs = shown.astype(jnp.float32) - 0.5
    signs = signs - signs.mean(0, keepdims=True)
    return 2.0 * jnp.einsum("nd,nd->d", signs, kernel @ signs) / len(outputs)
