"""The picture of an explanation: what is kept, what the network says of it and of the rest, and which pixels count.

The four large panels come first, and are large on a telephone, too; how the search got there stands small below them.
Every figure is a plain `matplotlib.figure.Figure`; nothing here touches pyplot or any other global state, and nothing
that a user sets there changes a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evomask.measures.certainty import short_sentence
from evomask.report import drawing, layout, wording
from evomask.report.drawing import BLUE, BROWN, COLORMAP, RED, one_line, show
from evomask.report.layout import INNER, MARGIN, Block, Panel
from evomask.report.reasons import fills_held, reasons, status_sentence
from evomask.types import Explanation, History, InputError, Status

TALL = 1.4  # height over width from which the four panels stand in one row
SIZE = 12.5  # of the large panels' words, in points
SMALL = 8.0
STAGE = 1.05  # inches of a stage's panel
CURVE = 1.35  # inches of the convergence, at least


@drawing.own_style
def explanation_figure(
    found: Explanation, *, name: str = "", minimal: bool | None = None, channels: Sequence[str] = ()
) -> Figure:
    """Original with the mask's outline | what is kept | the picture without it | score matrix; stages and convergence.

    Args:
      found: of one image (no batch axis).
      name: of the image, for the heading.
      minimal: whether the mask has a certificate, see `evomask.certificate`; None: nobody asked.
      channels: what they are called, for a note on which of them are seen.

    Under the heading stands a sentence that says what the picture shows, and in red what a mask lacks that is not what
    was demanded; under each panel what the network says of it.

    Raises:
      InputError: `found` is of several images.
    """
    check_single(found)
    return layout.page([
        *head(name, _why(found), wording.sentence(found)),
        layout.text("; ".join(reasons(found)), 8.5, color=RED),
        _large(found),
        _search(found),
        layout.text(" · ".join(_notes(found, minimal, channels)), SMALL, color="0.3"),
    ])  # fmt: skip


def head(name: str, question: str, said: str) -> list[Block]:
    """The heading, with the name of the photograph where it has one, and a sentence under it."""
    question = f"{one_line(name, 38)}: {question}" if name else question
    return [layout.text(question, 14, is_heading=True), layout.text(said, 12)]


def four(
    image: np.ndarray, blank: np.ndarray, mask: np.ndarray, score: np.ndarray
) -> tuple[Panel, Panel, Panel, Panel]:
    """The panels of one image without their captions: original, kept, without it, score."""

    def outlined(axes: Axes) -> None:
        show(axes, image)
        axes.add_collection(drawing.outline(mask))

    def scored(axes: Axes) -> None:
        show(axes, score, cmap=COLORMAP, vmin=0, vmax=1)
        axes.add_collection(drawing.outline(mask))

    return (
        Panel("original", outlined),
        Panel("what is kept", lambda axes: show(axes, np.where(mask[..., None], image, blank))),
        Panel("without it", lambda axes: show(axes, np.where(mask[..., None], blank, image))),
        Panel("score", scored),
    )


def convergence(axes: Axes, history: History, ends: Sequence[int] | np.ndarray = ()) -> None:
    """Draw confidence and area of the best individual against evaluations; hollow where a constraint is not met.

    Args:
      axes: where to draw.
      history: of one image, fields with leading axis T.
      ends: evaluations spent when each stage was over; lines are broken there, since every stage starts anew.
    """
    spent, infeasible = np.asarray(history.evaluations), ~np.asarray(history.feasible, bool)
    breaks = np.searchsorted(spent, ends[:-1], side="right")
    hollow = {"markerfacecolor": "white", "markersize": 2.4, "markeredgewidth": 0.7}
    for values, label, style, colour in (
        (np.asarray(history.confidence), "confidence", "-o", BLUE),
        (np.asarray(history.area), "area", "--s", BROWN),
    ):
        for x, y in zip(np.split(spent, breaks), np.split(values, breaks)):
            axes.plot(x, y, style, color=colour, label=label, markersize=1.8, linewidth=1.1)
            label = None  # one entry in the legend
        axes.plot(spent[infeasible], values[infeasible], style[-1], color=colour, **hollow)
    if infeasible.any():
        axes.plot([], [], "o", color="black", label="not met", **hollow)
    for start, end, number in zip((0, *ends), ends, range(1, len(ends) + 1)):
        axes.text((start + end) / 2, 1.02, str(number), ha="center", va="bottom", fontsize=SMALL, color="0.35")
        axes.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, None), ylim=(-0.03, 1.03), yticks=[0, 0.5, 1], xticks=[0, *ends[-1:]])
    axes.tick_params(labelsize=SMALL, pad=2, length=2)
    axes.set_xlabel("evaluations", fontsize=SMALL, labelpad=-6)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def caption(found: Explanation, predicted: int, confidence: float, width: float, size: float) -> list[str]:
    """What the network says, in one line where it fits; else its end, which has the number, is not cut."""
    whole = " ".join(parts := wording.under(found, predicted, confidence))
    if layout.extent(whole, size) <= width:
        return [whole]
    words, _, number = parts[1].rpartition(" ")
    if words:
        words = layout.fitted(words.strip("(”“"), width - layout.extent(f"(“” {number}", size), size)
    return [layout.fitted(parts[0], width, size), f"(“{words}” {number}" if words else number]


def under_mask(found: Explanation, mask: np.ndarray) -> np.ndarray:
    """The image under a mask, with the first fill of the configuration around it."""
    return np.where(mask[..., None], found.image, found.blanks[0])


def check_single(found: Explanation) -> None:
    """Refuses the explanation of several images."""
    if np.ndim(found.label):
        raise InputError(f"the explanation is of {len(found)} images: give that of one, such as found[0]")


def ratio_of(image: np.ndarray) -> float:
    """Height over width of the panel of an image; what is wider or taller than that leaves some of it empty."""
    return float(np.clip(image.shape[0] / image.shape[1], 0.3, 2.0))


def _large(found: Explanation) -> Block:
    """The four panels with what the network says of each: two by two, tall pictures side by side."""
    ratio = ratio_of(found.image)
    rows, size = (2, SIZE) if ratio < TALL else (1, 0.72 * SIZE)
    width = (INNER - 0.2 * (4 / rows - 1)) / (4 / rows)
    original, kept, without, score = four(found.image, found.blanks[0], found.mask, found.score)
    says = lambda predicted, confidence: caption(found, predicted, confidence, width, size)
    share = f"what is kept: {wording.percent(found.area)}"
    panels = [
        original._replace(caption=says(found.whole.label, found.confidence)),
        kept._replace(title=share, caption=says(found.masked_label, found.masked_confidence)),
        without._replace(caption=says(found.inverse_label, found.inverse_confidence)),
        score._replace(draw=lambda axes: (score.draw(axes), _scale(axes, found, width, size)), bar=0.64),
    ]
    if np.isnan(found.inverse_confidence):
        panels[2] = without._replace(caption=("not asked",))
    parts = np.split(np.arange(4), rows)
    return layout.column([layout.panels([panels[i] for i in part], ratio, size=size) for part in parts], 0.1)


def _scale(axes: Axes, found: Explanation, width: float, size: float) -> None:
    """What the colours of the score stand for, in a bar under it and in words."""
    bar = drawing.colour_bar(axes, 0.8 * size)
    said = ["how much a pixel counted, 1: most", "1: counted most"]
    inside, outside = found.score[found.mask], found.score[~found.mask]
    if inside.size and outside.size and inside.min() >= 0.5 > outside.max():
        said.insert(0, "1: counted most; mask: from 0.5")
    fits = [line for line in said if layout.extent(line, 0.8 * size) <= width]
    bar.set_xlabel((fits or said)[0 if fits else -1], fontsize=0.8 * size, labelpad=2)


def _search(found: Explanation) -> Block:
    """The stages, a small panel each, and how the search converged: beside them, under more than three of them."""
    count, ratio = len(found.stage_masks), ratio_of(found.image)
    stages = [_stage(found, index) for index in range(count)]
    if count > 3:
        across = min(count, 5)
        stages += [Panel("", Axes.set_axis_off)] * (-count % across)
        low = min(ratio, STAGE * (across / INNER))
        rows = [layout.panels(stages[i : i + across], low, size=SMALL) for i in range(0, count, across)]
        return layout.column([*rows, Block(CURVE, lambda figure, top: _curve(figure, top, found, MARGIN, CURVE))], 0.1)
    width = count * STAGE + 0.12 * (count - 1)
    small = layout.panels(stages, min(ratio, 1.3), size=SMALL, gap=0.12, width=width)
    height = max(small.height, CURVE)

    def draw(figure: Figure, top: float) -> None:
        small.draw(figure, top)
        _curve(figure, top, found, MARGIN + width + 0.15, height)

    return Block(height, draw)


def _curve(figure: Figure, top: float, found: Explanation, left: float, height: float) -> None:
    """The convergence from `left` to the margin, its legend above it."""
    wide, high = INNER + MARGIN - left - 0.45, height - 0.62
    axes = drawing.place(figure, left + 0.35, top - height + 0.3, wide, high)
    convergence(axes, found.history, found.ends)
    spaces = {"handlelength": 1.4, "columnspacing": 0.8, "handletextpad": 0.4, "borderaxespad": 0}
    corner = (1 + 0.1 / wide, 1 + 0.17 / high)
    axes.legend(fontsize=0.9 * SMALL, ncols=3, loc="lower right", bbox_to_anchor=corner, frameon=False, **spaces)


def _stage(found: Explanation, index: int) -> Panel:
    mask, predicted = found.stage_masks[index], found.stage_labels[index]
    is_kept = predicted == found.label
    said = f"confidence {found.stage_confidences[index]:.2f}" if is_kept else f"says “{found.name(predicted)}”"
    caption = [f"{wording.percent(mask.mean())} of pixels", layout.fitted(said, STAGE, SMALL)]
    title = f"{index + 1} {found.stages[index]}" if len(found.stages) > 1 else found.stages[index]
    return Panel(title, lambda axes: show(axes, under_mask(found, mask)), caption)


def _why(found: Explanation) -> str:
    """The question, for the heading."""
    explained = f"“{one_line(found.name(found.label))}”"
    if found.status == Status.COUNTERFACTUAL:
        return f"what would make it {explained}, not “{one_line(found.name(found.predicted))}”?"
    return f"why {explained}" + (f" and not “{one_line(found.name(found.contrast))}”?" if found.contrast >= 0 else "?")


def _notes(found: Explanation, minimal: bool | None, channels: Sequence[str]) -> list[str]:
    """What else is known of the mask, for those who know the words."""
    held, counterfactual = fills_held(found), found.status == Status.COUNTERFACTUAL
    every = f"all {len(held)} fills" if len(held) > 1 else held[0] if held else ""
    named = every if len(held) == len(found.fills) else ", ".join(held) or "no fill"
    notes = [
        status_sentence(found),
        "" if found.precision is None else short_sentence(found.precision),
        "" if minimal is None else f"1-minimal: {'yes' if minimal else 'not certified'}",
        "" if counterfactual else f"{found.demand} under {named}",
        "confidences are shares between the two classes" if found.contrast >= 0 else "",
        f"the worst of {len(found.blanks)} fills counts" if len(found.blanks) > 1 else "",
        f"CP {found.cp:.2f} (masked confidence / area)",
        f"confidence of the blank image {found.blank_confidence:.2f}",
        f"{int(found.evaluations):,} evaluations",
        wording.channels_shown(found.image.shape[-1], channels),
    ]
    return [note for note in notes if note]
