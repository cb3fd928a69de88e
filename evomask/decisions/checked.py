"""What decisions share: checks of their own numbers, of what a network returned, and logits of two alternatives."""

from __future__ import annotations

import math
from typing import Any

import jax.core
import jax.numpy as jnp
import numpy as np

from evomask.classifiers.blackbox import SURE
from evomask.classifiers.wrappers import described
from evomask.data.classes import class_index
from evomask.types import Array, InputError, whole


def rows(decision: Any, outputs: Any) -> Array:
    """Numbers f32[N] or f32[N, K] of a network as f32[N, K]."""
    if getattr(outputs, "ndim", 0) not in (1, 2) or not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise InputError(
            f"decision {type(decision).__name__} got {described(outputs)}: the network must return one floating array, "
            "[N, K] or [N]"
        )
    found = outputs.reshape(len(outputs), -1).astype("float32")
    for field in ("label", "other", "output"):
        known(decision, field, found.shape[1])
    return found


def known(decision: Any, field: str, num: int) -> None:
    """Checks the number of a class against how many there are, unless it is traced and was checked before."""
    number = getattr(decision, field, 0)
    if not isinstance(number, jax.core.Tracer) and int(number) >= num:
        raise InputError(
            f"{field} of the decision is {int(number)}, and the network has {num} of them: give 0 to {num - 1}"
        )


def column(rows: Array, index: Any) -> Array:
    return jnp.take(rows, index, axis=1)


def against(margin: Array) -> Array:
    """Logits f32[N, 2] of a decision that stands by f32[N] nats, and of its absence."""
    return jnp.stack([margin, jnp.zeros_like(margin)], 1)


def logit(probability: Any) -> Array:
    chance = jnp.clip(jnp.asarray(probability, jnp.float32), SURE, 1 - SURE)
    return jnp.log(chance) - jnp.log1p(-chance)


def numbered(label: Any, labels: tuple[str, ...] | None, key: str) -> np.int32:
    """The number of a class that is given by name or number."""
    if isinstance(label, str):
        if labels is None:
            raise InputError(f"{key} of the decision is {label!r}, but the network has no labels: give its number")
        label = class_index(label, labels, f"{key} of the decision")
    return np.int32(whole(f"{key} of the decision", label, 0))


def called(labels: tuple[str, ...] | None, index: Any) -> str:
    return labels[int(index)] if labels is not None and int(index) < len(labels) else f"class {int(index)}"


def fraction(decision: Any, name: str) -> None:
    if not 0 < getattr(decision, name) < 1:
        raise InputError(f"{name} of the decision is {getattr(decision, name)}: give a fraction between 0 and 1")


def positive(decision: Any, name: str) -> None:
    if not 0 < getattr(decision, name) < math.inf:
        raise InputError(f"{name} of the decision is {getattr(decision, name)}: give a number above 0")


def choice(decision: Any, name: str, known: tuple[str, ...]) -> None:
    if getattr(decision, name) not in known:
        raise InputError(f"{name} of the decision is {getattr(decision, name)!r}: give one of {', '.join(known)}")
