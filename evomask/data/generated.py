"""Image sets that are generated, so that the pixels that decide are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from evomask.data.sets import Dataset
from evomask.types import Array, InputError, Key

PLANTED_SIDE = 6  # pixels; every pattern has as many bright as dark ones
SHAPES = ("disc", "square", "triangle", "cross")  # the things of scenes
PLANTED_LABELS = ("rows", "columns", "checks", "diagonals")


def planted_evidence(key: Key, num: int, size: int = 32, distractors: int = 3) -> tuple[Array, Array, Array]:
    """Images whose class is decided by one small patch at a random place and by nothing else.

    The background is smooth grey noise. The evidence is a 6 x 6 pattern of rows, columns, checks or diagonals, the
    class. Each distractor is a patch of the same size, contrast and share of bright pixels in random order. Patches
    never overlap: each lies in a cell of its own of an 8 x 8 grid, at a random offset, in a random tint.

    Args:
      key: one key.
      num: images.
      size: height and width in pixels, a multiple of 8 with more cells than patches.
      distractors: patches that say nothing.

    Returns:
      images f32[num, size, size, 3] in [0, 1], labels int32[num] in 0 .. 3 (`PLANTED_LABELS`), and the truth
      bool[num, size, size], True on the evidence.

    Raises:
      InputError: when the patches do not fit.

    >>> images, labels, truth = jax.jit(planted_evidence, static_argnums=1)(jax.random.key(0), 5)
    >>> images.shape, truth.sum((1, 2))
    ((5, 32, 32, 3), Array([36, 36, 36, 36, 36], dtype=int32))
    """
    cell = PLANTED_SIDE + 2
    if size % cell or (size // cell) ** 2 <= distractors:
        raise InputError(
            f"size {size} must be a multiple of {cell} with more than {distractors} cells of {cell} x {cell}"
        )
    return jax.vmap(lambda k: _planted(k, size, distractors))(jax.random.split(key, num))


def _planted(key: Key, size: int, distractors: int) -> tuple[Array, Array, Array]:
    background_key, label_key, cell_key, offset_key, shuffle_key, tint_key, noise_key = jax.random.split(key, 7)
    side, cell, patches = PLANTED_SIDE, PLANTED_SIDE + 2, distractors + 1
    label = jax.random.randint(label_key, (), 0, len(PLANTED_LABELS))
    coarse = jax.random.uniform(background_key, (4, 4, 1), minval=0.35, maxval=0.65)
    image = jnp.broadcast_to(jax.image.resize(coarse, (size, size, 1), "linear"), (size, size, 3))
    shuffled = jax.vmap(lambda k: jax.random.permutation(k, jnp.arange(side * side) % 2))
    random_patches = shuffled(jax.random.split(shuffle_key, distractors)).reshape(distractors, side, side)
    bright = jnp.concatenate([_patterns()[label][None], random_patches]).astype(jnp.float32)
    tints = jax.random.uniform(tint_key, (patches, 1, 1, 3), minval=0.7, maxval=1.0)
    across = size // cell
    cells = jax.random.choice(cell_key, across * across, (patches,), replace=False)
    corners = cell * jnp.stack([cells // across, cells % across], axis=1)
    corners += jax.random.randint(offset_key, (patches, 2), 0, cell - side + 1)
    truth = jnp.zeros((size, size), bool)
    for i in range(patches):
        start = (corners[i, 0], corners[i, 1])
        image = jax.lax.dynamic_update_slice(image, bright[i][..., None] * tints[i], (*start, 0))
        if i == 0:
            truth = jax.lax.dynamic_update_slice(truth, jnp.ones((side, side), bool), start)
    noise = 0.03 * jax.random.normal(noise_key, image.shape)
    return jnp.clip(image + noise, 0.0, 1.0), label, truth


def _patterns() -> Array:
    """int32[4, 6, 6] of zeros and ones, half of each."""
    row, col = jnp.mgrid[:PLANTED_SIDE, :PLANTED_SIDE]
    return jnp.stack([row % 2, col % 2, (row // 3 + col // 3) % 2, (row + col) % 6 // 3])


def planted(num: int = 4096, seed: int = 0, size: int = 32) -> tuple[Dataset, Dataset]:
    """`planted_evidence` as a training set of `num` images and a test set of a quarter as many.

    >>> [len(part) for part in planted(64)]
    [64, 16]
    """

    train_key, test_key = jax.random.split(jax.random.key(seed))
    keys = jnp.concatenate([jax.random.split(train_key, num), jax.random.split(test_key, num // 4)])
    draw = jax.jit(jax.vmap(lambda key: _planted(key, size, 3)[:2]))  # both sets by one program
    pixels, labels = jax.device_get(draw(keys))
    images = np.asarray(np.round(255 * pixels), np.uint8)
    return Dataset(images[:num], labels[:num], PLANTED_LABELS), Dataset(images[num:], labels[num:], PLANTED_LABELS)


def scenes(key: Key, num: int, size: int = 64, things: int = 4) -> tuple[Array, Array, Array]:
    """Pictures of a few things of several shapes, for a detector to find.

    On a coloured ground of smooth noise lie two to `things` discs, squares, triangles and crosses in colours of their
    own, of a radius of a tenth to a sixth of the picture, each in a cell of its own of a 3 x 3 grid, at a random
    offset: they may touch, and the later one then covers a little of the earlier one.

    Args:
      key: one key.
      num: pictures.
      size: height and width in pixels, 32 or more.
      things: the most that one picture has, 2 to 9.

    Returns:
      images f32[num, size, size, 3] in [0, 1], boxes f32[num, things, 4] as (left, top, right, bottom) in pixels, and
      shapes int32[num, things], indices into `SHAPES`; -1 where there is none.

    Raises:
      InputError: `size` or `things` is not what it must be.

    >>> images, boxes, shapes = jax.jit(scenes, static_argnums=1)(jax.random.key(0), 5)
    >>> images.shape, boxes.shape, (shapes >= 0).sum(1)
    ((5, 64, 64, 3), (5, 4, 4), Array([4, 3, 2, 2, 3], dtype=int32))
    """
    if size < 32 or not 2 <= things <= 9:
        raise InputError(f"scenes of {things} things and {size} pixels: give 2 to 9 things, and 32 pixels or more")
    return jax.vmap(lambda k: _scene(k, size, things))(jax.random.split(key, num))


def _scene(key: Key, size: int, things: int) -> tuple[Array, Array, Array]:
    ground_key, count_key, cell_key, offset_key, radius_key, shape_key, colour_key, noise_key = jax.random.split(key, 8)
    coarse = jax.random.uniform(ground_key, (5, 5, 3), minval=0.2, maxval=0.6)
    image = jax.image.resize(coarse, (size, size, 3), "linear")
    cells = jax.random.choice(cell_key, 9, (things,), replace=False)
    corners = jnp.stack([cells % 3, cells // 3], 1).astype(jnp.float32) * (size / 3)  # x, y
    centres = corners + jax.random.uniform(offset_key, (things, 2), minval=0.12, maxval=0.21) * size
    radii = jax.random.uniform(radius_key, (things,), minval=0.1, maxval=0.17) * size
    shapes = jax.random.randint(shape_key, (things,), 0, len(SHAPES))
    colours = jax.random.uniform(colour_key, (things, 3), minval=0.0, maxval=1.0)
    colours = jnp.where(colours.sum(1, keepdims=True) > 1.5, 0.5 + 0.5 * colours, 0.4 * colours)  # clear of the ground
    there = jnp.arange(things) < jax.random.randint(count_key, (), 2, things + 1)
    for i in range(things):
        inside = _shapes(centres[i], radii[i], size)[shapes[i]] & there[i]
        image = jnp.where(inside[..., None], colours[i][None, None], image)
    image += 0.04 * jax.random.normal(noise_key, image.shape)
    boxes = jnp.concatenate([centres - radii[:, None], centres + radii[:, None]], 1)
    return jnp.clip(image, 0.0, 1.0), boxes, jnp.where(there, shapes, -1)


def _shapes(centre: Array, radius: Array, size: int) -> Array:
    """bool[4, size, size], the pixels of each shape about one centre (x, y)."""
    row, column = jnp.mgrid[:size, :size].astype(jnp.float32) + 0.5
    x, y = (column - centre[0]) / radius, (row - centre[1]) / radius
    widest = jnp.maximum(jnp.abs(x), jnp.abs(y))
    cross = (jnp.minimum(jnp.abs(x), jnp.abs(y)) <= 0.33) & (widest <= 1)
    return jnp.stack([jnp.hypot(x, y) <= 1, widest <= 0.9, (y <= 0.9) & (2 * jnp.abs(x) <= y + 1), cross])
