"""The networks that can be trained, as functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from evomask.classifiers import cnn, efficientnet, vit
from evomask.classifiers.trained import save_lite0
from evomask.training.recipe import Params
from evomask.types import Array, Classifier, InputError, Key


@dataclasses.dataclass(frozen=True)
class Trainable:
    """A network as functions: how its weights begin, what they make of images, and what classifier comes out.

    init: (key, images f32[N, H, W, C]) -> (params, stats)
    apply: (params, stats, images, train) -> (logits f32[N, K], stats)
    classifier: (params, stats, labels, image_shape) -> Classifier
    save: (classifier, path of a .safetensors file), in half precision
    is_head: path of a parameter -> whether it is trained while the trunk is frozen
    """

    init: Callable[[Key, Array], tuple[Params, Params]]
    apply: Callable[[Params, Params, Array, bool], tuple[Array, Params]]
    classifier: Callable[[Params, Params, tuple[str, ...], tuple[int, int, int]], Classifier]
    save: Callable[[Classifier, Path], None]
    is_head: Callable[[tuple], bool] = lambda path: True


def residual_cnn(num_classes: int, precision: str = "auto", **shape) -> Trainable:
    """A `ResidualCNN` from scratch; `shape` are its widths, depth and directions."""
    module = cnn.ResidualCNN(num_classes, dtype=compute_dtype(precision), **shape)

    @jax.jit
    def init(key: Key, images: Array):
        variables = dict(module.init(key, images, False))
        params = variables.pop("params")
        return params, variables

    def apply(params: Params, stats: Params, images: Array, train: bool):
        if not train:
            return module.apply({"params": params, **stats}, images, False), stats
        return module.apply({"params": params, **stats}, images, True, mutable=list(stats))

    def classifier(params: Params, stats: Params, labels: tuple[str, ...], image_shape: tuple[int, int, int]):
        return cnn.fold(module, {"params": params, **stats}, labels, image_shape)

    return Trainable(init, apply, classifier, cnn.save)


def vision_transformer(num_classes: int, precision: str = "auto", **shape) -> Trainable:
    """A `VisionTransformer` from scratch; `shape` are its patch, width, depth and heads."""
    module = vit.VisionTransformer(num_classes, dtype=compute_dtype(precision), **shape)

    @jax.jit
    def init(key: Key, images: Array):
        if any(side % module.patch for side in images.shape[1:3]):
            raise InputError(f"images are {images.shape[1:]}: give model.patch by which both sides can be divided")
        return module.init(key, images)["params"], {}

    def apply(params: Params, stats: Params, images: Array, train: bool):
        return module.apply({"params": params}, images), stats

    def classifier(params: Params, stats: Params, labels: tuple[str, ...], image_shape: tuple[int, int, int]):
        return vit.of(module, params, labels, image_shape)

    return Trainable(init, apply, classifier, vit.save)


def efficientnet_lite0(num_classes: int, precision: str = "auto") -> Trainable:
    """EfficientNet-Lite0 with its ImageNet weights and a new head of zeros, for images of 224 x 224.

    Its batch-norms are folded into the convolutions, so fine-tuning moves weights and biases only.
    """
    dtype = compute_dtype(precision)
    pretrained = efficientnet.efficientnet_lite0()
    network = efficientnet.EfficientNetLite(pretrained.variant, num_classes, pretrained.depthwise)

    def init(key: Key, images: Array):
        if images.shape[1:] != pretrained.image_shape:
            raise InputError(
                f"images are {images.shape[1:]}, the network takes {pretrained.image_shape}: "
                f"set data.size={pretrained.image_shape[0]}"
            )
        head = {"kernel": jnp.zeros((1280, num_classes)), "bias": jnp.zeros(num_classes)}
        return {**pretrained.params, "logits": head}, {}

    def apply(params: Params, stats: Params, images: Array, train: bool):
        cast = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        logits = network.apply({"params": cast}, images.astype(dtype))[1]
        return logits.astype(jnp.float32), stats  # pyright: ignore[reportAttributeAccessIssue]

    def classifier(params: Params, stats: Params, labels: tuple[str, ...], image_shape: tuple[int, int, int]):
        return dataclasses.replace(pretrained, params=params, labels=labels, crop=1.0)  # as it is trained

    return Trainable(init, apply, classifier, save_lite0, lambda path: path[0].key == "logits")


def compute_dtype(precision: str) -> jnp.dtype:
    """ "float32", "bfloat16", or "auto": bfloat16 on an accelerator, float32 on a CPU. Weights stay in float32."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise InputError(f"precision is {precision!r}: choose auto, float32 or bfloat16")
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)
