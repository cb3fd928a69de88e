"""EfficientNet-Lite0 (Tan & Le 2019, the Lite variant: ReLU6, no squeeze-and-excitation) with its ImageNet weights.

Batch-norms are folded into the convolutions (see `experiments/tools/convert_lite0.py`), so the network is convolutions
and biases only. Every 1 x 1 convolution is a matrix product. A depthwise convolution is XLA's grouped convolution on an
accelerator; on a CPU that is where nearly all time would go, so there it is the sum of k * k shifted, scaled copies.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from flax import traverse_util

from evomask.types import Array, InputError, record, static

FOLDER = pathlib.Path(__file__).parent / "weights"
WEIGHTS = FOLDER / "efficientnet_lite0.safetensors"
LABELS = FOLDER / "imagenet_labels.txt"
IMAGENETTE = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)  # ImageNet indices, in Imagenette's own order


class Block(NamedTuple):
    """One inverted residual block: expand 1 x 1, depthwise k x k, project 1 x 1, plus the input where shapes allow."""

    expand: int
    kernel: int
    stride: int
    features: int


def _stage(repeats: int, expand: int, kernel: int, stride: int, features: int) -> tuple[Block, ...]:
    return tuple(Block(expand, kernel, stride if i == 0 else 1, features) for i in range(repeats))


BLOCKS = (
    _stage(1, 1, 3, 1, 16)
    + _stage(2, 6, 3, 2, 24)
    + _stage(2, 6, 5, 2, 40)
    + _stage(3, 6, 3, 2, 80)
    + _stage(3, 6, 5, 1, 112)
    + _stage(4, 6, 5, 2, 192)
    + _stage(1, 6, 3, 1, 320)
)


# Where `features` looks, as the number of blocks passed. The first three are ends of stages, with the resolutions (1/4,
# 1/16 and 1/32) of blocks 1, 6 and 10 of MobileNetV3-Small, the published choice; the last, after the 1 x 1 convolution
# that follows the blocks, is the input of the global average, the usual choice of Grad-CAM.
DEPTHS = {"shallow": 3, "middle": 8, "deep": 15, "last": 17}


def relu6(x: Array) -> Array:
    return jnp.clip(x, 0.0, 6.0)


def shifted_sum(x: Array, kernel: Array, stride: int) -> Array:
    """Depthwise convolution, SAME padding, as a sum over taps: f32[N, H, W, C], f32[k, k, C] -> f32[N, h, w, C].

    >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> shifted_sum(x, jnp.ones((3, 3, 1)), stride=1)[0, :, :, 0]
    Array([[ 8., 15., 12.],
           [21., 36., 27.],
           [20., 33., 24.]], dtype=float32)
    """
    size = kernel.shape[0]
    outputs = [-(-length // stride) for length in x.shape[1:3]]
    totals = [max((out - 1) * stride + size - length, 0) for out, length in zip(outputs, x.shape[1:3])]
    x = jnp.pad(x, ((0, 0), *((total // 2, total - total // 2) for total in totals), (0, 0)))
    rows, cols = ((out - 1) * stride + 1 for out in outputs)
    kernel = kernel[None, None]  # as [1, 1, k, k, C], a tap broadcasts over images and pixels
    taps = (
        x[:, i : i + rows : stride, j : j + cols : stride] * kernel[:, :, i, j, None]
        for i in range(size)
        for j in range(size)
    )
    return functools.reduce(jnp.add, taps)


class Depthwise(nn.Module):
    """A depthwise convolution with bias: `form` 'shift' sums shifted copies (CPU), 'conv' is XLA's grouped one."""

    kernel: int
    stride: int
    form: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = x.shape[-1]
        shape = (self.kernel, self.kernel, 1, features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (features,))
        if self.form == "shift":
            x = shifted_sum(x, kernel[:, :, 0], self.stride)
        else:
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(
                x, kernel, (self.stride,) * 2, "SAME", dimension_numbers=layout, feature_group_count=features
            )
        return x + bias[None, None, None]


class InvertedResidual(nn.Module):
    """See `Block`."""

    block: Block
    form: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shortcut = x
        if self.block.expand > 1:
            x = relu6(nn.Dense(self.block.expand * x.shape[-1], name="expand")(x))
        x = relu6(Depthwise(self.block.kernel, self.block.stride, self.form, name="depthwise")(x))
        x = nn.Dense(self.block.features, name="project")(x)
        return x + shortcut if x.shape == shortcut.shape else x


class EfficientNetLite0(nn.Module):
    """The network: images f32[N, H, W, 3] in [0, 1] -> (feature maps at `DEPTHS`, logits f32[N, classes])."""

    classes: int = 1000
    form: str = "shift"

    def setup(self):
        self.stem = nn.Conv(32, (3, 3), (2, 2), "SAME")
        self.blocks = [InvertedResidual(block, self.form) for block in BLOCKS]
        self.top = nn.Dense(1280)
        self.logits = nn.Dense(self.classes)

    def __call__(self, images: Array) -> tuple[tuple[Array, ...], Array]:
        x = relu6(self.stem((255.0 * images - 127.0) / 128.0))
        return self.resume(x, start=0)

    def resume(self, x: Array, start: int) -> tuple[tuple[Array, ...], Array]:
        """The rest of the network, from the input of block `start`; the feature maps are those still to come."""
        features = []
        for i, block in enumerate(self.blocks[start:], start + 1):
            x = block(x)
            if i in DEPTHS.values():
                features.append(x)
        if start <= len(BLOCKS):
            x = relu6(self.top(x))
            features.append(x)
        return tuple(features), self.logits(jnp.mean(x, (1, 2)))


@record
class EfficientNetLite0Classifier:
    """EfficientNet-Lite0 with weights, a `Classifier`: images f32[N, 224, 224, 3] in [0, 1] -> logits f32[N, K].

    `depthwise` is 'shift' (fast on a CPU) or 'conv' (fast on an accelerator); the numbers differ by rounding only.
    """

    params: Mapping[str, object]  # float32 leaves, as in `EfficientNetLite0`
    labels: tuple[str, ...] = static()
    depthwise: str = static(default="shift")
    image_shape: tuple[int, int, int] = static(default=(224, 224, 3))
    batch_size: int = static(default=8)
    crop: float = static(default=0.875)  # the centred part of a photograph that the network is evaluated on
    depths: tuple[str, ...] = static(default=tuple(DEPTHS))  # names of the feature maps

    def __call__(self, images: Array) -> Array:
        return self.features_and_logits(images)[1]

    def features(self, images: Array) -> tuple[Array, ...]:
        """Feature maps at `DEPTHS`: f32[N, 56, 56, 24], [N, 14, 14, 80], [N, 7, 7, 192] and [N, 7, 7, 1280]."""
        return self.features_and_logits(images)[0]

    def features_and_logits(self, images: Array) -> tuple[tuple[Array, ...], Array]:
        """Both from one pass: images f32[N, 224, 224, 3] in [0, 1] -> (feature maps, logits f32[N, K])."""
        return self._network.apply({"params": self.params}, images)  # pyright: ignore[reportReturnType]

    def from_features(self, depth: int, feature: Array) -> Array:
        """Logits f32[N, K] from `features(...)[depth]` alone: what Grad-CAM differentiates."""
        start = tuple(DEPTHS.values())[depth]
        return self._network.apply({"params": self.params}, feature, start, method="resume")[1]  # pyright: ignore[reportReturnType]

    @property
    def _network(self) -> EfficientNetLite0:
        return EfficientNetLite0(len(self.labels), self.depthwise)


def efficientnet_lite0(classes: Sequence[int] | None = None) -> EfficientNetLite0Classifier:
    """EfficientNet-Lite0 with its ImageNet weights, for all 1,000 classes or only those of the given indices.

    The weights are stored in half precision and used in single precision.

    >>> classifier = efficientnet_lite0()
    >>> classifier.labels[217], classifier.image_shape
    ('English springer', (224, 224, 3))
    >>> jax.eval_shape(classifier, jnp.zeros((8, 224, 224, 3))).shape
    (8, 1000)
    """
    return from_weights(safetensors.numpy.load_file(WEIGHTS), classes)


def imagenette() -> EfficientNetLite0Classifier:
    """EfficientNet-Lite0 restricted to the ten classes of Imagenette (the other logits are never computed).

    >>> imagenette().labels[:3]
    ('tench', 'English springer', 'cassette player')
    """
    return efficientnet_lite0(IMAGENETTE)


def from_weights(
    weights: Mapping[str, np.ndarray], classes: Sequence[int] | None = None, depthwise: str | None = None
) -> EfficientNetLite0Classifier:
    """A classifier from weights named `blocks_0.expand.kernel` and so on; `depthwise` by default suits the backend."""
    labels = LABELS.read_text(encoding="utf-8").splitlines()
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    if classes is not None:
        classes = list(classes)
        if len(classes) < 2 or not all(0 <= index < len(labels) for index in classes):
            raise InputError(f"classes must be two or more ImageNet indices in 0..{len(labels) - 1}, got {classes}")
        labels = [labels[index] for index in classes]
        weights |= {name: weights[name][..., classes] for name in ("logits.kernel", "logits.bias")}
    params = traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, weights), sep=".")
    depthwise = depthwise or ("shift" if jax.default_backend() == "cpu" else "conv")
    return EfficientNetLite0Classifier(params, tuple(labels), depthwise)


def reference_image(seed: int = 0) -> np.ndarray:
    """A deterministic image f32[224, 224, 3] in [0, 1] of gradients and edges, to compare implementations with."""
    row, col = np.mgrid[:224, :224] / np.float32(224)
    wave = np.sin((3 + seed) * row[..., None] * np.arange(1, 4) + (5 + 2 * seed) * col[..., None])
    inside = (row - 0.5) ** 2 + (col - 0.5) ** 2 < 0.1 + 0.02 * seed
    return np.where(inside[..., None], 0.5 + 0.5 * wave, 0.25 * (row + col)[..., None]).astype(np.float32)
