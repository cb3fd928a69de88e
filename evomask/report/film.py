"""How a mask came to be: the best one of every generation, as a moving picture and as a strip of its moments.

A moment is a generation, and after the last of them the mask that was chosen in the end.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from evomask.report import drawing, layout, wording
from evomask.report.layout import Block, Panel
from evomask.report.picture import check_single, convergence, four, head, ratio_of, under_mask
from evomask.types import Explanation, InputError

FRAMES = 50  # of the moving picture, at most
STRIP = 8  # of the strip
RATE, REST = 120, 2500  # milliseconds of a frame, and of the last one
DPI = 80
SIZE = 9.0  # of captions, in points


class Moment(NamedTuple):
    """A mask and what the search then knew of it."""

    mask: np.ndarray  # bool[H, W]
    generation: int | None  # None: the mask that was chosen in the end
    stage: str
    evaluations: int
    confidence: float


def moments(found: Explanation, most: int) -> list[Moment]:
    """At most so many moments of one image: generations, evenly spaced, first and last among them, and the end.

    Raises:
      InputError: `found` is of several images, or was searched without `film=True`.
    """
    check_single(found)
    if found.film is None:
        raise InputError("the explanation has no film: search with a configuration whose film=True")
    history = found.history
    ran = np.unique(history.evaluations, return_index=True)[1]  # without the repetitions of one that stopped early
    shown = ran[np.unique(np.linspace(0, len(ran) - 1, min(most - 1, len(ran))).round().astype(int))]
    stages = np.searchsorted(found.ends, history.evaluations[shown])
    seen = [
        Moment(found.film[t], int(t), found.stages[s], int(history.evaluations[t]), float(history.confidence[t]))
        for t, s in zip(shown, stages, strict=True)
    ]
    return [*seen, Moment(found.mask, None, "chosen", int(found.evaluations), float(found.masked_confidence))]


@drawing.own_style
def strip_figure(found: Explanation, *, name: str = "") -> Figure:
    """What the best mask keeps at eight moments of the search, for where nothing moves.

    Args:
      found, name: as for `picture.explanation_figure`; the explanation has a film.
    """
    panels = [
        Panel(_when(one), lambda axes, mask=one.mask: drawing.show(axes, under_mask(found, mask)), _what(one))
        for one in moments(found, STRIP)
    ]
    panels += [Panel("", Axes.set_axis_off)] * (-len(panels) % 4)
    rows = [layout.panels(panels[i : i + 4], ratio_of(found.image), size=SIZE) for i in range(0, len(panels), 4)]
    said = "What the best mask of a generation keeps, its share of the pixels, and the confidence that is left."
    return layout.page([*head(name, "how the mask evolved", said), *rows])


def gif(found: Explanation, *, name: str = "") -> bytes:
    """The moving picture of one image, as a GIF that repeats: outline, what is kept, and the convergence so far.

    Args:
      found, name: as for `strip_figure`.
    """
    shown = moments(found, FRAMES)
    frames = [_rendered(_frame(found, moment, name)) for moment in shown]
    palette = frames[-1].quantize(255)  # one for all, or colours would flicker
    still = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    times = [RATE] * (len(still) - 1) + [REST]
    still[0].save(file, "GIF", save_all=True, append_images=still[1:], duration=times, loop=0, optimize=False)
    return file.getvalue()


@drawing.own_style
def _frame(found: Explanation, moment: Moment, name: str) -> Figure:
    """One frame; all of them have the same size."""
    original, kept = four(found.image, found.blanks[0], moment.mask, found.score)[:2]
    kept = kept._replace(title=f"what is kept: {wording.percent(moment.mask.mean())}")
    said = f"{_when(moment)} ({moment.stage}), {moment.evaluations:,} evaluations: confidence {moment.confidence:.2f}"
    return layout.page([
        *head(name, "how the mask evolved", ""),
        layout.text(said, 11, most=1),
        layout.panels([original, kept], ratio_of(found.image), size=SIZE),
        _curve(found, moment),
    ])  # fmt: skip


def _curve(found: Explanation, moment: Moment) -> Block:
    """The convergence of the whole search, and where it is now."""
    height = 1.4

    def draw(figure: Figure, top: float) -> None:
        axes = drawing.place(figure, layout.MARGIN + 0.35, top - height + 0.35, layout.INNER - 0.4, height - 0.65)
        convergence(axes, found.history, found.ends)
        axes.axvline(min(moment.evaluations, int(found.ends[-1])), color=drawing.RED, linewidth=1.5)
        corner = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.12), "borderaxespad": 0}
        axes.legend(fontsize=SIZE, ncols=3, frameon=False, **corner)

    return Block(height, draw)


def _when(moment: Moment) -> str:
    return "in the end" if moment.generation is None else f"generation {moment.generation}"


def _what(moment: Moment) -> tuple[str, ...]:
    figures = f"{wording.percent(moment.mask.mean())}, {moment.confidence:.2f}"
    return figures, f"{moment.evaluations:,} evaluations", moment.stage


def _rendered(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    drawing.save_png(figure, file, dpi=DPI)
    return Image.open(file).convert("RGB")
