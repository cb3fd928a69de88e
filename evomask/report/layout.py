"""A page of blocks, one under the other: each says how high it is before anything is drawn, so that nothing overlaps.

Text is measured in the font it is drawn in: whatever names classes, stages and photographs have, lines fit.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from evomask.report import drawing

WIDTH = 6.4  # inches; on a telephone, 390 pixels wide, 12 points are still 10 pixels high
MARGIN = 0.15
INNER = WIDTH - 2 * MARGIN
LINE = 1.3 / 72  # inches of a line's height for each point of the font's size


class Block(NamedTuple):
    """Something as wide as the page: its height in inches, and what draws it, given how high its upper edge lies."""

    height: float
    draw: Callable[[Figure, float], object]


class Panel(NamedTuple):
    """A picture with a title above it and lines under it, which fit; `draw` shows it in its axes."""

    title: str
    draw: Callable[[Axes], object]
    caption: Sequence[str] = ()
    bar: float = 0.0  # inches under the picture that `draw` fills itself


def page(blocks: Sequence[Block], gap: float = 0.13) -> Figure:
    """A figure of these blocks, from top to bottom; those without height are left out."""
    blocks = [block for block in blocks if block.height]
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1) + 2 * MARGIN
    figure, top = Figure(figsize=(WIDTH, height), dpi=150), height - MARGIN
    for block in blocks:
        block.draw(figure, top)
        top -= block.height + gap
    return figure


def text(written: str, size: float, *, most: int | None = None, is_heading: bool = False, **kwargs: object) -> Block:
    """A paragraph, broken into lines (at most so many); the heading is the figure's own, in bold."""
    weight = "bold" if is_heading else "normal"
    lines = wrapped(written, INNER, size, most, weight)
    look = {"fontsize": size, "weight": weight, "va": "top", "ha": "left", "linespacing": 1.2} | kwargs

    def draw(figure: Figure, top: float) -> None:
        at, put = (MARGIN / WIDTH, top / figure.get_figheight()), figure.suptitle if is_heading else figure.text
        put(x=at[0], y=at[1], **{"t" if is_heading else "s": "\n".join(lines)}, **look, parse_math=False)

    return Block(len(lines) * size * LINE, draw)


def panels(row: Sequence[Panel], ratio: float, *, size: float, gap: float = 0.2, width: float = INNER) -> Block:
    """Panels side by side, as wide as they are many, `ratio` times as high; titles and captions in this size."""
    across = (width - gap * (len(row) - 1)) / len(row)
    above, tall = 1.2 * size * LINE if any(panel.title for panel in row) else 0, across * ratio
    under = max(
        [panel.bar for panel in row] + [0.06 + len(panel.caption) * size * LINE for panel in row if panel.caption]
    )

    def draw(figure: Figure, top: float) -> None:
        for index, panel in enumerate(row):
            left = MARGIN + index * (across + gap)
            axes = drawing.place(figure, left, top - above - tall, across, tall)
            axes.set(xticks=[], yticks=[])
            axes.set_title(
                fitted(panel.title, across, size, "bold"), fontsize=size, weight="bold", pad=4, parse_math=False
            )
            axes.set_xlabel("\n".join(panel.caption), fontsize=size, labelpad=3, linespacing=1.2, parse_math=False)
            panel.draw(axes)

    return Block(above + tall + under, draw)


def column(blocks: Sequence[Block], gap: float) -> Block:
    """Blocks under each other as one."""

    def draw(figure: Figure, top: float) -> None:
        for block in blocks:
            block.draw(figure, top)
            top -= block.height + gap

    return Block(sum(block.height for block in blocks) + gap * (len(blocks) - 1), draw)


def wrapped(written: str, width: float, size: float, most: int | None = None, weight: str = "normal") -> list[str]:
    """Lines that are at most `width` inches wide in this size; what exceeds `most` of them ends in an ellipsis.

    >>> wrapped("in a picture of a cup", 0.8, 10)
    ['in a', 'picture of', 'a cup']
    >>> wrapped("in a picture of a cup", 0.8, 10, most=2)
    ['in a', 'picture o…']
    """
    lines = [""]
    for word in re.split(" (?!%)", written):  # 41 % stay together
        longer = f"{lines[-1]} {word}".strip()
        if extent(longer, size, weight) <= width:
            lines[-1] = longer
            continue
        lines += [""] * bool(lines[-1])
        for letter in word:  # a word that is longer than a line is broken
            if lines[-1] and extent(lines[-1] + letter, size, weight) > width:
                lines.append("")
            lines[-1] += letter
    if most is not None and len(lines) > most:
        rest = " ".join(lines[most - 1 :])
        lines = [*lines[: most - 1], fitted(rest, width, size, weight)]
    return [line for line in lines if line]


def fitted(written: str, width: float, size: float, weight: str = "normal") -> str:
    """One line of at most `width` inches, cut with an ellipsis.

    >>> fitted("American Staffordshire terrier", 1.2, 10)
    'American Staff…'
    """
    if extent(written, size, weight) <= width:
        return written
    length = len(written) - 1
    while length and extent(written[:length].rstrip() + "…", size, weight) > width:
        length -= 1
    return written[:length].rstrip() + "…"


@functools.lru_cache(maxsize=10_000)
def extent(written: str, size: float, weight: str = "normal") -> float:
    """How wide a line is in inches, in the font of every picture; a trifle more, since pixels round."""
    font = FontProperties(family="DejaVu Sans", weight=weight, size=size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        return 1.02 * text_to_path.get_text_width_height_descent(written, font, ismath=False)[0] / 72  # pyright: ignore[reportArgumentType]
