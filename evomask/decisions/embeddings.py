"""Decisions on embeddings: the nearest text, the same face."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask.data.classes import as_names
from evomask.decisions.checked import against, positive, rows
from evomask.types import Array, InputError, record, static


@record
class Similarity:
    """An embedding and the nearest of several references (CLIP's texts, faces), or one reference and a threshold.

    Args:
      references: f32[R, D], embeddings of texts or images by the same model; any length, since cosines are compared.
      names: what the R references are: texts, people.
      scale: nats for a cosine of one; CLIP's `logit_scale` is 100.
      threshold: with one reference, the cosine from which an image counts as similar.

    >>> Similarity(np.eye(2), ("a dog", "a cat"), scale=10.0)(jnp.array([[3.0, 4.0]])).tolist()
    [[6.0, 8.0]]
    """

    references: Any
    names: tuple[str, ...] = static(default=())
    scale: Any = 100.0
    threshold: Any = None

    def __call__(self, outputs: Array) -> Array:
        outputs, references = rows(self, outputs), jnp.asarray(self.references, jnp.float32)
        if outputs.shape[1] != references.shape[1]:
            raise InputError(
                f"decision Similarity has references of {references.shape[1]} numbers, the network returns embeddings "
                f"of {outputs.shape[1]}: make both with the same model"
            )
        cosines = jnp.matmul(_unit(outputs), _unit(references).T, precision=jax.lax.Precision.HIGHEST)
        if self.threshold is None:
            return self.scale * cosines
        return against(self.scale * (cosines[:, 0] - self.threshold))

    def bind(self, labels: tuple[str, ...] | None) -> Similarity:
        references = np.asarray(self.references, np.float32)
        if references.ndim != 2 or not np.isfinite(references).all() or not np.abs(references).sum(-1).all():
            raise InputError(
                f"references of the decision are {list(references.shape)}: give finite embeddings f32[R, D], none zero"
            )
        names = as_names(self.names or range(len(references)))
        if len(names) != len(references):
            raise InputError(f"the decision has {len(references)} references and {len(names)} names: give one for each")
        if (len(references) == 1) != (self.threshold is not None):
            raise InputError(
                f"threshold of the decision is {self.threshold}, with {len(references)} references: give a cosine with "
                "one reference, and none with several, of which the nearest wins"
            )
        if self.threshold is not None and not -1 < self.threshold < 1:
            raise InputError(f"threshold of the decision is {self.threshold}: give a cosine between -1 and 1")
        positive(self, "scale")
        return dataclasses.replace(self, references=references, names=names)

    def alternatives(self, labels: tuple[str, ...] | None) -> tuple[str, ...]:
        if self.threshold is None:
            return self.names
        return f"similar to {self.names[0]}", f"not similar to {self.names[0]}"


def _unit(vectors: Array) -> Array:
    length = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.maximum(length, np.finfo(np.float32).tiny)
