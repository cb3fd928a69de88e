"""What figures share: looks without colour, names that are wrapped and never cut, curves with their bands, legends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from evomask import fills

from ..shared import cli
from .columns import SEED
from .comparable import Cell

# Okabe and Ito 2008 without the yellow, which is lost on white, and with black and a grey.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
MARKERS = "osD^vP*X<>hp"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "|||")
TOGETHER = 6  # cells whose curves are drawn in one panel
LETTER, LINE = 0.075, 0.155  # inches that a letter of a label takes at most, and a line


class Style(NamedTuple):
    """How a cell is drawn wherever it appears: told apart by colour, marker, dashes and hatch."""

    colour: str
    marker: str
    dashes: str | tuple
    hatch: str


def style_of(number: int) -> Style:
    """The style of the n-th thing in a figure."""
    return Style(*(choices[number % len(choices)] for choices in (COLOURS, MARKERS, DASHES, HATCHES)))


def wrapped(text: str, width: int) -> str:
    """The whole text in lines of at most `width` letters: broken between keys, else after a blank, else after a comma
    or an underscore, and within a word only where it must be.

    >>> wrapped("gross radii [0.03,0.06,0.12], budget 2000", 18)
    'gross radii\\n[0.03,0.06,0.12],\\nbudget 2000'
    >>> wrapped("populationgenerations", 12)
    'populationge\\nnerations'
    """
    lines = [""]
    for key in re.split(r"(?<=, )", text):
        lines = _filled(lines, [key], width, (r"(?<=\s)", r"(?<=[,_])", r"(?<=.)"))
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _filled(lines: list[str], pieces: Sequence[str], width: int, finer: Sequence[str]) -> list[str]:
    """The lines with these pieces after them; a piece that fits in no line is split by the first of `finer`."""
    for piece in pieces:
        if len(lines[-1]) + len(piece.rstrip()) <= width:
            lines = [*lines[:-1], lines[-1] + piece]
        elif len(piece.rstrip()) <= width:
            lines = [*lines, piece]
        else:
            lines = _filled(lines, re.split(finer[0], piece), width, finer[1:])
    return lines


def tallest(texts: Sequence[str]) -> int:
    """The lines of the text that has most of them."""
    return max((text.count("\n") + 1 for text in texts), default=1)


def widest(texts: Sequence[str]) -> int:
    """The letters of the longest line."""
    return max((len(line) for text in texts for line in text.splitlines()), default=0)


def blank(cell: Cell, image: np.ndarray, seed: int) -> np.ndarray:
    """What the method's masked image shows where the mask is not: the first fill of the run."""
    fill = cli.instantiate(OmegaConf.create(cell.run.config["preset"]["fill"]))
    fill = fill if isinstance(fill, tuple) else (fill,)
    return np.asarray(fills.blanks(fill, jax.random.key(seed), image))[0]


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, and ends of its 95 % percentile bootstrap interval over the images: f64[N, T] -> three of f64[T]."""
    drawn = np.random.default_rng(SEED).integers(len(values), size=(2000, len(values)))
    weights = np.stack([np.bincount(each, minlength=len(values)) for each in drawn]) / len(values)
    low, high = np.quantile(weights @ values, [0.025, 0.975], axis=0)
    return values.mean(0), low, high


def by_image(cell: Cell, values: np.ndarray) -> np.ndarray:
    """The mean over the seeds of each image: [rows, T] -> f64[N, T]."""
    index = cell.run.rows["index"].to_numpy()
    return np.stack([values[index == each].astype(np.float64).mean(0) for each in np.unique(index)])


def beside(labels: Sequence[str], high: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Axes one below the other, with room at their right for a legend of these labels."""
    wide = 5.75 + 0.75 + LETTER * widest(labels)
    high = max(high, 0.8 + sum(LINE * (label.count("\n") + 1) + 0.05 for label in labels))
    figure = Figure(figsize=(wide, high))
    place = {"left": 0.8 / wide, "right": 5.7 / wide, "top": 1 - 0.15 / high, "bottom": 0.65 / high, "hspace": 0.14}
    axes = figure.subplots(rows, 1, sharex=True, gridspec_kw=place)
    return figure, list(np.atleast_1d(axes))


def panels(titles: Sequence[str], labels: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Small multiples with common axes, four in a row, and room for a legend of these labels below."""
    titles = [wrapped(title, 25) for title in titles]
    down, gap, tall = -(-len(titles) // 4), 0.14 + LINE * tallest(titles), 1.35
    room = 0.62 + 0.2 * rows_below(labels)
    high = room + down * (tall + gap)
    figure = Figure(figsize=(8.4, high))
    place = {
        "left": 0.075,
        "right": 0.985,
        "bottom": room / high,
        "top": 1 - gap / high,
        "hspace": gap / tall,
        "wspace": 0.12,
    }
    axes = figure.subplots(down, 4, sharex=True, sharey=True, gridspec_kw=place, squeeze=False).ravel()
    for panel, title in zip(axes, titles):
        panel.set_title(title, fontsize=8.5, pad=3, parse_math=False)
    for number, panel in enumerate(axes):
        panel.tick_params(labelsize=7.5, labelbottom=number + 4 >= len(titles))
        panel.set_visible(number < len(titles))
    return figure, list(axes[: len(titles)])


def curve(
    axes: Axes,
    x: np.ndarray,
    values: np.ndarray,
    style: Style,
    label: str,
    every: int,
    first: int = 0,
    banded: bool = True,
) -> None:
    """Mean and interval over the images; markers at some of the points only."""
    mean, low, high = band(values)
    if banded:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.13, linewidth=0)
    axes.plot(
        x,
        mean,
        marker=style.marker,
        linestyle=style.dashes,
        color=style.colour,
        label=label,
        markersize=4.5,
        linewidth=1.4,
        markevery=(first % every, every),
    )
    axes.grid(alpha=0.3)


def _columns(labels: Sequence[str]) -> int:
    """Of a legend below panels."""
    return max(1, min(len(labels), int(8.2 / (0.75 + LETTER * widest(labels)))))


def rows_below(labels: Sequence[str]) -> int:
    """Of a legend below panels."""
    return -(-len(labels) // _columns(labels))


def legend(figure: Figure, axes: Axes, below: bool = False) -> None:
    """Beside the axes, or below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    side = axes.get_position()
    where: dict[str, Any] = (
        {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0), "ncols": _columns(labels), "borderaxespad": 0.2}
        if below
        else {"loc": "upper left", "bbox_to_anchor": (side.x1 + 0.01, side.y1)}
    )
    for text in figure.legend(handles, labels, frameon=False, fontsize=8.5, handlelength=3.2, **where).get_texts():
        text.set_parse_math(False)
