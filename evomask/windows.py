"""What a search leaves of its budget is asked of windows: how much of the decision goes where one of them is blanked.

A search says much of the pixels that its good masks keep, and another search of the same picture something else. Of
the others it says little. Windows over the whole picture say the same whatever the key was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evomask.questions import look, worst
from evomask.types import Classifier, Question

FEWEST = 4  # along each side, of fewer nothing is asked
SIDE = 7  # windows that cover a side without overlapping, where as many are asked


class Windows(NamedTuple):
    """Which rows and which columns n windows along each side cover: all n x n of them cover every pixel."""

    rows: np.ndarray  # bool[n, H]
    cols: np.ndarray  # bool[n, W]


def lost(
    classifier: Classifier, questions: Sequence[Question], most: int, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much confidence is lost where each pixel is blanked, and what it cost: f32[B, H, W] in [-1, 1] and int32[B].

    The mean over the windows that cover a pixel (Zeiler & Fergus 2014), as many along each side as the evaluations
    `left` int[B] pay for, `most` at most; under several fills what is lost under the one that takes most. NaN where
    not even `FEWEST` along each side are paid for.
    """
    found = [of_one(classifier, question, most, int(rest)) for question, rest in zip(questions, left, strict=True)]
    return np.stack([one for one, _ in found]), np.array([cost for _, cost in found], np.int32)


def of_one(classifier: Classifier, question: Question, most: int, left: int) -> tuple[np.ndarray, int]:
    """`lost` of one picture."""
    shape, fills = question.image.shape[:2], len(question.blanks)
    num = min(most, math.isqrt(max(left, 0) // fills), *shape)
    if num < FEWEST:
        return np.full(shape, np.nan, np.float32), 0
    rows, cols = windows(shape, num)
    kept = lambda row, col: worst(look(classifier, ~(row[:, None] & col), question, question.blanks)).confidence
    drop = np.array([[question.whole.confidence - kept(row, col) for col in cols] for row in rows])
    return (rows.T @ drop @ cols / np.outer(rows.sum(0), cols.sum(0))).astype(np.float32), num**2 * fills


def windows(shape: tuple[int, int], num: int) -> Windows:
    """`num` windows along each side, evenly over it, the first and the last flush with the border.

    A window is as long as a seventh of the side, or what it takes to leave no gap.

    >>> windows((4, 8), 4).cols.astype(int).tolist()
    [[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1]]
    """
    return Windows(*(_along(side, num) for side in shape))


def _along(side: int, num: int) -> np.ndarray:
    length = max(round(side / SIDE), -(-side // num))
    first = np.round(np.linspace(0, side - length, num)).astype(int)[:, None]
    pixel = np.arange(side)
    return (first <= pixel) & (pixel < first + length)
