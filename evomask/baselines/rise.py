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
        fill_key, grid_key, shift_key = jax.random.split(key, 3)
        grid = self.grid or (7 if min(image.shape[:2]) >= 64 else 4)
        says = lambda images: probability(classifier, images, label)
        keys, size = (grid_key, shift_key), min(batch_size(classifier), budget)
        return weighted_masks(keys, says, image, self.fill(fill_key, image), budget, self.keep, grid, size)


def weighted_masks(
    keys: tuple[Key, Key],
    says: Callable[[Array], Array],
    image: Array,
    blank: Array,
    num: int,
    keep: Array | float,
    grid: int,
    size: int,
) -> Array:
    """f32[H, W], the sum of random smooth masks, each times what is said of the image under it, over (num keep).

    Args:
      keys: of the cells that are shown, and of the shifts.
      says: images f32[N, H, W, C] -> f32[N].
      num: masks, which are asked about in calls of `size`.
      keep: probability that a cell of grid x grid is shown.
    """
    height, width, _ = image.shape
    grid_key, shift_key = keys
    cells = jax.random.bernoulli(grid_key, keep, (num, grid, grid)).astype(jnp.float32)
    limit = jnp.asarray([math.ceil(height / grid), math.ceil(width / grid)])
    shifts = jax.random.randint(shift_key, (num, 2), 0, limit[None])

    def add(total: Array, batch: tuple[Array, Array]) -> tuple[Array, None]:
        masks = smooth_masks(*batch, height, width)
        soft = masks[..., None]
        found = says(soft * image[None] + (1.0 - soft) * blank[None])
        return total + jnp.einsum("n,nhw->hw", found, masks), None  # padding is a mask of zeros and adds nothing

    total, _ = jax.lax.scan(add, jnp.zeros((height, width)), chunks((cells, shifts), size))
    return total / (num * keep)


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
