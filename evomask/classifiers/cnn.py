"""A small residual CNN for images of a few dozen pixels: the Flax module that is trained and the folded form that is
run.

`ResidualCNN` is the trained form (Linen, batch normalisation). `fold` merges every batch normalisation into the
convolution before it; the result, `CNN`, is a `Classifier` pytree whose only operations are convolutions, 2 x 2
maxima and (Gaussian error) linear units, and it is what `load` reads from the shipped weights.
"""

from __future__ import annotations

import functools
import itertools
import json
import pathlib
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax  # noqa: F401 (for the doctest)
import jax.numpy as jnp
from jax.typing import DTypeLike

from evomask.classifiers import storage
from evomask.classifiers.winograd import convolve
from evomask.types import Array, record, static

FOLDER = pathlib.Path(__file__).parent / "weights"
NORM_EPSILON = 1e-5
WHITEN_EPSILON = 5e-4  # added to the patch variances (images in [0, 1]) so that flat directions are not blown up


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
    strongest = (direction / jnp.sqrt(variance + WHITEN_EPSILON)[None])[:, ::-1][:, :num]
    return jnp.concatenate([strongest, -strongest], axis=1).reshape(3, 3, channels, -1)


def near_identity(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Kernels f32[h, w, Cin, Cout] of which the first min(Cin, Cout) hand their input on; the others are random (He).

    A deep stack then begins as a shallow one (Zagoruyko & Komodakis 2017, arXiv:1706.00388; Jordan 2024, section 3.3).

    >>> kernel = near_identity(jax.random.key(0), (3, 3, 2, 4))
    >>> kernel[1, 1, :, :2].tolist(), float(jnp.abs(kernel[..., :2]).sum())
    ([[1.0, 0.0], [0.0, 1.0]], 2.0)
    """
    height, width, inputs, outputs = shape
    num = min(inputs, outputs)
    kernel = nn.initializers.he_normal()(key, shape, dtype).at[..., :num].set(0)
    return kernel.at[height // 2, width // 2, jnp.arange(num), jnp.arange(num)].set(1)


class ConvNorm(nn.Module):
    """3 x 3 convolution, 2 x 2 maximum if asked, batch normalisation, Gaussian error linear unit.

    The normalisation has no scale of its own, so that its factor is positive and `fold` may move it past the maximum.
    """

    width: int
    halves: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        shape = (3, 3, x.shape[-1], self.width)
        kernel = self.param("kernel", near_identity, shape)
        x = convolve(x, kernel.astype(x.dtype))
        x = halve(x) if self.halves else x
        norm = nn.BatchNorm(
            use_running_average=not train, momentum=0.9, epsilon=NORM_EPSILON, use_scale=False, dtype=jnp.float32
        )
        return nn.gelu(norm(x.astype(jnp.float32)).astype(x.dtype))


class ResidualCNN(nn.Module):
    """Whitening stem, then one stage for each width: widen and halve, add a residual branch of `depth` convolutions.

    Called with f32[N, H, W, C] in [0, 1] it returns logits f32[N, num_classes]. After s stages the feature map has
    H / 2**s rows; the default turns 32 x 32 into 4 x 4. The collections are `params`, `batch_stats` and `fixed`
    (the whitening filters, set from the images given to `init`).
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (64, 192, 224)
    depth: int = 1
    directions: int = 12
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        num = min(self.directions, 9 * images.shape[-1])
        stem = self.variable("fixed", "whitening", whitening_kernel, images, num).value
        x = nn.relu(convolve(images.astype(self.dtype) - 0.5, stem.astype(self.dtype)))
        for width in self.widths:
            x = ConvNorm(width, halves=True)(x, train)
            branch = x
            for _ in range(self.depth):
                branch = ConvNorm(width)(branch, train)
            x = x + branch
        head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")
        return head(x.mean((1, 2)).astype(jnp.float32))


Layer = tuple[Array, Array]  # kernel f32[3, 3, Cin, Cout], bias f32[Cout]


@record
class CNN:
    """The folded `ResidualCNN`, a `Classifier`: images f32[N, H, W, C] in [0, 1] -> logits f32[N, K]."""

    stem: Array  # f32[3, 3, C, C1], the whitening filters
    stages: tuple[tuple[Layer, ...], ...]  # per stage the widening layer, then those of the residual branch
    head: Layer  # kernel f32[C, K], bias f32[K]
    labels: tuple[str, ...] = static()
    image_shape: tuple[int, int, int] = static(default=(32, 32, 3))
    batch_size: int = static(default=64)

    def __call__(self, images: Array) -> Array:
        return self.features_and_logits(images)[1]

    def features(self, images: Array) -> tuple[Array, ...]:
        """The map after each stage, shallow to deep; those of the shipped networks have 16 x 16, 8 x 8 and 4 x 4
        pixels.
        """
        return self.features_and_logits(images)[0]

    def features_and_logits(self, images: Array) -> tuple[tuple[Array, ...], Array]:
        """Both from one pass: images f32[N, H, W, C] in [0, 1] -> (feature maps, logits f32[N, K])."""
        x = nn.relu(convolve(images - 0.5, self.stem))
        features = []
        for stage in self.stages:
            x = _stage(x, stage)
            features.append(x)
        return tuple(features), self._head(x)

    def from_features(self, depth: int, feature: Array) -> Array:
        """Logits f32[N, K] from `features(...)[depth]` alone: what Grad-CAM differentiates."""
        if depth < 0:
            depth += len(self.stages)
        for stage in self.stages[depth + 1 :]:
            feature = _stage(feature, stage)
        return self._head(feature)

    def _head(self, x: Array) -> Array:
        kernel, bias = self.head
        return jnp.mean(x, (1, 2)) @ kernel + bias[None]


def _layer(x: Array, layer: Layer) -> Array:
    kernel, bias = layer
    return nn.gelu(convolve(x, kernel) + bias[None, None, None])


def _stage(x: Array, stage: tuple[Layer, ...]) -> Array:
    kernel, bias = stage[0]
    x = nn.gelu(halve(convolve(x, kernel)) + bias[None, None, None])
    return x + functools.reduce(_layer, stage[1:], x)


def fold(module: ResidualCNN, variables: Mapping, labels: Sequence[str], image_shape: tuple[int, int, int]) -> CNN:
    """The inference form of a trained `ResidualCNN`: each batch-norm becomes part of the convolution before it.

    A batch-norm multiplies by 1 / sqrt(variance + eps), which scales the kernel's output channels, and adds
    bias - mean * that factor.

    >>> module = ResidualCNN(num_classes=2, widths=(4,), depth=1)
    >>> images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3))
    >>> variables = module.init(jax.random.key(1), images)
    >>> cnn = fold(module, variables, ("no", "yes"), (8, 8, 3))
    >>> bool(jnp.allclose(cnn(images), module.apply(variables, images), atol=1e-5))
    True
    """
    params, stats = variables["params"], variables["batch_stats"]

    def layer(index: int) -> Layer:
        name = f"ConvNorm_{index}"
        norm, moments = params[name]["BatchNorm_0"], stats[name]["BatchNorm_0"]
        factor = 1 / jnp.sqrt(moments["var"] + NORM_EPSILON)
        return params[name]["kernel"] * factor[None, None, None], norm["bias"] - moments["mean"] * factor

    per_stage = module.depth + 1
    stages = tuple(tuple(layer(stage * per_stage + i) for i in range(per_stage)) for stage in range(len(module.widths)))
    head = (params["head"]["kernel"], params["head"]["bias"])
    return CNN(variables["fixed"]["whitening"], stages, head, tuple(labels), tuple(image_shape))


def multiply_adds(cnn: CNN) -> int:
    """Multiplications of one forward pass of one image as plain convolutions, their zero padding included.

    >>> multiply_adds(CNN(jnp.zeros((3, 3, 3, 4)), (), (jnp.zeros((4, 2)), jnp.zeros(2)), ("a", "b")))
    110600
    """
    pixels = cnn.image_shape[0] * cnn.image_shape[1]
    total = cnn.stem.size * pixels + cnn.head[0].size
    for widening, *branch in cnn.stages:  # only after the widening layer are there fewer pixels
        total += widening[0].size * pixels
        pixels //= 4
        total += sum(kernel.size for kernel, _ in branch) * pixels
    return total


def save(cnn: CNN, path: str | pathlib.Path) -> None:
    """Writes a `.safetensors` file in half precision, with labels and image shape in its header."""
    layers = {"head": cnn.head}
    layers |= {f"stages.{s}.{i}": layer for s, stage in enumerate(cnn.stages) for i, layer in enumerate(stage)}
    tensors = {
        f"{name}.{part}": value for name, layer in layers.items() for part, value in zip(("kernel", "bias"), layer)
    }
    storage.write(path, {**tensors, "stem": cnn.stem}, labels=cnn.labels, image_shape=cnn.image_shape)


def load(path: str | pathlib.Path) -> CNN:
    """The network in a file that `save` wrote, for computation in single precision.

    Raises:
      InputError: the file is missing, damaged, or holds another kind of network.
    """
    with storage.reading(path, "evomask.classifiers.cnn.save") as (tensors, header):
        labels, image_shape = (tuple(json.loads(header[name])) for name in ("labels", "image_shape"))
        stages = sorted({tuple(map(int, name.split(".")[1:3])) for name in tensors if name.startswith("stages.")})
        layer = lambda name: (tensors[f"{name}.kernel"], tensors[f"{name}.bias"])
        grouped = itertools.groupby(stages, key=lambda index: index[0])
        stages = tuple(tuple(layer(f"stages.{s}.{i}") for s, i in group) for _, group in grouped)
        return CNN(tensors["stem"], stages, layer("head"), labels, image_shape)


def cifar10() -> CNN:
    """The shipped CIFAR-10 network (`weights/cifar10.md`), which has never seen a blanked pixel.

    >>> cifar10().labels[:3], jax.eval_shape(cifar10(), jnp.zeros((5, 32, 32, 3))).shape
    (('airplane', 'automobile', 'bird'), (5, 10))
    """
    return load(FOLDER / "cifar10.safetensors")


def cifar10_erased() -> CNN:
    """The same network after three more epochs with random rectangles erased (`weights/cifar10_erased.md`): it knows
    blanked pixels.

    >>> cifar10_erased().labels == cifar10().labels
    True
    """
    return load(FOLDER / "cifar10_erased.safetensors")
