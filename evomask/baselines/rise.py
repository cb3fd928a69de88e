"""RISE: random smooth masks, weighted by the probability of the label under each."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from evomask.baselines.base import compiled, probability
from evomask.fills import Constant
from evomask.measures.budget import Spent
from evomask.search.batching import batch_size, chunks
from evomask.types import Array, Classifier, Key, record, static


@record
class RISE:
    """RISE (Petsiuk et al. 2018, eq. 6): sum_i p(label | mask_i) mask_i / (N keep); range [0, 1 / keep].

    N = budget. A mask is a random grid, every cell kept with probability `keep`, enlarged bilinearly to (grid + 1)
    cells and cropped at a random shift. The paper's grid for 224 x 224 is 7 x 7; below 64 pixels the default is 4
    x 4, which keeps the cells of a 32 x 32 image at 8 pixels rather than 5. Masks are soft: pixel = mask * image +
    (1 - mask) * blank.
    """

    keep: float = 0.5
    grid: int | None = static(default=None)
    fill: Callable = Constant()

    __call__ = compiled

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=budget)

    def explain(self, classifier: Classifier, image: Array, label: Array, key: Key, budget: int) -> Array:
        height, width, _ = image.shape
        fill_key, grid_key, shift_key = jax.random.split(key, 3)
        blank = self.fill(fill_key, image)
        grid = self.grid or (7 if min(height, width) >= 64 else 4)
        cells = jax.random.bernoulli(grid_key, self.keep, (budget, grid, grid)).astype(jnp.float32)
        limit = jnp.asarray([math.ceil(height / grid), math.ceil(width / grid)])
        shifts = jax.random.randint(shift_key, (budget, 2), 0, limit[None])

        def add(total: Array, batch: tuple[Array, Array]) -> tuple[Array, None]:
            masks = smooth_masks(*batch, height, width)
            soft = masks[..., None]
            found = probability(classifier, soft * image[None] + (1.0 - soft) * blank[None], label)
            return total + jnp.einsum("n,nhw->hw", found, masks), None  # padding is a mask of zeros and adds nothing

        batches = chunks((cells, shifts), min(batch_size(classifier), budget))
        total, _ = jax.lax.scan(add, jnp.zeros((height, width)), batches)
        return total / (budget * self.keep)


def smooth_masks(cells: Array, shifts: Array, height: int, width: int) -> Array:
    """Grids f32[N, g, g] and shifts int[N, 2] -> masks f32[N, H, W] in [0, 1].

    Each grid is enlarged bilinearly to (g + 1) cells of ceil(side / g) pixels and cropped to the image from the
    shift on.
    """
    num = cells.shape[-1]

    def enlargement(side: int, shift: Array) -> Array:  # f32[side, g], what remains of the bilinear enlargement
        whole = (num + 1) * math.ceil(side / num)
        rows = jax.image.resize(jnp.eye(num), (whole, num), "bilinear", antialias=False)
        return jax.lax.dynamic_slice_in_dim(rows, shift, side)

    def mask(cells: Array, shift: Array) -> Array:
        return enlargement(height, shift[0]) @ cells @ enlargement(width, shift[1]).T

    return jax.vmap(mask)(cells, shifts)
