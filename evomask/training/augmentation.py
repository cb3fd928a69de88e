"""What is done to a batch of training images before the network sees it; pure functions of a key."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from evomask.training.recipe import Recipe
from evomask.types import Array, Key


def random_crop(key: Key, images: Array, pad: int) -> Array:
    """Moves each image by up to `pad` pixels in each direction; the border is filled by reflection."""
    num, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    corners = jax.random.randint(key, (num, 2), 0, 2 * pad + 1)
    crop = lambda image, corner: jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))
    return jax.vmap(crop)(padded, corners)


def random_erase(key: Key, image: Array, probability: float, area: tuple[float, float], black: float) -> Array:
    """Erases one rectangle of one image f32[H, W, C] (Zhong et al. 2020, arXiv:1708.04896).

    Its share of the image is uniform in `area`, its aspect log-uniform in [1/3, 3]. It becomes 0 (black) with
    probability `black`, otherwise one random colour or uniform noise with equal chances.
    """
    height, width, channels = image.shape
    happen, share, aspect, row, col, kind, colour, noise = jax.random.split(key, 8)
    pixels = jax.random.uniform(share, (), minval=area[0], maxval=area[1]) * (height * width)
    ratio = jnp.exp(jax.random.uniform(aspect, (), minval=-jnp.log(3.0), maxval=jnp.log(3.0)))
    rows = jnp.clip(jnp.sqrt(pixels * ratio), 1.0, float(height))
    cols = jnp.clip(jnp.sqrt(pixels / ratio), 1.0, float(width))
    top = jax.random.uniform(row) * (height - rows)
    left = jax.random.uniform(col) * (width - cols)
    r, c = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)[None, :]
    inside = ((r >= top) & (r < top + rows))[:, :] & ((c >= left) & (c < left + cols))[:, :]
    draw = jax.random.uniform(kind)
    plain = jnp.broadcast_to(jax.random.uniform(colour, (1, 1, channels)), image.shape)
    other = jnp.where(draw < black + (1 - black) / 2, plain, jax.random.uniform(noise, image.shape))
    fill = jnp.where(draw < black, jnp.zeros_like(image), other)
    erased = jnp.where(inside[:, :, None], fill, image)
    return jnp.where(jax.random.bernoulli(happen, probability), erased, image)


def augment(key: Key, images: Array, mirror: Array, recipe: Recipe) -> Array:
    """Crop, flip and erase f32[N, H, W, C]; `mirror` bool[N] says which images are flipped."""
    crop_key, erase_key = jax.random.split(key)
    if recipe.pad:
        images = random_crop(crop_key, images, recipe.pad)
    if recipe.flip:
        images = jnp.where(mirror[:, None, None, None], images[:, :, ::-1], images)
    if recipe.erase:
        erase = lambda k, image: random_erase(k, image, recipe.erase, recipe.erase_area, recipe.erase_black)
        images = jax.vmap(erase)(jax.random.split(erase_key, len(images)), images)
    return images


def mixup_shares(key: Key, num: int, strength: float) -> Array:
    """How much of another image goes into each of `num`: f32[num] in [0, 0.5], from Beta(strength, strength); 0 without
    strength.
    """
    if not strength:
        return jnp.zeros(num)
    share = jax.random.beta(key, strength, strength, (num,))
    return jnp.minimum(share, 1 - share)


def mix(examples: Array, shares: Array) -> Array:
    """Mixes each example with the one before it in the batch (mixup, Zhang et al. 2018, arXiv:1710.09412).

    Args:
      examples: f32[N, ...], images or their targets.
      shares: f32[N], the other one's share.

    >>> mix(jnp.array([0.0, 1.0, 2.0]), jnp.array([0.5, 0.0, 0.25])).tolist()
    [1.0, 1.0, 1.75]
    """
    shares = shares.reshape(-1, *[1] * (examples.ndim - 1))
    return (1 - shares) * examples + shares * jnp.roll(examples, 1, axis=0)
