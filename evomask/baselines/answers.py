"""What a method answers, whoever wrote it: scores, masks of its own, or both."""

from __future__ import annotations

from typing import Any

import numpy as np

from evomask.types import InputError


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
        score, mask = made.score, getattr(made, "mask", None)  # pyright: ignore
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
