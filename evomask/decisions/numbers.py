"""Decisions on rows of numbers: classes, labels that may be right together, and numbers with a threshold."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from evomask.decisions.checked import against, called, choice, column, fraction, logit, numbered, positive, rows
from evomask.types import Array, InputError, record, static


@record
class Classes:
    """One class against all the rest, or against one other (`contrast`): the decision of a classifier as it is.

    >>> Classes()(jnp.array([[1.0, 3.0]])).tolist()
    [[1.0, 3.0]]
    """

    def __call__(self, outputs: Array) -> Array:
        return outputs

    def alternatives(self, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return labels


@record
class Between:
    """Class against class, whatever the network makes of others: "why A and not B", as `contrast` asks.

    Args:
      label, other: the two, by name or number.

    >>> Between(0, 2)(jnp.array([[1.0, 9.0, 3.0]])).tolist()
    [[1.0, 3.0]]
    """

    label: Any
    other: Any

    def __call__(self, outputs: Array) -> Array:
        outputs = rows(self, outputs)
        return jnp.stack([column(outputs, self.label), column(outputs, self.other)], 1)

    def bind(self, labels: tuple[str, ...] | None) -> Between:
        pair = Between(numbered(self.label, labels, "label"), numbered(self.other, labels, "other"))
        if pair.label == pair.other:
            raise InputError(f"decision Between({self.label!r}, {self.other!r}) has one class twice: give two")
        return pair

    def alternatives(self, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return called(labels, self.label), called(labels, self.other)


@record
class Label:
    """One of several labels that may be right together, against its own absence: multi-label networks, sigmoids.

    Args:
      label: by name or number.
      threshold: the probability from which the label counts as present.
      outputs: what the network returns: "logits" f32[N, K], of sigmoids, or "probabilities"; K = 1, or f32[N], is
        allowed.

    >>> Label(1)(jnp.array([[5.0, 2.0]])).tolist()
    [[2.0, 0.0]]
    """

    label: Any = 0
    threshold: Any = 0.5
    outputs: str = static(default="logits")

    def __call__(self, outputs: Array) -> Array:
        found = column(rows(self, outputs), self.label)
        return against((found if self.outputs == "logits" else logit(found)) - logit(self.threshold))

    def bind(self, labels: tuple[str, ...] | None) -> Label:
        fraction(self, "threshold")
        choice(self, "outputs", ("logits", "probabilities"))
        return dataclasses.replace(self, label=numbered(self.label, labels, "label"))

    def alternatives(self, labels: tuple[str, ...] | None) -> tuple[str, ...]:
        name = called(labels, self.label)
        return name, f"no {name}"


@record
class Threshold:
    """A number against a threshold: a regression, a risk, an anomaly score.

    Args:
      threshold: in the unit of the number.
      scale: the difference from the threshold that counts as one nat, so that 90 % of the confidence means something:
        a difference that one would call clear. A confidence is sigmoid((number - threshold) / scale).
      output: which of several numbers of the network.
      name: what the number is called.

    >>> Threshold(2.0, scale=0.5)(jnp.array([3.0, 1.0])).tolist()
    [[2.0, 0.0], [-2.0, 0.0]]
    """

    threshold: Any
    scale: Any = 1.0
    output: Any = 0
    name: str = static(default="the output")

    def __call__(self, outputs: Array) -> Array:
        return against((column(rows(self, outputs), self.output) - self.threshold) / self.scale)

    def bind(self, labels: tuple[str, ...] | None) -> Threshold:
        if not math.isfinite(float(self.threshold)):
            raise InputError(f"threshold of the decision is {self.threshold}: give a finite number")
        positive(self, "scale")
        return dataclasses.replace(self, output=numbered(self.output, labels, "output"))

    def alternatives(self, labels: tuple[str, ...] | None) -> tuple[str, ...]:
        return f"{self.name} above {float(self.threshold):g}", f"{self.name} of {float(self.threshold):g} or less"
