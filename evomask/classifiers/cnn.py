"""A small residual CNN for images of a few dozen pixels: the Flax module that is trained and the folded form that is run.

`ResidualCNN` is the trained form (Linen, batch normalisation). `fold` merges every batch normalisation into the
convolution before it; the result, `CNN`, is a `Classifier` pytree whose only operations are convolutions, rectified
linear units and 2 x 2 maxima, and it is what `load` reads from the shipped weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from evomask.types import Array, Key, record, static

NORM_EPSILON = 1e-5
WHITEN_EPSILON = 5e-4  # added to the patch variances (images in [0, 1]) so that flat directions are not blown up


def _convolve(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def convolve(x: Array, kernel: Array) -> Array:
    """3 x 3 convolution with zero padding; its gradient with respect to the kernel is nine matrix products.

    XLA's own kernel gradient is a convolution whose "kernel" is the whole feature map, which the CPU backend runs
    slowly; measured on two CPU cores, forward and backward of 24 -> 48 channels at 32 x 32 fell from 4.3 to 1.2 ms an image.

    >>> convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)))[0, 0, :, 0]
    Array([4., 6., 6., 4.], dtype=float32)
    """
    return _convolve(x, kernel)


def _convolve_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _convolve_backward(residual: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = residual
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    flat_g = g.reshape(-1, g.shape[-1])

    def tap(i: int, j: int) -> Array:
        shifted = padded[:, i : i + height, j : j + width].reshape(-1, channels)
        return jnp.matmul(flat_g.T, shifted, preferred_element_type=jnp.float32).T

    kernel_gradient = jnp.stack([tap(i, j) for i in range(3) for j in range(3)]).reshape(kernel.shape)
    image_gradient = _convolve(g, kernel[::-1, ::-1].swapaxes(2, 3))
    return image_gradient, kernel_gradient.astype(kernel.dtype)


convolve.defvjp(_convolve_forward, _convolve_backward)


def halve(x: Array) -> Array:
    """2 x 2 maximum with stride 2; an odd last row or column is dropped. A reshape, whose gradient is fast on CPU.

    >>> halve(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


def whitening_kernel(images: Array, num: int) -> Array:
    """Filters that whiten 3 x 3 patches: the `num` strongest principal directions, each with both signs.

    Args:
      images: f32[N, H, W, C] in [0, 1].
      num: directions kept, at most 9 * C.

    Returns:
      f32[3, 3, C, 2 * num]. Fixed at initialisation, it saves a small network several epochs (Page 2019, "How to train
      your ResNet"; Jordan 2024, arXiv:2404.00498).

    >>> whitening_kernel(jax.random.uniform(jax.random.key(0), (8, 6, 6, 3)), 12).shape
    (3, 3, 3, 24)
    """
    _, height, width, channels = images.shape
    shifts = [images[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    patches = jnp.stack(shifts, axis=-2).reshape(-1, 9 * channels)
    patches = patches - patches.mean(0, keepdims=True)
    variance, direction = jnp.linalg.eigh(patches.T @ patches / patches.shape[0])
    strongest = (direction / jnp.sqrt(variance + WHITEN_EPSILON))[:, ::-1][:, :num]
    return jnp.concatenate([strongest, -strongest], axis=1).reshape(3, 3, channels, -1)


class ConvNorm(nn.Module):
    """3 x 3 convolution, batch normalisation, rectified linear unit."""

    width: int

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = (3, 3, x.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        x = convolve(x, kernel.astype(x.dtype))
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=NORM_EPSILON, dtype=x.dtype)
        return nn.relu(norm(x))


class ResidualCNN(nn.Module):
    """Whitening stem, then one stage for each width: halve, widen, add a residual branch of `depth` convolutions.

    Called with f32[N, H, W, C] in [0, 1] it returns logits f32[N, num_classes]. After s stages the feature map has
    H / 2**s rows; the default turns 32 x 32 into 4 x 4. The collections are `params`, `batch_stats` and `fixed`
    (the whitening filters, set from the images given to `init`).
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (48, 96, 192)
    depth: int = 2
    directions: int = 16
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        num = min(self.directions, 9 * images.shape[-1])
        kernel = self.variable("fixed", "whitening", whitening_kernel, images, num).value
        bias = self.param("bias", nn.initializers.zeros, (2 * num,))
        x = _convolve(images.astype(self.dtype) - 0.5, kernel.astype(self.dtype))
        x = nn.relu(x + bias.astype(self.dtype).reshape(1, 1, 1, -1))
        for width in self.widths:
            x = ConvNorm(width)(halve(x), train)
            branch = x
            for _ in range(self.depth):
                branch = ConvNorm(width)(branch, train)
            x = x + branch
        head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")
        return head(x.mean((1, 2)).astype(jnp.float32))
