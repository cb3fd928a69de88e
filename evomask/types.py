"""Array vocabulary, protocols and the small records that pass between the layers.

Axes: `B` images, `P` individuals, `G` patches (genes), `S` stages, `T` generations, `H x W` pixels, `C` channels,
`K` classes. Images are `float32` in [0, 1]; areas and confidences are fractions of one.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Protocol, TypeVar, dataclass_transform, runtime_checkable

import jax
import numpy as np

Array = jax.Array
Key = jax.Array  # one key of `jax.random.key`
Image = jax.Array  # f32[H, W, C] in [0, 1]
Mask = jax.Array  # bool[..., H, W], True where the pixel is kept
T = TypeVar("T")
Genome = jax.Array  # int32[..., G, 3]: (row, col, radius); a negative radius switches the patch off


class InputError(ValueError):
    """Bad input. The message is one line that names the input, the problem and the remedy."""


# `static` is no field specifier: a type checker would want its default by keyword.
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[T]) -> type[T]:
    """A frozen dataclass that is also a JAX pytree; mark static fields with `static()`.

    >>> @record
    ... class Rate:
    ...     rate: float
    ...     size: int = static(2)
    >>> jax.tree.leaves(Rate(0.5))
    [0.5]
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    fixed = tuple(field.name for field in dataclasses.fields(cls) if field.metadata.get("static"))
    leaves = tuple(field.name for field in dataclasses.fields(cls) if field.name not in fixed)

    def flatten(node):
        return tuple(getattr(node, name) for name in leaves), tuple(getattr(node, name) for name in fixed)

    def flatten_with_keys(node):
        children, aux = flatten(node)
        return tuple(zip(map(jax.tree_util.GetAttrKey, leaves), children, strict=True)), aux

    def unflatten(aux, children):
        return cls(**dict(zip(leaves + fixed, (*children, *aux), strict=True)))

    # Not `register_dataclass`: its tree definitions compare equal for two classes with the same fields (jax 0.10 and
    # 0.12), so that a call of a jitted function with one operator could run the program that was compiled for another.
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def static(default: Any = dataclasses.MISSING) -> Any:
    """A field that belongs to the shape of the program: a change of it compiles again."""
    return dataclasses.field(default=default, metadata={"static": True})


@runtime_checkable
class Classifier(Protocol):
    """Images f32[N, H, W, C] in [0, 1] -> logits f32[N, K]; normalisation happens inside.

    A classifier is a pytree (see `record`), so that its weights are arguments of the compiled program. It may have
    `features(images)` -> tuple of f32[N, h, w, c], shallow to deep; `labels`, a tuple of K names; `image_shape`,
    the one (H, W, C) that it takes; `batch_size`, the number of images at which it runs fastest; and `crop`, the
    centred part of a photograph that it is used to see.
    """

    def __call__(self, images: Array) -> Array: ...


class Status(enum.IntEnum):
    """How a search ended."""

    COMPLETE = 0  # sufficient and necessary, verified
    NOT_SUFFICIENT = 1  # the masked image loses the class or too much confidence
    NOT_NECESSARY = 2  # the inverse-masked image keeps the class
    NEITHER = 3
    BLANK_CLASS = 4  # complete in the letter only: the blank image has this class by itself
    UNSTABLE = 5  # the search held it for complete, the verification at batch size 1 did not


@record
class Target:
    """What is explained: one image, one class, and what the classifier makes of the whole image."""

    image: Array  # f32[H, W, C]
    label: Array  # int32[]
    confidence: Array  # f32[], probability of `label` for the whole image
    features: tuple[Array, ...] = ()  # each f32[h, w, c]; empty unless a fitness term compares features
    contrast: Array | None = None  # int32[]: only this class competes with `label`; None: all of them


@record
class Evaluation:
    """Everything that one batched forward pass says about P masks.

    A margin is log p[label] - max over the other classes of log p: positive where `label` is predicted.
    Inverse values are NaN, and `distance` is NaN, where no fitness term or constraint asked for them.
    """

    area: Array  # f32[P], fraction of pixels kept
    confidence: Array  # f32[P], probability of the label for the masked image
    margin: Array  # f32[P]
    inverse_confidence: Array  # f32[P], the same for the inverse-masked image
    inverse_margin: Array  # f32[P]
    distance: Array  # f32[P], mean squared distance between features of the whole and the masked image


@record
class History:
    """The best individual of every generation (leading axes [B, T] in an `Explanation`)."""

    fitness: Array  # f32[T], the objective of the best individual
    confidence: Array  # f32[T]
    area: Array  # f32[T]
    feasible: Array  # bool[T]
    evaluations: Array  # int32[T], spent so far


@record
class Front:
    """The masks that no smaller one equals in confidence, as the search saw them; NaN and empty where a bin has none."""

    area: np.ndarray  # f32[B, N], rising
    confidence: np.ndarray  # f32[B, N], rising
    inverse_confidence: np.ndarray  # f32[B, N]; NaN as well where the inverse was not evaluated
    necessary: np.ndarray  # bool[B, N], the inverse was evaluated and loses the class
    mask: np.ndarray  # bool[B, N, H, W]


@record
class Missing:
    """What a mask lacks of being complete: one number for each condition, zero where it holds."""

    keeps_class: np.ndarray  # f32[B], by how much another class leads in the masked image
    keeps_confidence: np.ndarray  # f32[B], of the confidence that a sufficient mask keeps
    loses_class: np.ndarray  # f32[B], by how much the class still leads in the inverse-masked image


@record
class Explanation:
    """What `explain` returns, one entry per image; NumPy arrays, verified outside the loop.

    Under a contrast, only the two classes compete: labels are one of them, and confidences are shares between the two.
    Under several fills, what is said of the masked, inverse-masked and blank images is the worst of the fills.
    """

    mask: np.ndarray  # bool[B, H, W], the last stage's mask
    stage_masks: np.ndarray  # bool[B, S, H, W]
    score: np.ndarray  # f32[B, H, W] in [0, 1], the per-pixel contribution
    genome: np.ndarray  # int32[B, G, 3]
    label: np.ndarray  # int32[B], the explained class
    contrast: np.ndarray  # int32[B], the class that it is explained against; -1: all others
    confidence: np.ndarray  # f32[B], of the whole image
    masked_confidence: np.ndarray  # f32[B]
    inverse_confidence: np.ndarray  # f32[B]
    blank_confidence: np.ndarray  # f32[B], of the image that is all fill
    predicted: np.ndarray  # int32[B], class predicted for the whole image
    masked_label: np.ndarray  # int32[B], class predicted for the masked image
    inverse_label: np.ndarray  # int32[B]
    blank_label: np.ndarray  # int32[B]
    stage_labels: np.ndarray  # int32[B, S], class predicted under each stage's mask
    stage_confidences: np.ndarray  # f32[B, S], probability of `label` under each stage's mask
    area: np.ndarray  # f32[B], fraction of pixels kept
    cp: np.ndarray  # f32[B], masked confidence / area (inf for an empty mask)
    cp_floored: np.ndarray  # f32[B], the same with the area floored at 5 %
    sufficient: np.ndarray  # bool[B]
    necessary: np.ndarray  # bool[B]
    complete: np.ndarray  # bool[B]
    missing: Missing  # in nats
    missing_probability: Missing  # the same as differences of probabilities
    complete_under: np.ndarray  # bool[B, 6], whether the mask is complete under each fill of `fills.SHIPPED`, in order
    status: np.ndarray  # int32[B], a `Status`
    evaluations: np.ndarray  # int32[B], images sent through the classifier by the search
    history: History
    front: Front | None = None  # where the configuration asks for it
