"""EfficientNet-Lite0 and its like (Tan & Le 2019, the Lite variants: ReLU6, no squeeze-and-excitation), for ImageNet.

The weights of Lite0 ship; those of Lite1 are made by whoever wants them, with `experiments/tools/convert_lite.py`.
Batch-norms are folded into the convolutions there, so the networks are convolutions and biases only. A 1 x 1
convolution is a matrix product. The first and the depthwise convolutions are XLA's on an accelerator; on a CPU nearly
all time would go there, so there they are sums of shifted, scaled copies (`convolution`).
"""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from flax import traverse_util

from evomask.classifiers.convolution import depthwise, direct, narrow
from evomask.data import pictures
from evomask.types import Array, InputError, first_line, record, static

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


class Variant(NamedTuple):
    """What makes one network of the family: its blocks, and the size of its images.

    `depths` says where `features` looks, as the number of blocks passed. The first three are ends of stages, with the
    resolutions (1/4, 1/16 and 1/32) of blocks 1, 6 and 10 of MobileNetV3-Small, the published choice; the last, after
    the 1 x 1 convolution that follows the blocks, is the input of the global average, the usual choice of Grad-CAM.
    """

    name: str
    blocks: tuple[Block, ...]
    depths: tuple[int, ...]
    side: int  # pixels
    crop: float  # the centred part of a photograph that the network is evaluated on


# Blocks of Lite0 in each stage, and what they are: expand, kernel, stride of the first, features.
STAGES = (
    (1, (1, 3, 1, 16)),
    (2, (6, 3, 2, 24)),
    (2, (6, 5, 2, 40)),
    (3, (6, 3, 2, 80)),
    (3, (6, 5, 1, 112)),
    (4, (6, 5, 2, 192)),
    (1, (6, 3, 1, 320)),
)
DEPTHS = ("shallow", "middle", "deep", "last")  # the names of the feature maps
NARROW = 16  # input channels, up to which a sum over them is faster than a matrix product
BORDER = 32  # pixels around what is cut out of a photograph


def scaled(name: str, depth: float, side: int) -> Variant:
    """A variant as deep as `depth` makes it; in the Lite family the first and the last stage are as in Lite0.

    >>> scaled("Lite1", 1.1, 240).depths, len(scaled("Lite1", 1.1, 240).blocks)
    ((4, 11, 20, 22), 21)
    """
    fixed = 0, len(STAGES) - 1
    repeats = [num if place in fixed else math.ceil(depth * num) for place, (num, _) in enumerate(STAGES)]
    blocks = [
        Block(expand, kernel, stride if place == 0 else 1, features)
        for num, (_, (expand, kernel, stride, features)) in zip(repeats, STAGES, strict=True)
        for place in range(num)
    ]
    ends = list(itertools.accumulate(repeats))
    return Variant(name, tuple(blocks), (ends[1], ends[3], ends[5], ends[6] + 1), side, side / (side + BORDER))


LITE0 = scaled("EfficientNet-Lite0", 1.0, 224)
LITE1 = scaled("EfficientNet-Lite1", 1.1, 240)


def relu6(x: Array) -> Array:
    return jnp.clip(x, 0.0, 6.0)


ZEROS = nn.initializers.zeros  # weights are read from files, and what is drawn would be traced in vain at each start


class Depthwise(nn.Module):
    """A depthwise convolution with bias: `form` 'shift' sums shifted copies (CPU), 'conv' is XLA's grouped one."""

    kernel: int
    stride: int
    form: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = x.shape[-1]
        kernel = self.param("kernel", ZEROS, (self.kernel, self.kernel, 1, features))
        bias = self.param("bias", ZEROS, (features,))
        if self.form == "shift":
            x = depthwise(x, kernel[:, :, 0], self.stride)
        else:
            x = direct(x, kernel, self.stride, groups=features)
        return x + bias[None, None, None]


class Stem(nn.Module):
    """The first convolution, 3 x 3 with stride 2, of an image's three channels; `form` as above."""

    features: int
    form: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", ZEROS, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", ZEROS, (self.features,))
        return (narrow if self.form == "shift" else direct)(x, kernel, 2) + bias[None, None, None]


class Pointwise(nn.Module):
    """A convolution of 1 x 1 with bias: a matrix product, or a sum over channels where 'shift' has few of them."""

    features: int
    form: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", ZEROS, (x.shape[-1], self.features))
        bias = self.param("bias", ZEROS, (self.features,))
        few = self.form == "shift" and x.shape[-1] <= NARROW
        return (narrow(x, kernel[None, None]) if few else x @ kernel) + bias[None, None, None]


class InvertedResidual(nn.Module):
    """See `Block`."""

    block: Block
    form: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shortcut = x
        if self.block.expand > 1:
            x = relu6(Pointwise(self.block.expand * x.shape[-1], self.form, name="expand")(x))
        x = relu6(Depthwise(self.block.kernel, self.block.stride, self.form, name="depthwise")(x))
        x = nn.Dense(self.block.features, name="project")(x)
        return x + shortcut if x.shape == shortcut.shape else x


class EfficientNetLite(nn.Module):
    """The network: images f32[N, H, W, 3] in [0, 1] -> (feature maps at its depths, logits f32[N, classes])."""

    variant: Variant
    classes: int = 1000
    form: str = "shift"

    def setup(self):
        self.stem = Stem(32, self.form)
        self.blocks = [InvertedResidual(block, self.form) for block in self.variant.blocks]
        self.top = nn.Dense(1280)
        self.logits = nn.Dense(self.classes)

    def __call__(self, images: Array) -> tuple[tuple[Array, ...], Array]:
        shallow = self.begin(images)
        features, logits = self.resume(shallow, self.variant.depths[0])
        return (shallow, *features), logits

    def begin(self, images: Array) -> Array:
        """The first of the feature maps."""
        x = relu6(self.stem((255.0 * images - 127.0) / 128.0))
        for block in self.blocks[: self.variant.depths[0]]:
            x = block(x)
        return x

    def resume(self, x: Array, start: int) -> tuple[tuple[Array, ...], Array]:
        """The rest of the network, from the input of block `start`; the feature maps are those still to come."""
        features = []
        for i, block in enumerate(self.blocks[start:], start + 1):
            x = block(x)
            if i in self.variant.depths:
                features.append(x)
        if start <= len(self.blocks):
            x = relu6(self.top(x))
            features.append(x)
        return tuple(features), self.logits(jnp.mean(x, (1, 2)))


@record
class EfficientNetLiteClassifier:
    """One of the networks with weights, a `Classifier`: images f32[N, S, S, 3] in [0, 1] -> logits f32[N, K].

    `depthwise` is 'shift' (fast on a CPU) or 'conv' (fast on an accelerator); the numbers differ by rounding only.
    """

    params: Mapping[str, object]  # float32 leaves, as in `EfficientNetLite`
    labels: tuple[str, ...] = static()
    depthwise: str = static(default="shift")
    image_shape: tuple[int, int, int] = static(default=(224, 224, 3))
    batch_size: int = static(default=8)
    crop: float = static(default=0.875)  # the centred part of a photograph that the network is evaluated on
    depths: tuple[str, ...] = static(default=DEPTHS)  # names of the feature maps
    variant: Variant = static(default=LITE0)

    def __call__(self, images: Array) -> Array:
        return self.features_and_logits(images)[1]

    def features(self, images: Array) -> tuple[Array, ...]:
        """Feature maps at `Variant.depths`, of Lite0 f32[N, 56, 56, 24], [N, 14, 14, 80], [N, 7, 7, 192] and
        [N, 7, 7, 1280].
        """
        return self.features_and_logits(images)[0]

    def features_and_logits(self, images: Array) -> tuple[tuple[Array, ...], Array]:
        """Both from one pass: images f32[N, S, S, 3] in [0, 1] -> (feature maps, logits f32[N, K])."""
        return _both(self, images)

    def from_features(self, depth: int, feature: Array) -> Array:
        """Logits f32[N, K] from `features(...)[depth]` alone: what Grad-CAM differentiates."""
        start = self.variant.depths[depth]
        return self._network.apply({"params": self.params}, feature, start, method="resume")[1]  # pyright: ignore[reportReturnType]

    @property
    def _network(self) -> EfficientNetLite:
        return EfficientNetLite(self.variant, len(self.labels), self.depthwise)


@jax.jit  # traced once for all programs that call it with as many images
def _both(classifier: EfficientNetLiteClassifier, images: Array) -> tuple[tuple[Array, ...], Array]:
    network, params = classifier._network, {"params": classifier.params}
    if classifier.depthwise == "conv":
        return network.apply(params, images)  # pyright: ignore[reportReturnType]
    # Up to the first feature map an image takes megabytes: one at a time, they stay in the processor's cache.
    shallow = jax.lax.map(lambda image: network.apply(params, image[None], method="begin")[0], images)
    features, logits = network.apply(params, shallow, classifier.variant.depths[0], method="resume")
    return (shallow, *features), logits  # pyright: ignore[reportReturnType]


def efficientnet_lite0(classes: Sequence[int] | None = None) -> EfficientNetLiteClassifier:
    """EfficientNet-Lite0 with its ImageNet weights, for all 1,000 classes or only those of the given indices.

    The weights are stored in half precision and used in single precision.

    >>> classifier = efficientnet_lite0()
    >>> classifier.labels[217], classifier.image_shape
    ('English springer', (224, 224, 3))
    >>> jax.eval_shape(classifier, jnp.zeros((8, 224, 224, 3))).shape
    (8, 1000)
    """
    return from_weights(safetensors.numpy.load_file(WEIGHTS), classes)


def imagenette() -> EfficientNetLiteClassifier:
    """EfficientNet-Lite0 restricted to the ten classes of Imagenette (the other logits are never computed).

    >>> imagenette().labels[:3]
    ('tench', 'English springer', 'cassette player')
    """
    return efficientnet_lite0(IMAGENETTE)


def efficientnet_lite1(path: str | pathlib.Path, classes: Sequence[int] | None = None) -> EfficientNetLiteClassifier:
    """EfficientNet-Lite1 (images of 240 x 240) from a file that `experiments.tools.convert_lite` wrote.

    A second network that was trained on ImageNet apart from the one that ships, to ask whether what is found with one
    is true of the other.

    Raises:
      InputError: the file is missing, damaged, or holds something else.
    """
    path, remedy = pictures.located(path), "make it with python -m experiments.tools.convert_lite lite1"
    try:
        weights = safetensors.numpy.load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"no weights of {LITE1.name} at '{path}': {remedy}") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"'{path}' is damaged or holds no network ({first_line(error)}): {remedy}") from error
    wanted, given = shapes(LITE1), {name: value.shape for name, value in weights.items()}
    wrong = [name for name in sorted({*wanted, *given}) if given.get(name) != wanted.get(name)]
    if wrong:
        few = ", ".join(wrong[:3]) + (" ..." if len(wrong) > 3 else "")
        raise InputError(f"'{path}' holds no {LITE1.name} (missing or of another shape: {few}): {remedy}")
    return from_weights(weights, classes, variant=LITE1)


def shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """What the weights of a network for all 1,000 classes are called, and their shapes.

    >>> shapes(LITE1)["blocks_20.project.kernel"]
    (1152, 320)
    """
    images = jnp.zeros((1, variant.side, variant.side, 3))
    params = jax.eval_shape(EfficientNetLite(variant).init, jax.random.key(0), images)["params"]
    leaves = traverse_util.flatten_dict(params, sep=".")
    return {name: leaf.shape for name, leaf in leaves.items()}  # pyright: ignore[reportAttributeAccessIssue]


def from_weights(
    weights: Mapping[str, np.ndarray],
    classes: Sequence[int] | None = None,
    depthwise: str | None = None,
    variant: Variant | None = None,
) -> EfficientNetLiteClassifier:
    """A classifier from weights named `blocks_0.expand.kernel` and so on; `depthwise` by default suits the backend, and
    the variant is Lite0.
    """
    variant = variant or LITE0
    labels = LABELS.read_text(encoding="utf-8").splitlines()
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    if classes is not None:
        classes = list(classes)
        if len(classes) < 2 or not all(0 <= index < len(labels) for index in classes):
            raise InputError(f"classes must be two or more ImageNet indices in 0..{len(labels) - 1}, got {classes}")
        labels = [labels[index] for index in classes]
        weights |= {name: weights[name][..., classes] for name in ("logits.kernel", "logits.bias")}
    params = traverse_util.unflatten_dict(jax.device_put(weights), sep=".")
    depthwise = depthwise or ("shift" if jax.default_backend() == "cpu" else "conv")
    shape = variant.side, variant.side, 3
    return EfficientNetLiteClassifier(params, tuple(labels), depthwise, shape, crop=variant.crop, variant=variant)


def reference_image(seed: int = 0, side: int = 224) -> np.ndarray:
    """A deterministic image f32[S, S, 3] in [0, 1] of gradients and edges, to compare implementations with."""
    row, col = np.mgrid[:side, :side] / np.float32(side)
    wave = np.sin((3 + seed) * row[..., None] * np.arange(1, 4) + (5 + 2 * seed) * col[..., None])
    inside = (row - 0.5) ** 2 + (col - 0.5) ** 2 < 0.1 + 0.02 * seed
    return np.where(inside[..., None], 0.5 + 0.5 * wave, 0.25 * (row + col)[..., None]).astype(np.float32)
