"""What every picture is drawn with: one style, panels at places in inches, captions, outlines.

Names, labels and stages are text that anybody wrote: nothing in them is taken for mathematics, and a character that the
font lacks becomes a box, without a warning.
"""

from __future__ import annotations

import functools
import textwrap
import warnings
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import Normal, Stroke

COLORMAP = "viridis"  # lightness rises evenly, the same to colour-blind readers and in grey
COLOURS = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#cc79a7",
    "#d55e00",
)  # Okabe and Ito 2008: told apart by all readers
BLUE, BROWN, RED = "#31688e", "#b5651d", "#a02c2c"
PANEL = 2.3  # width in inches
GAP = 0.3


def own_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws in matplotlib's default style, whatever the user has set for pictures of their own."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with style.context("default"):
            return draw(*args, **kwargs)

    return drawn


def save_png(figure: Figure, file: IO[bytes]) -> None:
    """Writes a figure in the style in which it was drawn; what the font lacks is shown as a box."""
    with style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(file, format="png")


def canvas(count: int, image: np.ndarray, rest: float) -> tuple[Figure, float]:
    """A figure as wide as `count` panels, `rest` inches higher than the panel of the image, and that panel's height."""
    tall = PANEL * min(image.shape[0] / image.shape[1], 2.0)
    return Figure(figsize=(count * (PANEL + GAP) + GAP, tall + rest), dpi=110), tall


def row(figure: Figure, count: int, bottom: float, tall: float) -> list[Axes]:
    """Panels from left to right, `bottom` inches above the lower edge."""
    return [place(figure, GAP + i * (PANEL + GAP), bottom, PANEL, tall) for i in range(count)]


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, so that nothing overlaps whatever the number of panels and the labels are."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def heading(figure: Figure, name: str, text: str, fontsize: float = 13) -> None:
    """The first line, which begins with the name of the photograph where it has one."""
    name = textwrap.shorten(name, 38, placeholder="…")
    up = 1 - 0.1 / figure.get_figheight()
    figure.suptitle(f"{name}: {text}" if name else text, fontsize=fontsize, y=up, va="top", parse_math=False)


def show(axes: Axes, picture: np.ndarray, title: str = "", **kwargs: Any) -> AxesImage:
    """A picture f32[H, W, 3], f32[H, W, 1] or f32[H, W] in a panel without ticks."""
    if title:
        axes.set_title(title, fontsize=11, parse_math=False)
    axes.set(xticks=[], yticks=[])
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture, kwargs = picture[..., 0], {"cmap": "gray", "vmin": 0, "vmax": 1}
    return axes.imshow(picture, interpolation="nearest", **kwargs)


def colour_bar(axes: Axes, shown: AxesImage, unit: str, **kwargs: Any) -> None:
    """What the colours of a panel stand for, in a bar under it."""
    figure, (left, bottom, width, _) = axes.figure, axes.get_position().bounds
    bar = figure.add_axes((left, bottom - 0.25 / figure.get_figheight(), width, 0.12 / figure.get_figheight()))  # pyright: ignore[reportAttributeAccessIssue]
    figure.colorbar(shown, cax=bar, orientation="horizontal", **kwargs)
    bar.tick_params(labelsize=8)
    bar.set_xlabel(unit, fontsize=9.5)


def outline(mask: np.ndarray, colour: str = "white") -> LineCollection:
    """The border of a mask bool[H, W] along the edges of its pixels: white inside black, seen on any ground.

    >>> len(outline(np.eye(2, dtype=bool)).get_segments())  # two pixels of four edges each, the border included
    8
    """
    padded = np.pad(mask, 1)
    rows, cols = np.nonzero(padded[1:] != padded[:-1])  # horizontal edges, above row `rows` of the mask
    across = np.stack([np.stack([cols - 1.5, rows - 0.5], -1), np.stack([cols - 0.5, rows - 0.5], -1)], 1)
    rows, cols = np.nonzero(padded[:, 1:] != padded[:, :-1])
    down = np.stack([np.stack([cols - 0.5, rows - 1.5], -1), np.stack([cols - 0.5, rows - 0.5], -1)], 1)
    halo = [Stroke(linewidth=2.6, foreground="black"), Normal()]
    segments = np.concatenate([across, down])
    return LineCollection(segments, colors=colour, linewidths=1.1, capstyle="round", path_effects=halo, clip_on=False)


def two_lines(label: str, width: int = 22) -> str:
    """A label that fits under a panel: at most two lines of `width` characters, cut with an ellipsis.

    >>> two_lines("American Staffordshire terrier")
    'American Staffordshire\\nterrier'
    >>> two_lines("a" * 50)
    'aaaaaaaaaaaaaaaaaaaaaa\\naaaaaaaaaaaaaaaaaaaaa…'
    """
    lines = textwrap.wrap(label, width)
    if len(lines) > 2:
        lines = [lines[0], lines[1][: width - 1] + "…"]
    return "\n".join(lines)


def one_line(label: str, width: int = 40) -> str:
    """A label that fits into a heading.

    >>> one_line("a very long name of a class", 16)
    'a very long…'
    """
    return textwrap.shorten(label, width, placeholder="…")
