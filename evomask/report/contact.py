"""Contact sheets: many explanations at a glance, a row each."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from evomask.report import drawing, layout, wording
from evomask.report.layout import Block
from evomask.report.picture import check_single, four, ratio_of
from evomask.types import Explanation

ROWS = 20  # on a sheet, at most
SIZE = 9.5  # of captions, in points


@drawing.own_style
def contact_figure(found: Sequence[tuple[str, Explanation]]) -> Figure:
    """Original with the mask's outline | what is kept | the picture without it | score matrix, a row for each image.

    Args:
      found: names of images and their explanations (no batch axis). `sheets_of` cuts long lists.
    """
    for _, one in found:
        check_single(one)
    return layout.page([_row(name, one, is_first=not index) for index, (name, one) in enumerate(found)], gap=0.16)


def sheets_of(found: Sequence[tuple[str, Explanation]]) -> list[Sequence[tuple[str, Explanation]]]:
    """What goes on each sheet.

    >>> [len(sheet) for sheet in sheets_of([("", None)] * 45)]
    [20, 20, 5]
    """
    return [found[first : first + ROWS] for first in range(0, len(found), ROWS)]


def _row(name: str, found: Explanation, is_first: bool) -> Block:
    """The panels of one image, titles over the first row only, and under them a line."""
    panels = [panel._replace(title=panel.title * is_first) for panel in four(found)]
    pictures = layout.panels(panels, ratio_of(found.image), size=SIZE, gap=0.1)
    return layout.column([pictures, layout.text(wording.line(found, name), SIZE, most=1)], 0.05)
