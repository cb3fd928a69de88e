"""What every picture is drawn with: one style, panels at places in inches, captions, outlines.

Names, labels and stages are text that anybody wrote: nothing in them is taken for mathematics, and a character that the
font lacks becomes a box, without a warning.
"""

from __future__ import annotations

import functools
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import Normal, Stroke
from PIL.Image import Image

from evomask.data.arrays import as_rgb

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


def own_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws in matplotlib's default style, whatever the user has set for pictures of their own."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with style.context("default"):
            return draw(*args, **kwargs)

    return drawn


def save_png(figure: Figure | Image, file: IO[bytes], **options: Any) -> None:
    """Writes a figure in the style in which it was drawn; what the font lacks is a box. Or a picture as it is."""
    if isinstance(figure, Image):
        figure.save(file, "PNG")
        return
    with style.context("default"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(file, format="png", **options)


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, so that nothing overlaps whatever the number of panels and the labels are."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def show(axes: Axes, picture: np.ndarray, title: str = "", **kwargs: Any) -> AxesImage:
    """A picture f32[H, W, C] or f32[H, W] in a panel without ticks; of other channels than grey or RGB see `as_rgb`."""
    if title:
        axes.set_title(title, fontsize=11, parse_math=False)
    axes.set(xticks=[], yticks=[])
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture, kwargs = picture[..., 0], {"cmap": "gray", "vmin": 0, "vmax": 1}
    elif picture.ndim == 3:
        picture = as_rgb(picture)
    return axes.imshow(picture, interpolation="nearest", **kwargs)


def colour_bar(axes: Axes, size: float, ticks: Sequence[float] = (0, 0.5, 1)) -> Axes:
    """What the colours of a panel stand for, in a bar under it; the numbers at its ends stay over the panel."""
    figure, at = axes.figure, axes.get_position()
    high = figure.get_figheight()  # pyright: ignore[reportAttributeAccessIssue]
    bar = figure.add_axes((at.x0, at.y0 - 0.22 / high, at.width, 0.12 / high))  # pyright: ignore[reportAttributeAccessIssue]
    figure.colorbar(axes.images[0], cax=bar, orientation="horizontal", ticks=ticks)
    bar.tick_params(labelsize=size, pad=2, length=2)
    for label, side in zip(bar.get_xticklabels(), ("left", "center", "right")):
        label.set_horizontalalignment(side)
    return bar


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


def one_line(label: str, width: int = 40) -> str:
    """A label that fits into a heading.

    >>> one_line("a very long name of a class", 16)
    'a very long…'
    """
    return textwrap.shorten(label, width, placeholder="…")
