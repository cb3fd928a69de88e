"""Sobol attribution: how much of the output's variance is lost where a cell of a grid is known."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.baselines.base import compiled, probability, upsample
from evomask.fills import Constant
from evomask.measures.budget import Spent
from evomask.search.batching import batch_size, in_batches
from evomask.types import Array, Classifier, Key, record, static

LEAST_DESIGNS = 4  # of a grid that is made coarser where the budget is small


@record
class Sobol:
    """Sobol attribution (Fel et al. 2021): the total Sobol index of each cell of a grid; range [0, inf).

    N designs A and B of soft masks, a number in [0, 1] for every cell, come from a Sobol sequence, moved as a whole
    by chance (a Cranley-Patterson rotation, for the sequence itself is always the same); C_i is A with cell i from B.
    The index of a cell is Jansen's estimate, mean (p(A) - p(C_i))^2 / 2 var p, p the label's probability of the
    picture under the enlarged mask. N (cells + 2) evaluations. The paper's grid is 8 x 8, here coarser where the
    budget does not allow four designs of it. Variance has no sign. Where the probability never changes, the score is
    zero everywhere.
    """

    grid: int | None = static(default=None)
    fill: Callable = Constant()

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        grid, designs = self._sizes(budget)
        return Spent(forward=max(designs, 1) * (grid**2 + 2))

    def _sizes(self, budget: int) -> tuple[int, int]:
        """The side of the grid and the number of designs."""
        fits = lambda side: LEAST_DESIGNS * (side**2 + 2) <= budget
        grid = self.grid or next((side for side in range(8, 1, -1) if fits(side)), 1)
        return grid, budget // (grid**2 + 2)

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        from scipy.stats import qmc  # changes the filters of warnings, which an import of evomask must not

        height, width, _ = image.shape
        fill_key, rotation_key = jax.random.split(key)
        blank = self.fill(fill_key, image)
        grid, designs = self._sizes(budget)
        cells = grid**2
        sequence = qmc.Sobol(2 * cells, scramble=False).random_base2(
            (designs - 1).bit_length()
        )  # a power of two of points
        points = jnp.asarray(sequence[:designs], jnp.float32)
        points = (points + jax.random.uniform(rotation_key, (1, 2 * cells))) % 1.0

        def probabilities(cells: Array) -> Array:
            soft = jax.vmap(lambda cells: upsample(cells.reshape(grid, grid), height, width))(cells)[..., None]
            return probability(classifier, soft * image[None] + (1.0 - soft) * blank[None], label)

        masks = replicated(*jnp.split(points, 2, axis=1)).reshape(-1, cells)
        outputs = in_batches(probabilities, masks, batch_size(classifier)).reshape(cells + 2, designs)
        return upsample(total_indices(outputs).reshape(grid, grid), height, width)


def replicated(first: Array, second: Array) -> Array:
    """f32[N, D], f32[N, D] -> f32[D + 2, N, D]: both designs, and the first with each column of the second."""
    swapped = jnp.where(jnp.eye(first.shape[1], dtype=bool)[:, None, :], second[None], first[None])
    return jnp.concatenate([first[None], second[None], swapped])


def total_indices(outputs: Array) -> Array:
    """f32[D + 2, N] of what `replicated` returns -> the total Sobol index of each input, f32[D], by Jansen (1999)."""
    variance = outputs[0].var()
    unexplained = jnp.square(outputs[:1] - outputs[2:]).mean(1) / 2.0
    return jnp.where(variance <= 1e-12, 0.0, unexplained / jnp.maximum(variance, 1e-12))
