"""A small vision transformer for images of a few dozen pixels, in Flax, which can leave patches out altogether.

A patch more than half of whose pixels have the colour of `evomask.fills.Drop` is no token: no other attends to it, to
its neighbours it is as what lies beyond the picture's border, and it is left out of the mean. So a blanked picture need
not be painted over with anything that the network would look at (as in MoXI, Sumiyasu et al. 2024; Naseer et al. 2021
found how little transformers mind).
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.typing import DTypeLike

from evomask.classifiers import storage
from evomask.classifiers.cnn import FOLDER
from evomask.fills import DROPPED
from evomask.types import Array, record, static

MIDDLE = 0.5  # what the network sees of pixels that are dropped in a patch that is not


def patches(images: Array, side: int) -> tuple[Array, Array]:
    """Images f32[N, H, W, C] in [0, 1] as patches f32[N, h, w, side * side * C] about zero, and which of these there
    are, bool[N, h, w].

    >>> cut, there = patches(jnp.full((1, 4, 8, 1), 0.75).at[0, :, :3].set(DROPPED), 4)
    >>> cut.shape, there.tolist(), float(cut[0, 0, 0, 0]), float(cut[0, 0, 1, 0])
    ((1, 1, 2, 16), [[[False, True]]], 0.0, 1.0)
    """
    num, height, width, channels = images.shape
    shape = (num, height // side, side, width // side, side, channels)
    dropped = (images == jnp.float32(DROPPED)).all(-1, keepdims=True)
    pixels = 4.0 * (jnp.where(dropped, MIDDLE, images) - MIDDLE)
    cut = pixels.reshape(shape).swapaxes(2, 3).reshape(num, shape[1], shape[3], -1)
    share = dropped.reshape(*shape[:-1], 1).mean((2, 4, 5), dtype=jnp.float32)
    return cut, share <= 0.5


class Block(nn.Module):
    """Attention and two dense layers, each added to what comes in, and each given a little of the neighbours: tokens
    f32[N, h, w, D] and which there are, bool[N, h, w] -> tokens.
    """

    heads: int
    ratio: int = 2

    @nn.compact
    def __call__(self, x: Array, there: Array) -> Array:
        only = lambda x: jnp.where(there[..., None], x, jnp.zeros((), x.dtype))
        near = lambda x: shifted(only(nn.LayerNorm(dtype=x.dtype)(x)))
        x = x + self._attention(near(x), there)
        inner = nn.gelu(nn.Dense(self.ratio * x.shape[-1], dtype=x.dtype, name="widen")(near(x)))
        return only(x + nn.Dense(x.shape[-1], dtype=x.dtype, name="narrow")(inner))

    def _attention(self, x: Array, there: Array) -> Array:
        num, height, wide, width = x.shape
        split = lambda x: x.reshape(num, height * wide, self.heads, width // self.heads)
        query, key, value = (split(nn.Dense(width, dtype=x.dtype, name=name)(x)) for name in ("query", "key", "value"))
        alike = jnp.einsum("nihd,njhd->nhij", query, key).astype(jnp.float32) * (width // self.heads) ** -0.5
        alike = jnp.where(there.reshape(num, 1, 1, -1), alike, -1e9)
        mixed = jnp.einsum("nhij,njhd->nihd", jax.nn.softmax(alike, -1).astype(x.dtype), value)
        return nn.Dense(width, dtype=x.dtype, name="out")(mixed.reshape(x.shape))


def shifted(x: Array) -> Array:
    """f32[N, h, w, D], of whose channels an eighth comes from each of four neighbours, zeros from beyond the border.

    It is what a convolution knows of places, at no cost (ShiftViT, Wang et al. 2022), and all that this network knows.

    >>> x = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1).repeat(8, -1)
    >>> [shifted(x)[0, ..., channel].tolist() for channel in (0, 1, 4)]
    [[[0.0, 0.0], [1.0, 2.0]], [[3.0, 4.0], [0.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]]
    """
    part = x.shape[-1] // 8
    down, up, right, left, rest = jnp.split(x, [part, 2 * part, 3 * part, 4 * part], -1)
    wide = lambda x, rows, columns: jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
    return jnp.concatenate(
        [
            wide(down[:, :-1], (1, 0), (0, 0)),
            wide(up[:, 1:], (0, 1), (0, 0)),
            wide(right[:, :, :-1], (0, 0), (1, 0)),
            wide(left[:, :, 1:], (0, 0), (0, 1)),
            rest,
        ],
        -1,
    )


class VisionTransformer(nn.Module):
    """Images f32[N, H, W, C] in [0, 1] -> logits f32[N, num_classes] (Dosovitskiy et al. 2021; the mean of the tokens
    in place of a token of its own).
    """

    num_classes: int = 10
    patch: int = 4
    width: int = 96
    depth: int = 6
    heads: int = 3
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        self.embed = nn.Dense(self.width, dtype=self.dtype)
        self.blocks = [Block(self.heads) for _ in range(self.depth)]
        self.norm = nn.LayerNorm(dtype=jnp.float32)
        self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    def __call__(self, images: Array) -> Array:
        return self.features_and_logits(images)[1]

    def features_and_logits(self, images: Array) -> tuple[tuple[Array, ...], Array]:
        """The tokens f32[N, h, w, D] after each block, and the logits."""
        cut, there = patches(images, self.patch)
        x = jnp.where(there[..., None], self.embed(cut.astype(self.dtype)), jnp.zeros((), self.dtype))
        features = []
        for block in self.blocks:
            x = block(x, there)
            features.append(x)
        return tuple(features), self._decide(x, there)

    def from_features(self, depth: int, feature: Array) -> Array:
        """Logits from the tokens after the block `depth`, of an image without dropped patches."""
        there = jnp.ones(feature.shape[:3], bool)
        for block in self.blocks[depth % self.depth + 1 :]:
            feature = block(feature, there)
        return self._decide(feature, there)

    def _decide(self, x: Array, there: Array) -> Array:
        tokens = jnp.where(there[..., None], self.norm(x.astype(jnp.float32)), 0.0).sum((1, 2))
        return self.head(tokens / jnp.maximum(there.sum((1, 2), dtype=jnp.float32), 1.0)[:, None])


@record
class ViT:
    """A trained `VisionTransformer`, a `Classifier`: images f32[N, H, W, C] in [0, 1] -> logits f32[N, K]."""

    params: Any
    module: VisionTransformer = static()
    labels: tuple[str, ...] = static()
    image_shape: tuple[int, int, int] = static(default=(32, 32, 3))
    batch_size: int = static(default=64)

    def __call__(self, images: Array) -> Array:
        return self.features_and_logits(images)[1]

    def features(self, images: Array) -> tuple[Array, ...]:
        """The tokens f32[N, h, w, D] after each block, shallow to deep."""
        return self.features_and_logits(images)[0]

    def features_and_logits(self, images: Array) -> tuple[tuple[Array, ...], Array]:
        """Both from one pass."""
        return self._run(VisionTransformer.features_and_logits, images)

    def from_features(self, depth: int, feature: Array) -> Array:
        """Logits f32[N, K] from `features(...)[depth]` alone: what Grad-CAM differentiates."""
        return self._run(VisionTransformer.from_features, depth, feature)

    def _run(self, method: Any, *args: Any) -> Any:
        return self.module.apply({"params": self.params}, *args, method=method)


SHAPE = ("num_classes", "patch", "width", "depth", "heads")  # of the module, in the header of its file


def save(network: ViT, path: str | pathlib.Path) -> None:
    """Writes a `.safetensors` file in half precision, with labels and shapes in its header."""
    shape = {name: getattr(network.module, name) for name in SHAPE}
    header = {"labels": network.labels, "image_shape": network.image_shape, "transformer": shape}
    storage.write(path, traverse_util.flatten_dict(network.params, sep="."), **header)


def load(path: str | pathlib.Path) -> ViT:
    """The network in a file that `save` wrote, for computation in single precision.

    Raises:
      InputError: the file is missing, damaged, or holds another kind of network.
    """
    with storage.reading(path, "evomask.classifiers.vit.save") as (tensors, header):
        module = VisionTransformer(**json.loads(header["transformer"]))
        labels, image_shape = (tuple(json.loads(header[name])) for name in ("labels", "image_shape"))
        return ViT(traverse_util.unflatten_dict(tensors, sep="."), module, labels, image_shape)


def multiply_adds(network: ViT) -> int:
    """Multiplications of one forward pass of one image without dropped patches.

    >>> module = VisionTransformer(num_classes=2, patch=4, width=8, depth=1, heads=2)
    >>> shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    >>> multiply_adds(ViT(shapes, module, ("a", "b"), (8, 8, 3)))
    3856
    """
    flat: Any = traverse_util.flatten_dict(network.params, sep=".")
    height, width, _ = network.image_shape
    tokens = height * width // network.module.patch**2
    dense = sum(leaf.size for name, leaf in flat.items() if name.endswith("kernel") and "head" not in name)
    attention = 2 * tokens**2 * network.module.width * network.module.depth
    return tokens * dense + attention + flat["head.kernel"].size


def cifar10_vit() -> ViT:
    """The shipped transformer for CIFAR-10 (`weights/cifar10_vit.md`), which has never seen a blanked pixel.

    >>> cifar10_vit().labels[:3], jax.eval_shape(cifar10_vit(), jnp.zeros((5, 32, 32, 3))).shape
    (('airplane', 'automobile', 'bird'), (5, 10))
    """
    return load(FOLDER / "cifar10_vit.safetensors")


def of(module: VisionTransformer, params: Any, labels: Sequence[str], image_shape: tuple[int, int, int]) -> ViT:
    """The classifier of trained parameters."""
    return ViT(params, module.clone(dtype=jnp.float32), tuple(labels), tuple(image_shape))
