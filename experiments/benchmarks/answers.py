"""What a method answers, whoever wrote it: scores, masks of its own or both, and what that cost."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from evomask.measures.budget import Counted, Spent, check_spent
from evomask.types import Array, InputError


class Calls(Counted):
    """A classifier that counts the images it is shown, for methods that do not charge what they cost themselves."""

    def __init__(self, classifier: Any, budget: int):
        super().__init__(classifier, budget)
        self.called = 0

    def __call__(self, images: Array) -> Array:
        if isinstance(images, jax.core.Tracer):
            raise InputError(
                "the method calls the classifier inside jax.jit, vmap or grad, where calls cannot be counted: "
                "call it from plain Python, or declare its cost, as the methods of evomask.baselines do"
            )
        self.called += len(images)
        check_spent(Spent(self.called), self.budget, "this method")
        return self.classifier(images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["classifier"], name)

    def bill(self, num: int) -> list[Spent]:
        """What each of `num` images cost."""
        return self.spent or [Spent(-(-self.called // num))] * num


def answer(name: str, made: Any, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores f32[B, H, W] and, of a method that has them, masks bool[B, H, W].

    >>> answer("mine", np.ones((1, 2, 2), bool), (1, 2, 2))[1].dtype
    dtype('bool')
    >>> answer("mine", np.ones((2, 2)), (1, 2, 2))
    Traceback (most recent call last):
    ...
    evomask.types.InputError: method mine returned float64[2, 2]: ...
    """
    score, mask = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if hasattr(made, "score"):
        score, mask = made.score, getattr(made, "mask", None)
    wanted = f"scores f32{list(shape)}, masks bool{list(shape)}, or both as (score, mask)"
    try:
        score, mask = np.asarray(score), None if mask is None else np.asarray(mask)
    except Exception as error:
        raise InputError(f"method {name} returned a {type(made).__name__}: it should return {wanted}") from error
    if score.dtype == bool and mask is None:
        mask = score
    for value, kinds in ((score, "biuf"), (mask, "b")):
        if value is not None and (value.shape != shape or value.dtype.kind not in kinds):
            raise InputError(f"method {name} returned {value.dtype}{list(value.shape)}: it should return {wanted}")
    return score.astype(np.float32), mask
