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
from experiments.results.columns import SEED
from experiments.results.comparable import Cell
from experiments.shared import cli

# Okabe and Ito 2008 without the yellow, which is lost on white, and with black and a grey.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
MARKERS = "osD^vP*X<>hp"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "|||")
TOGETHER = 6  # cells whose curves are drawn in one panel
LETTER, LINE = 0.075, 0.155  # inches that a letter of a label takes at most, and a line


class Look(NamedTuple):
    """How a cell is drawn wherever it appears: told apart by colour, marker, dashes and hatch."""

    colour: str
    marker: str
    dashes: str | tuple
    hatch: str


def look(number: int) -> Look:
    """The look of the n-th thing in a figure."""
    return Look(*(choices[number % len(choices)] for choices in (COLOURS, MARKERS, DASHES, HATCHES)))


def wrapped(text: str, width: int) -> str:
    """The whole text in lines of at most `width` letters, broken after blanks and commas where it can be.

    >>> wrapped("gross radii [0.03,0.06,0.12], budget 2000", 18)
    'gross radii\\n[0.03,0.06,0.12],\\nbudget 2000'
    >>> wrapped("populationgenerations", 12)
    'populationge\\nnerations'
    """
    lines = [""]
    for piece in re.split(r"(?<=[,\s])", text):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.rstrip() for line in lines if line.strip())


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
    wide = 5.6 + 0.75 + LETTER * widest(labels)
    high = max(high, 0.8 + sum(LINE * (label.count("\n") + 1) + 0.05 for label in labels))
    figure = Figure(figsize=(wide, high))
    place = {"left": 0.62 / wide, "right": 5.55 / wide, "top": 1 - 0.15 / high, "bottom": 0.5 / high, "hspace": 0.14}
    axes = figure.subplots(rows, 1, sharex=True, gridspec_kw=place)
    return figure, list(np.atleast_1d(axes))


def panels(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Small multiples with common axes, four in a row, and room for a legend below."""
    titles = [wrapped(title, 25) for title in titles]
    down, gap, tall = -(-len(titles) // 4), 0.14 + LINE * tallest(titles), 1.35
    high = 0.85 + down * (tall + gap)
    figure = Figure(figsize=(8.4, high))
    place = {
        "left": 0.075,
        "right": 0.985,
        "bottom": 0.82 / high,
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
    style: Look,
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


def legend(figure: Figure, axes: Axes, below: bool = False) -> None:
    """Beside the axes, or below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    side = axes.get_position()
    where: dict[str, Any] = (
        {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0), "ncols": 3, "borderaxespad": 0.2}
        if below
        else {"loc": "upper left", "bbox_to_anchor": (side.x1 + 0.01, side.y1)}
    )
    for text in figure.legend(handles, labels, frameon=False, fontsize=8.5, handlelength=3.2, **where).get_texts():
        text.set_parse_math(False)
