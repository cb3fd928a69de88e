"""Classifiers whose evidence is known by construction, so that tests can assert where an explanation must be.

Every oracle is a pytree `record` like a real classifier. Images are f32[N, H, W, C] in [0, 1] -> logits f32[N, K].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from evomask.search import program
from evomask.types import Array, record, static

Box = tuple[int, int, int, int]  # (top, left, height, width), even numbers, so that the half-size feature map is exact


def programs() -> int:
    """How many programs of a search this process has made so far."""
    return sum(each._cache_size() for each in program.PROGRAMS)


def box_mask(box: Box, height: int, width: int) -> np.ndarray:
    """bool[H, W], True inside the box."""
    top, left, rows, cols = box
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + cols] = True
    return mask


def lit(box: Box | tuple[Box, ...], height: int, width: int, channels: int = 3, background: float = 0.0) -> np.ndarray:
    """f32[H, W, C]: white boxes on a plain background."""
    boxes = (box,) if isinstance(box[0], int) else box
    inside = np.logical_or.reduce([box_mask(b, height, width) for b in boxes])
    image = np.where(inside, 1.0, background).astype(np.float32)
    return np.repeat(image[..., None], channels, axis=-1)


@record
class BoxOracle:
    """Class 1 when the mean brightness inside every box (`rule` "all") or some box ("any") exceeds `threshold`.

    Logits are (0, sharpness * (brightness - threshold)) with the least (all) or the greatest (any) brightness of the
    boxes, so the probability of class 1 is a sigmoid of the brightness and pixels outside the boxes count for nothing.
    With white boxes on black and black fill, a mask is sufficient for class 1 once it keeps more than `threshold` of
    every (any) box; it is necessary once less than that is left outside it.

    Features, shallow to deep: f32[N, H, W, boxes + 1], f32[N, H/2, W/2, boxes + 1], one channel per box (brightness
    inside it) and one for the rest, then f32[N, 1, 1, boxes] (mean brightness of each box).
    """

    threshold: float = static(default=0.5)
    sharpness: float = static(default=20.0)
    boxes: tuple[Box, ...] = static(default=((2, 4, 4, 4),))
    rule: str = static(default="all")
    batch_size: int = static(default=16)

    def features(self, images: Array) -> tuple[Array, ...]:
        n, height, width, _ = images.shape
        brightness = images.mean(-1)
        inside = np.stack([box_mask(box, height, width) for box in self.boxes])
        channels = jnp.asarray(np.concatenate([inside, ~inside.any(0, keepdims=True)]).transpose(1, 2, 0), jnp.float32)
        whole = brightness[..., None] * channels[None]
        half = whole.reshape(n, height // 2, 2, width // 2, 2, -1).mean((2, 4))
        return whole, half, self._means(whole, 1)[:, None, None, :]

    def from_features(self, depth: int, feature: Array) -> Array:
        """The logits from `features(images)[depth]`."""
        means = feature[:, 0, 0, :] if depth in (2, -1) else self._means(feature, 4 if depth in (1, -2) else 1)
        brightness = means.min(-1) if self.rule == "all" else means.max(-1)
        evidence = self.sharpness * (brightness - self.threshold)
        return jnp.stack([jnp.zeros_like(evidence), evidence], axis=-1)

    def __call__(self, images: Array) -> Array:
        return self.from_features(0, self.features(images)[0])

    def _means(self, feature: Array, pixels_per_cell: int) -> Array:
        cells = np.asarray([rows * cols / pixels_per_cell for _, _, rows, cols in self.boxes], np.float32)
        return feature[..., :-1].sum((1, 2)) / jnp.asarray(cells)[None]


@record
class LinearOracle:
    """Logits linear in the pixels: images.reshape(N, -1) @ weights + bias; its gradient is the weights everywhere."""

    weights: Array  # f32[H * W * C, K]
    bias: Array  # f32[K]
    batch_size: int = static(default=16)

    def __call__(self, images: Array) -> Array:
        return images.reshape(images.shape[0], -1) @ self.weights + self.bias[None]

    def features(self, images: Array) -> tuple[Array, ...]:
        return (images,)

    def from_features(self, depth: int, feature: Array) -> Array:
        return self(feature)


@record
class ConvOracle:
    """Two convolutions (3 x 3, padding 1; the second with stride 2), relu after each, mean, linear: a real network.

    The same network in PyTorch gives the reference values of `experiments/tools/check_references.py`.
    """

    first: Array  # f32[3, 3, C, 4]
    second: Array  # f32[3, 3, 4, 6]
    head: Array  # f32[6, K]
    batch_size: int = static(default=16)

    def features(self, images: Array) -> tuple[Array, ...]:
        shallow = self._convolve(images, self.first, 1)
        return shallow, self._convolve(shallow, self.second, 2)

    def from_features(self, depth: int, feature: Array) -> Array:
        deep = self._convolve(feature, self.second, 2) if depth in (0, -2) else feature
        return deep.mean((1, 2)) @ self.head

    def __call__(self, images: Array) -> Array:
        return self.from_features(1, self.features(images)[1])

    @staticmethod
    def _convolve(x: Array, kernel: Array, stride: int) -> Array:
        layout = ("NHWC", "HWIO", "NHWC")
        strides, padding = (stride, stride), ((1, 1), (1, 1))
        return jax.nn.relu(jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout))


def conv(channels: int = 3, num_classes: int = 3, seed: int = 0) -> ConvOracle:
    """Weights from NumPy's generator, so that every framework can have the same."""
    rng = np.random.default_rng(seed)
    shapes = (3, 3, channels, 4), (3, 3, 4, 6), (6, num_classes)
    return ConvOracle(*(jnp.asarray(rng.normal(scale=0.6, size=shape), jnp.float32) for shape in shapes))


def conv_images(channels: int = 3, num: int = 2, side: int = 16, seed: int = 1) -> np.ndarray:
    """f32[num, side, side, channels] uniform in [0, 1], from NumPy's generator."""
    return np.random.default_rng(seed).uniform(size=(num, side, side, channels)).astype(np.float32)


def heat_maps(num: int = 2, side: int = 16, seed: int = 2) -> np.ndarray:
    """f32[num, side, side] standard normal, from NumPy's generator."""
    return np.random.default_rng(seed).normal(size=(num, side, side)).astype(np.float32)


@record
class ConstantOracle:
    """The same logits whatever the image; NaN logits make it the classifier that fails."""

    logits: Array  # f32[K]
    batch_size: int = static(default=16)

    def __call__(self, images: Array) -> Array:
        return jnp.broadcast_to(self.logits[None], (images.shape[0], self.logits.shape[0]))

    def features(self, images: Array) -> tuple[Array, ...]:
        return (images[:, ::2, ::2, :],)

    def from_features(self, depth: int, feature: Array) -> Array:
        return self(feature)


def constant(num_classes: int = 2, label: int = 1) -> ConstantOracle:
    """Says `label` of any image, with confidence near 1."""
    return ConstantOracle(jnp.zeros(num_classes, jnp.float32).at[label].set(10.0))


def nan(num_classes: int = 2) -> ConstantOracle:
    """Says NaN of any image."""
    return ConstantOracle(jnp.full(num_classes, jnp.nan, jnp.float32))


def linear(key: Array, height: int, width: int, channels: int = 3, num_classes: int = 3) -> LinearOracle:
    """Random normal weights, zero bias."""
    weights = jax.random.normal(key, (height * width * channels, num_classes), jnp.float32)
    return LinearOracle(weights, jnp.zeros(num_classes, jnp.float32))
