"""Whether several masks of one picture are one reason or several."""

from __future__ import annotations

from typing import Any

import numpy as np

APART = 0.4  # IoU below which two masks that both hold are two reasons rather than one


def least_shared(iou: Any, holds: Any) -> np.ndarray:
    """f32[...], the least IoU of two masks that both hold; 1 where there are no two.

    Args:
      iou: f32[..., N, N], of every two masks.
      holds: bool[..., N].

    >>> iou = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.0]], np.float32)
    >>> [round(float(least_shared(iou, holds)), 1) for holds in ([1, 1, 0], [0, 1, 1], [0, 0, 1])]
    [0.5, 0.2, 1.0]
    """
    holds = np.asarray(holds, bool)
    return np.where(holds[..., None] & holds[..., None, :], iou, np.float32(1)).min((-2, -1))


def are_several(least: Any) -> np.ndarray:
    """bool[...], whether masks of which two share so little, f32[...], are several reasons."""
    return np.asarray(least) < APART


def sentence(least: float) -> str:
    """That there are several reasons, of one picture in words.

    >>> sentence(0.2345)
    'two masks that both hold share 23 % of their pixels: there are several reasons'
    """
    return f"two masks that both hold share {100 * float(least):.0f} % of their pixels: there are several reasons"
