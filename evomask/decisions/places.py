"""Decisions on places of a picture: a box of a detector, a region of a segmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask.classifiers.blackbox import SURE
from evomask.classifiers.wrappers import described
from evomask.decisions.checked import against, called, fraction, known, logit, numbered
from evomask.types import Array, InputError, record


@record
class Box:
    """A detector's box: the class at that place, whichever of its boxes says so (D-RISE, Petsiuk et al. 2021).

    The network returns {"boxes": f32[N, M, 4], "scores": f32[N, M, K]}, or the two as a pair: M boxes as (left, top,
    right, bottom), and for each the probabilities of K classes. A box that is not there has a score of 0.

    Args:
      box: the one to explain, four numbers in the detector's unit.
      label: by name or number.
      overlap: the least intersection over union at which a box is at that place.
      threshold: the score from which a box counts as found.

    >>> boxes, scores = jnp.array([[[0, 0, 4, 4], [0, 0, 9, 9]]], jnp.float32), jnp.array([[[0.8], [0.9]]])
    >>> round(float(Box((0, 0, 4, 5))((boxes, scores))[0, 0]), 3)  # log(0.8 / 0.2)
    1.386
    """

    box: Any
    label: Any = 0
    overlap: Any = 0.5
    threshold: Any = 0.5

    def __call__(self, outputs: Any) -> Array:
        boxes, scores = detections(self, outputs)
        there = self.shared(boxes) >= self.overlap
        best = jnp.max(jnp.where(there, jnp.take(scores, self.label, axis=2), 0.0), axis=1)
        return against(logit(best) - logit(self.threshold))

    def shared(self, boxes: Array) -> Array:
        """Intersection over union of boxes f32[N, M, 4] with the one to explain, f32[N, M]."""
        return overlaps(boxes, jnp.asarray(self.box, jnp.float32))

    def bind(self, labels: tuple[str, ...] | None) -> Box:
        box = np.asarray(self.box, np.float32)
        if box.shape != (4,) or not np.isfinite(box).all() or not (box[:2] < box[2:]).all():
            raise InputError(f"box of the decision is {self.box}: give (left, top, right, bottom), left < right")
        fraction(self, "overlap")
        fraction(self, "threshold")
        return dataclasses.replace(self, box=box, label=numbered(self.label, labels, "label"))

    def alternatives(self, labels: tuple[str, ...] | None) -> tuple[str, ...]:
        name = called(labels, self.label)
        return f"{name} in the box", f"no {name} in the box"


@record
class Segment:
    """The class of a region of a segmentation: each class has its mean probability inside of the region.

    The network returns logits f32[N, h, w, K]; its resolution may be another than the image's.

    Args:
      region: bool[h, w] in the network's resolution, or bool[c h, c w] of c times that, which is averaged.

    >>> logits = jnp.log(jnp.array([[[[0.9, 0.1], [0.5, 0.5]]]]))  # two pixels
    >>> [round(share, 6) for share in jnp.exp(Segment(np.ones((1, 2), bool))(logits))[0].tolist()]
    [0.7, 0.3]
    """

    region: Any

    def __call__(self, outputs: Array) -> Array:
        region = jnp.asarray(self.region, jnp.float32)
        shape = getattr(outputs, "shape", ())
        if len(shape) != 4 or any(mine % theirs for mine, theirs in zip(region.shape, shape[1:3])):
            raise InputError(
                f"decision Segment got {described(outputs)} and a region of {list(region.shape)}: the network must "
                "return logits f32[N, h, w, K], and the region must be bool[h, w], or whole times as large"
            )
        height, width = shape[1:3]
        weights = region.reshape(height, region.shape[0] // height, width, region.shape[1] // width).mean((1, 3))
        chances = jnp.einsum("nhwk,hw->nk", jax.nn.softmax(outputs.astype("float32"), -1), weights / weights.sum())
        return jnp.log(jnp.maximum(chances, SURE))

    def bind(self, labels: tuple[str, ...] | None) -> Segment:
        region = np.asarray(self.region)
        if region.ndim != 2 or region.dtype != bool or not region.any():
            raise InputError(
                f"region of the decision is {region.dtype}{list(region.shape)}: give bool[h, w], true somewhere"
            )
        return Segment(region)

    def alternatives(self, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return labels


def detections(decision: Box, outputs: Any) -> tuple[Array, Array]:
    """Boxes f32[N, M, 4] and scores f32[N, M, K] of what a detector returned."""
    pair: Any = (outputs.get("boxes"), outputs.get("scores")) if isinstance(outputs, dict) else outputs
    fits = isinstance(pair, Sequence) and len(pair) == 2 and all(getattr(part, "ndim", 0) == 3 for part in pair)
    if not fits or pair[0].shape != (*pair[1].shape[:2], 4):
        raise InputError(
            f"decision Box got {described(outputs)}: the network must return boxes f32[N, M, 4] and scores "
            "f32[N, M, K], as a dict of these names or a pair"
        )
    known(decision, "label", pair[1].shape[2])
    return pair  # pyright: ignore[reportReturnType]


def overlaps(boxes: Array, box: Array) -> Array:
    """Intersection over union of boxes f32[..., 4] with one f32[4] -> f32[...]; 0 where both are empty.

    >>> overlaps(jnp.array([[0.0, 0.0, 2.0, 2.0]]), jnp.array([1.0, 0.0, 3.0, 2.0])).tolist()
    [0.3333333432674408]
    """
    box = box.reshape((1,) * (boxes.ndim - 1) + (4,))
    size = lambda low, high: jnp.prod(jnp.maximum(high - low, 0.0), -1)
    shared = size(jnp.maximum(boxes[..., :2], box[..., :2]), jnp.minimum(boxes[..., 2:], box[..., 2:]))
    either = size(boxes[..., :2], boxes[..., 2:]) + size(box[..., :2], box[..., 2:]) - shared
    return jnp.where(either > 0, shared / jnp.where(either > 0, either, 1.0), 0.0)
