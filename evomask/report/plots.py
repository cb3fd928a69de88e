"""Figures that can be trusted: what the network was shown, what it said, and which pixels counted.

Every figure is a plain `matplotlib.figure.Figure`; nothing here touches pyplot or any other global state.
"""

from __future__ import annotations

import textwrap
import types
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from evomask import fills
from evomask.niches import Several
from evomask.report.reasons import fills_held, reasons
from evomask.stability import Stability
from evomask.types import Explanation, History, Status

COLORMAP = "viridis"  # lightness rises evenly, the same to colour-blind readers and in grey
COLOURS = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#cc79a7",
    "#d55e00",
)  # Okabe and Ito 2008: told apart by all readers
PANEL = 2.3  # width in inches
GAP = 0.3
STATUS = {
    Status.COMPLETE: "complete: the mask is sufficient and necessary",
    Status.NOT_SUFFICIENT: "not sufficient: the masked image loses the class or too much confidence",
    Status.NOT_NECESSARY: "not necessary: without the mask the class stays",
    Status.NEITHER: "neither sufficient nor necessary",
    Status.BLANK_CLASS: "not conclusive: the blank image has this class as well",
    Status.UNSTABLE: "unstable: the verification does not confirm the search",
}


def shorten(label: str, width: int = 22) -> str:
    """A label that fits under a panel: at most two lines of `width` characters, cut with an ellipsis.

    >>> shorten("American Staffordshire terrier")
    'American Staffordshire\\nterrier'
    >>> shorten("a" * 50)
    'aaaaaaaaaaaaaaaaaaaaaa\\naaaaaaaaaaaaaaaaaaaaa…'
    """
    lines = textwrap.wrap(label, width)
    if len(lines) > 2:
        lines = [lines[0], lines[1][: width - 1] + "…"]
    return "\n".join(lines)


def explanation_figure(
    image: np.ndarray,
    explanation: Explanation,
    labels: Sequence[str],
    *,
    stages: Sequence[str],
    ends: Sequence[int] = (),
    blank: np.ndarray | None = None,
    name: str = "",
    minimal: bool | None = None,
) -> Figure:
    """Original | masked image of every stage | score matrix | overlay, what the network says of each, and convergence.

    Args:
      image: f32[H, W, C] in [0, 1], as the classifier saw it.
      explanation: of this image alone (no batch axis).
      labels: the K class names.
      stages: the S names of the stages, coarse to fine.
      ends: evaluations spent when each stage was over, to mark them in the convergence plot.
      blank: f32[H, W, C], what a blanked pixel becomes; None is black.
      name: of the image, for the heading.
      minimal: whether the mask has a certificate, see `evomask.certificate`; None: nobody asked.

    Under each panel stands the class that the network predicts for it and its confidence in the explained class; under
    the overlay, what it predicts once the outlined pixels are blanked. Where the mask is not complete, the second line
    of the heading says what is missing.
    """
    if len(stages) != len(explanation.stage_masks):
        raise ValueError(f"{len(stages)} stage names for {len(explanation.stage_masks)} stages")
    blank = np.zeros_like(image) if blank is None else np.broadcast_to(blank, image.shape)
    count = len(stages) + 3
    tall = PANEL * min(image.shape[0] / image.shape[1], 2.0)
    wide = count * (PANEL + GAP) + GAP
    failed = [line for reason in reasons(explanation, labels) for line in textwrap.wrap(reason, int(11 * wide))]
    figure = Figure(figsize=(wide, tall + 4.2 + 0.19 * len(failed)), dpi=110)
    panels = [_axes(figure, GAP + i * (PANEL + GAP), 3.45, PANEL, tall) for i in range(count)]
    explained = labels[int(explanation.label)]
    against = f" and not “{_short(labels[int(explanation.contrast)])}”" if explanation.contrast >= 0 else ""
    heading = (
        textwrap.shorten(f"{name}: " if name else "", 40, placeholder="…") + f" why “{_short(explained)}”{against}?"
    )
    figure.suptitle(heading.strip(), fontsize=13, y=1 - 0.1 / figure.get_figheight(), va="top", parse_math=False)
    if failed:
        place = {"x": 0.5, "y": 1 - 0.34 / figure.get_figheight(), "ha": "center", "va": "top"}
        figure.text(s="\n".join(failed), fontsize=9.5, color="#a02c2c", parse_math=False, **place)

    said = [(explanation.predicted, explanation.confidence)]
    said += list(zip(explanation.stage_labels, explanation.stage_confidences, strict=True))
    pictures = [image] + [np.where(mask[..., None], image, blank) for mask in explanation.stage_masks]
    for axes, picture, title, (label, confidence) in zip(panels, pictures, ["original", *stages], said, strict=False):
        _show(axes, picture, title)
        _caption(axes, "", labels, label, explanation.label, confidence)

    left, bottom, width, _ = panels[-2].get_position().bounds
    bar = figure.add_axes((left, bottom - 0.25 / figure.get_figheight(), width, 0.12 / figure.get_figheight()))
    score = _show(panels[-2], explanation.score, "score", cmap=COLORMAP, vmin=0, vmax=1)
    figure.colorbar(score, cax=bar, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.tick_params(labelsize=8)
    bar.set_xlabel("contribution to the decision", fontsize=9.5)

    _show(panels[-1], _grey(image), "overlay")
    alpha = 0.65 * explanation.mask.astype(np.float32)
    panels[-1].imshow(explanation.score, cmap=COLORMAP, vmin=0, vmax=1, alpha=alpha, interpolation="nearest")
    panels[-1].add_collection(outline(explanation.mask))
    if np.isfinite(explanation.inverse_confidence):
        said = (explanation.inverse_label, explanation.label, explanation.inverse_confidence)
        _caption(panels[-1], "outlined part blanked:\n", labels, *said)

    notes_width, legend_width = 3.6, 1.6
    curve = _axes(figure, 0.65, 0.55, figure.get_figwidth() - notes_width - legend_width - 0.8, 1.65)
    convergence(curve, explanation.history, dict(zip(stages, ends)))
    notes = _axes(figure, figure.get_figwidth() - notes_width, 0.3, notes_width, 1.9)
    notes.axis("off")
    notes.text(0, 1, _notes(explanation, explained, minimal), va="top", fontsize=10, linespacing=1.3, parse_math=False)
    return figure


def front_figure(
    image: np.ndarray,
    explanation: Explanation,
    labels: Sequence[str],
    *,
    blank: np.ndarray | None = None,
    name: str = "",
) -> Figure:
    """The area-confidence front of one image, and the image under some of its masks.

    Args:
      image, explanation, labels, blank, name: as for `explanation_figure`; the explanation has a front.
    """
    blank = np.zeros_like(image) if blank is None else np.broadcast_to(blank, image.shape)
    front, tall = explanation.front, PANEL * min(image.shape[0] / image.shape[1], 2.0)
    slots = np.flatnonzero(np.isfinite(front.area))
    shown = slots[np.unique(np.linspace(0, len(slots) - 1, 5).round().astype(int))] if len(slots) else slots
    wide = 5 * (PANEL + GAP) + GAP
    figure = Figure(figsize=(wide, tall + 4.6), dpi=110)
    figure.suptitle(
        f"{name}: area against confidence in “{_short(labels[int(explanation.label)])}”".removeprefix(": "),
        fontsize=13,
        y=1 - 0.1 / figure.get_figheight(),
        va="top",
        parse_math=False,
    )
    axes = _axes(figure, 0.75, tall + 1.35, wide - 1.1, 2.6)
    area, confidence, necessary = front.area[slots], front.confidence[slots], front.necessary[slots]
    axes.step(area, confidence, where="post", color="#31688e", linewidth=1.4)
    axes.plot(
        area[necessary], confidence[necessary], "o", color="#31688e", markersize=5, label="the inverse loses the class"
    )
    unseen = np.isnan(front.inverse_confidence[slots])
    keeps = ~necessary & ~unseen
    axes.plot(
        area[keeps],
        confidence[keeps],
        "o",
        color="#31688e",
        markerfacecolor="white",
        markersize=5,
        label="the inverse keeps it",
    )
    if unseen.any():
        axes.plot(
            area[unseen], confidence[unseen], "x", color="#31688e", markersize=5, label="the inverse was not evaluated"
        )
    axes.plot(
        explanation.area, explanation.masked_confidence, "*", color="#b5651d", markersize=13, label="the final mask"
    )
    axes.axhline(explanation.confidence, color="0.5", linewidth=0.9, linestyle=":", label="the whole image")
    for number, slot in enumerate(shown):
        axes.annotate(
            "ABCDE"[number],
            (front.area[slot], front.confidence[slot]),
            (4, -11),
            textcoords="offset points",
            fontsize=9,
        )
        panel = _axes(figure, GAP + number * (PANEL + GAP), 0.45, PANEL, tall)
        _show(panel, np.where(front.mask[slot][..., None], image, blank), "ABCDE"[number])
        panel.set_xlabel(f"{front.area[slot]:.1%} kept, confidence {front.confidence[slot]:.2f}", fontsize=9.5)
    axes.set(xlabel="area kept (fraction of the pixels)", ylabel="confidence", xlim=(0, None), ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False, loc="lower right")
    return figure


def several_figure(
    image: np.ndarray,
    found: Several,
    labels: Sequence[str],
    *,
    blank: np.ndarray | None = None,
    name: str = "",
) -> Figure:
    """The masks of one image side by side, each with what it keeps and how much of it lies in earlier ones.

    Args:
      image, labels, blank, name: as for `explanation_figure`.
      found: of this image alone (no batch axis).
    """
    blank = np.zeros_like(image) if blank is None else np.broadcast_to(blank, image.shape)
    count, tall = len(found.explanations) + 1, PANEL * min(image.shape[0] / image.shape[1], 2.0)
    wide = max(count, 3) * (PANEL + GAP) + GAP
    figure = Figure(figsize=(wide, tall + 2.1), dpi=110)
    explained = _short(labels[int(found.explanations[0].label)])
    figure.suptitle(
        f"{name}: {count - 1} masks for “{explained}”".removeprefix(": "),
        fontsize=13,
        y=1 - 0.1 / figure.get_figheight(),
        va="top",
        parse_math=False,
    )
    panels = [_axes(figure, GAP + i * (PANEL + GAP), 1.35, PANEL, tall) for i in range(count)]
    _show(panels[0], image, "all together")
    for index, (axes, one) in enumerate(zip(panels[1:], found.explanations)):
        colour = COLOURS[index % len(COLOURS)]
        panels[0].add_collection(outline(one.mask, colour))
        _show(axes, np.where(one.mask[..., None], image, blank), f"mask {index + 1}")
        axes.spines[:].set(color=colour, linewidth=3)
        lines = [
            shorten(labels[int(one.masked_label)]),
            f"confidence {one.masked_confidence:.2f}, area {one.area:.1%}",
            Status(int(one.status)).name.lower().replace("_", " "),
        ]
        lines += [f"{found.shared[index]:.0%} lies in earlier masks"] if index else []
        axes.set_xlabel("\n".join(lines), fontsize=9.5, parse_math=False)
    return figure


def stability_figure(image: np.ndarray, found: Stability, *, name: str = "") -> Figure:
    """What N seeds have in common: which pixels their masks keep, the mean score matrix and its standard deviation.

    Args:
      image: f32[H, W, C] in [0, 1].
      found: of this image alone (no batch axis).
      name: of the image, for the heading.
    """
    tall, seeds = PANEL * min(image.shape[0] / image.shape[1], 2.0), len(found.area)
    figure = Figure(figsize=(4 * (PANEL + GAP) + GAP, tall + 2.0), dpi=110)
    area = f"area {found.area.mean():.1%} ± {found.area.std(ddof=1):.1%}"
    heading = f"{name}: {seeds} seeds, {found.complete.sum()} complete, {area}, mean IoU {found.mean_iou:.2f}"
    figure.suptitle(
        heading.removeprefix(": "), fontsize=12, y=1 - 0.1 / figure.get_figheight(), va="top", parse_math=False
    )
    panels = [_axes(figure, GAP + i * (PANEL + GAP), 1.1, PANEL, tall) for i in range(4)]
    _show(panels[0], image, "original")
    for axes, values, title, unit in (
        (panels[1], found.kept, "kept", "share of the seeds"),
        (panels[2], found.score, "score", "mean over the seeds"),
        (panels[3], found.score_std, "score", "standard deviation over the seeds"),
    ):
        drawn = _show(
            axes, values, title, cmap=COLORMAP, vmin=0, vmax=1 if axes is not panels[3] else max(values.max(), 1e-6)
        )
        left, bottom, width, _ = axes.get_position().bounds
        bar = figure.add_axes((left, bottom - 0.25 / figure.get_figheight(), width, 0.12 / figure.get_figheight()))
        figure.colorbar(drawn, cax=bar, orientation="horizontal")
        bar.tick_params(labelsize=8)
        bar.set_xlabel(unit, fontsize=9.5)
    return figure


def convergence(axes: Axes, history: History, ends: Mapping[str, int] = types.MappingProxyType({})) -> None:
    """Draw confidence and area of the best individual against evaluations; hollow where a constraint is not met.

    Args:
      axes: where to draw.
      history: of one image, fields with leading axis T.
      ends: stage name -> evaluations spent when it was over; lines are broken there, since every stage starts anew.
    """
    spent, infeasible = np.asarray(history.evaluations), ~np.asarray(history.feasible, bool)
    breaks = np.searchsorted(spent, list(ends.values())[:-1], side="right")
    for values, label, style, colour in (
        (history.confidence, "confidence", "-o", "#31688e"),
        (history.area, "area", "--s", "#b5651d"),
    ):
        for x, y in zip(np.split(spent, breaks), np.split(np.asarray(values), breaks)):
            axes.plot(x, y, style, color=colour, label=label, markersize=3.5, linewidth=1.4)
            label = None  # one entry in the legend
        axes.plot(
            spent[infeasible],
            np.asarray(values)[infeasible],
            style[-1],
            color=colour,
            markerfacecolor="white",
            markersize=4,
        )
    if infeasible.any():
        axes.plot([], [], "o", color="black", markerfacecolor="white", markersize=4, label="constraints not met")
    start = 0
    for name, end in ends.items():
        axes.text((start + end) / 2, 1.0, name, ha="center", va="top", fontsize=8, color="0.35", parse_math=False)
        axes.axvline(end, color="0.6", linewidth=0.8, linestyle=":")
        start = end
    axes.set(xlabel="evaluations", ylabel="fraction", xlim=(0, None), ylim=(-0.03, 1.03))
    axes.set_title("best individual of each generation", fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


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


def _show(axes: Axes, picture: np.ndarray, title: str, **kwargs):
    axes.set_title(title, fontsize=11)
    axes.set(xticks=[], yticks=[])
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture, kwargs = picture[..., 0], {"cmap": "gray", "vmin": 0, "vmax": 1}
    return axes.imshow(picture, interpolation="nearest", **kwargs)


def _caption(axes: Axes, before: str, labels: Sequence[str], predicted: int, explained: int, confidence: float) -> None:
    which = "confidence" if predicted == explained else "explained class:"
    text = f"{before}{shorten(labels[int(predicted)])}\n{which} {confidence:.2f}"
    axes.set_xlabel(text, fontsize=9.5, parse_math=False)


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, so that nothing overlaps whatever the number of panels and the labels are."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _grey(image: np.ndarray) -> np.ndarray:
    """A pale grey version, on which the colours of the score stand out: f32[H, W, C] -> f32[H, W, 3]."""
    return np.repeat(0.25 + 0.75 * image.mean(-1, keepdims=True), 3, -1)


def _short(label: str) -> str:
    return textwrap.shorten(label, 40, placeholder="…")


def _notes(explanation: Explanation, explained: str, minimal: bool | None) -> str:
    held = fills_held(explanation)
    named = ", ".join(held) if 0 < len(held) < len(fills.SHIPPED) else ("all six fills" if held else "no fill")
    lines = [
        f"explained class   {textwrap.shorten(explained, 34, placeholder='…')}",
        f"area kept   {explanation.area:.1%} of the pixels",
        f"CP   {explanation.cp:.2f} (masked confidence / area)",
        f"confidence of the blank image   {explanation.blank_confidence:.2f}",
        f"evaluations   {int(explanation.evaluations):,}",
        f"complete under   {named}",
        textwrap.fill(STATUS[Status(int(explanation.status))], 44),
    ]
    if explanation.contrast >= 0:
        lines.insert(1, "confidences are shares between the two")
    if minimal is not None:
        lines.insert(2, f"1-minimal   {'yes' if minimal else 'not certified'}")
    return "\n".join(lines)
