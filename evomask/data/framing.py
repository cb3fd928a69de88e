"""Which part of a photograph a network sees, and how a mask of that part lies in the whole photograph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evomask.types import InputError

FITS = ("crop", "squeeze", "pad")


class Frame(NamedTuple):
    """What is seen, in fractions of the photograph's width and height; what lies outside of [0, 1] is padding."""

    left: float
    top: float
    right: float
    bottom: float


def check(fit: str) -> str:
    """One of `FITS`, or InputError."""
    if fit not in FITS:
        raise InputError(f"fit is {fit!r}: give crop (its middle), squeeze (all of it) or pad (all, in black)")
    return fit


def frame(size: tuple[int, int], target: tuple[int, int], fit: str = "crop", crop: float = 1.0) -> Frame:
    """The part of a photograph (height, width) that becomes a network's input (height, width).

    Args:
      size, target: in pixels.
      fit: "crop", the largest centred part of the target's proportions, times `crop`; "squeeze", all of it, whatever
        becomes of its proportions; or "pad", all of it within a larger frame of the target's proportions.
      crop: in (0, 1], where it is cut.

    Raises:
      InputError: `fit` is none of these.

    >>> frame((100, 200), (50, 50))
    Frame(left=0.25, top=0.0, right=0.75, bottom=1.0)
    >>> frame((100, 200), (40, 40), "pad")
    Frame(left=0.0, top=-0.5, right=1.0, bottom=1.5)
    """
    (height, width), (rows, columns) = size, target
    if check(fit) == "squeeze":
        return Frame(0.0, 0.0, 1.0, 1.0)
    if fit == "pad":
        top, left, high, wide = padded(size, target)
        return Frame(-left / wide, -top / high, (columns - left) / wide, (rows - top) / high)
    down, across = height / rows, width / columns  # pixels of the photograph for one of the target, if it is filled
    scale = crop * min(down, across)
    share_across, share_down = scale / across, scale / down
    return Frame((1 - share_across) / 2, (1 - share_down) / 2, (1 + share_across) / 2, (1 + share_down) / 2)


def padded(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where all of a photograph lies in a target that is not of its proportions: top, left, height, width in pixels.

    >>> padded((100, 200), (40, 40))
    (10, 0, 20, 40)
    """
    (height, width), (rows, columns) = size, target
    scale = max(height / rows, width / columns)
    high, wide = max(1, round(height / scale)), max(1, round(width / scale))
    return (rows - high) // 2, (columns - wide) // 2, high, wide


def full_size(seen: np.ndarray, within: Frame, size: tuple[int, int]) -> np.ndarray:
    """What is known of the pixels that a network sees [h, w, ...], for all of a photograph: [H, W, ...].

    Each pixel has the value of the one that it became a part of; those that were not seen have zero, or False.

    Args:
      within: where these pixels lie in the photograph.
      size: (H, W) of the photograph.

    >>> full_size(np.array([[True, False]]), frame((1, 4), (1, 2)), (1, 4)).astype(int)
    array([[0, 1, 0, 0]])
    """
    rows, is_row = _nearest(size[0], within.top, within.bottom, seen.shape[0])
    columns, is_column = _nearest(size[1], within.left, within.right, seen.shape[1])
    found = seen[rows][:, columns]
    inside = (is_row[:, None] & is_column).reshape(*size, *[1] * (seen.ndim - 2))
    return np.where(inside, found, np.zeros((), seen.dtype))


def _nearest(size: int, first: float, last: float, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of `size` pixels the one of `num` that it falls on, int[size], and whether there is one, bool[size]."""
    place = ((np.arange(size) + 0.5) / size - first) / (last - first) * num
    index = np.floor(place).astype(int)
    return np.clip(index, 0, num - 1), (index >= 0) & (index < num)
