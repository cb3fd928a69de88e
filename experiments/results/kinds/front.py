"""Confidence against area: how much of an image a method needs."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...benchmarks import runs
from ..cells import Sweep
from ..columns import per_image
from ..comparable import Cell
from ..drawing import (
    TOGETHER,
    Style,
    beside,
    by_image,
    curve,
    legend,
    panels,
    rows_below,
    style_of,
    wrapped,
)

POINTS = 200  # at which curves of different images are averaged
LARGE = "large: the masks\nthemselves, mean"


def draw(sweep: Sweep, most: int) -> Figure | None:
    """Confidence against area, for the image masked by prefixes of the heat map, and the mean headline masks; of many
    cells, a panel for each, with ours for comparison.
    """
    del most
    cells, at = sweep.sound, np.linspace(0, 1, POINTS + 1)
    if len(cells) > TOGETHER:
        groups = {id(sweep.cells[i]): sweep.ours(group) for group in sweep.groups() for i in group}
        named = "; ".join(dict.fromkeys(sweep.cells[i].title for i in groups.values() if i is not None))
        labels = [f"for comparison: {named}", "the one named above", LARGE.replace("\n", " ")]
        figure, axes = panels([cell.title for cell in cells], labels)
        for panel, cell in zip(axes, cells):
            ours = groups[id(cell)]
            if ours is not None and sweep.cells[ours] is not cell:
                _front(
                    panel,
                    at,
                    sweep.cells[ours],
                    style_of(0),
                    labels[0],
                    0,
                )
            _front(panel, at, cell, style_of(2), labels[1], POINTS // 12)
            panel.set_xticks([0, 0.5, 1])
        figure.supxlabel(
            "area kept (fraction of the pixels)",
            fontsize=9,
            y=(0.1 + 0.2 * rows_below(labels)) / figure.get_figheight(),
        )
        figure.supylabel("confidence in the explained class", fontsize=9)
        fullest = max(axes, key=lambda panel: len(panel.lines))
        fullest.plot([], [], "o", color="0.4", markersize=10, markeredgecolor="white", label=labels[2])
        legend(figure, fullest, below=True)
        return figure
    labels = [wrapped(cell.title, 26) for cell in cells]
    figure, (axes,) = beside([*labels, LARGE], 4.0)
    for number, cell in enumerate(cells):
        _front(axes, at, cell, style_of(number), labels[number], 3 * number, len(cells) <= 3 or sweep.is_ours(cell))
    axes.set(xlabel="area kept (fraction of the pixels)", ylabel="confidence in the explained class")
    axes.plot([], [], "o", color="0.4", markersize=10, markeredgecolor="white", label=LARGE)
    legend(figure, axes)
    return figure


def _front(axes: Axes, at: np.ndarray, cell: Cell, style: Style, label: str, first: int, banded: bool = True) -> None:
    """One cell; more than a few bands would hide each other."""
    found = runs.arrays(cell.folder, "prefix_area", "prefix_confidence")
    pairs = zip(found["prefix_area"], found["prefix_confidence"])
    values = np.stack([np.interp(at, area, confidence) for area, confidence in pairs])
    curve(axes, at, by_image(cell, values), style, label, POINTS // 6, first, banded)
    place = per_image(cell.run, "area").mean(), per_image(cell.run, "masked_confidence").mean()
    axes.plot(
        *place, style.marker, color=style.colour, markersize=10, markeredgecolor="white", markeredgewidth=1.2, zorder=5
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.03))
