"""Contact sheets: many explanations at a glance, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from matplotlib.figure import Figure

from evomask.report import drawing, layout
from evomask.report.layout import Block
from evomask.report.picture import four, ratio_of

T = TypeVar("T")

ROWS = 20  # on a sheet, at most
SIZE = 9.5  # of captions, in points


class Row(NamedTuple):
    """What a sheet shows of one image; the arrays are those of `explanation.npz`."""

    line: str  # see `wording.line`
    image: np.ndarray  # f32[H, W, C]
    blank: np.ndarray  # f32[H, W, C], of the first fill
    mask: np.ndarray  # bool[H, W]
    score: np.ndarray  # f32[H, W]


@drawing.own_style
def contact_figure(rows: Sequence[Row]) -> Figure:
    """Original with the mask's outline | what is kept | the picture without it | score matrix, a row for each image.

    `sheets_of` cuts long lists.
    """
    return layout.page([_block(row, is_first=not index) for index, row in enumerate(rows)], gap=0.16)


def sheets_of(images: Sequence[T]) -> list[Sequence[T]]:
    """What goes on each sheet.

    >>> [len(sheet) for sheet in sheets_of("a" * 45)]
    [20, 20, 5]
    """
    return [images[first : first + ROWS] for first in range(0, len(images), ROWS)]


def _block(row: Row, is_first: bool) -> Block:
    """The panels of one image, titles over the first row only, and under them a line."""
    panels = [panel._replace(title=panel.title * is_first) for panel in four(*row[1:])]
    pictures = layout.panels(panels, ratio_of(row.image), size=SIZE, gap=0.1)
    return layout.column([pictures, layout.text(row.line, SIZE, most=1)], 0.05)
