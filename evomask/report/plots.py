"""Figures that can be trusted: what the network was shown, what it said, and which pixels counted.

Every figure is a plain `matplotlib.figure.Figure`; nothing here touches pyplot or any other global state, and nothing
that a user sets there changes a picture.
"""

from __future__ import annotations

import textwrap
import types
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evomask.measures.certainty import short_sentence
from evomask.niches import Several
from evomask.report import drawing
from evomask.report.drawing import BLUE, BROWN, COLORMAP, COLOURS, GAP, PANEL, RED, one_line, show, two_lines
from evomask.report.reasons import fills_held, reasons, status_sentence, status_word
from evomask.stability import Stability
from evomask.types import Explanation, Front, History, InputError, Status


@drawing.own_style
def explanation_figure(found: Explanation, *, name: str = "", minimal: bool | None = None) -> Figure:
    """Original | masked image of every stage | score matrix | overlay, what the network says of each, and convergence.

    Args:
      found: of one image (no batch axis).
      name: of the image, for the heading.
      minimal: whether the mask has a certificate, see `evomask.certificate`; None: nobody asked.

    Under each panel stands the class that the network predicts for it and its confidence in the explained class; under
    the overlay, what it predicts once the outlined pixels are blanked. Where the mask is not what was demanded, the
    second line of the heading says what is missing.

    Raises:
      InputError: `found` is of several images.
    """
    _check_single(found)
    count = len(found.stage_masks) + 3
    wrapped = int(11 * (count * (PANEL + GAP) + GAP))
    failed = [line for reason in reasons(found) for line in textwrap.wrap(reason, wrapped)]
    figure, tall = drawing.canvas(count, found.image, 4.2 + 0.19 * len(failed))
    panels = drawing.row(figure, count, 3.45, tall)
    drawing.heading(figure, name, _why(found))
    if failed:
        place = {"x": 0.5, "y": 1 - 0.34 / figure.get_figheight(), "ha": "center", "va": "top"}
        figure.text(s="\n".join(failed), fontsize=9.5, color=RED, parse_math=False, **place)

    show(panels[0], found.image, "original")
    _caption(panels[0], found, found.predicted, found.confidence)
    stages = zip(found.stages, found.stage_masks, found.stage_labels, found.stage_confidences, strict=True)
    for axes, (title, mask, label, confidence) in zip(panels[1:], stages, strict=False):
        show(axes, _under(found, mask), title)
        _caption(axes, found, label, confidence)

    shown = show(panels[-2], found.score, "score", cmap=COLORMAP, vmin=0, vmax=1)
    drawing.colour_bar(panels[-2], shown, "contribution to the decision", ticks=[0, 0.5, 1])
    _overlay(panels[-1], found)

    notes_width, legend_width = 3.6, 1.6
    curve = drawing.place(figure, 0.65, 0.55, figure.get_figwidth() - notes_width - legend_width - 0.8, 1.65)
    convergence(curve, found.history, dict(zip(found.stages, found.ends)))
    notes = drawing.place(figure, figure.get_figwidth() - notes_width, 0.3, notes_width, 1.9)
    notes.axis("off")
    notes.text(0, 1, _notes(found, minimal), va="top", fontsize=10, linespacing=1.3, parse_math=False)
    return figure


@drawing.own_style
def front_figure(found: Explanation, *, name: str = "") -> Figure:
    """The area-confidence front of one image, and the image under some of its masks.

    Args:
      found, name: as for `explanation_figure`; the explanation has a front.
    """
    _check_single(found)
    if found.front is None:
        raise InputError("the explanation has no front: search with a configuration whose front=Collect(40)")
    front, slots = found.front, np.flatnonzero(np.isfinite(found.front.area))
    shown = slots[np.unique(np.linspace(0, len(slots) - 1, 5).round().astype(int))] if len(slots) else slots
    figure, tall = drawing.canvas(5, found.image, 4.6)
    drawing.heading(figure, name, f"area against confidence in “{one_line(found.name(found.label))}”")
    axes = drawing.place(figure, 0.75, tall + 1.35, figure.get_figwidth() - 1.1, 2.6)
    _front_curve(axes, front, slots)
    axes.plot(found.area, found.masked_confidence, "*", color=BROWN, markersize=13, label="the final mask")
    axes.axhline(found.confidence, color="0.5", linewidth=0.9, linestyle=":", label="the whole image")
    for letter, slot, panel in zip("ABCDE", shown, drawing.row(figure, len(shown), 0.45, tall)):
        point = (front.area[slot], front.confidence[slot])
        axes.annotate(letter, point, (4, -11), textcoords="offset points", fontsize=9)
        show(panel, _under(found, front.mask[slot]), letter)
        panel.set_xlabel(f"{point[0]:.1%} kept, confidence {point[1]:.2f}", fontsize=9.5)
    axes.set(xlabel="area kept (fraction of the pixels)", ylabel="confidence", xlim=(0, None), ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False, loc="lower right")
    return figure


@drawing.own_style
def several_figure(found: Several, *, name: str = "") -> Figure:
    """The masks of one image side by side, each with what it keeps and how much of it lies in earlier ones.

    Args:
      found: of one image (no batch axis).
      name: as for `explanation_figure`.
    """
    first, count = found.explanations[0], len(found.explanations) + 1
    figure, tall = drawing.canvas(max(count, 3), first.image, 2.1)
    ending = ", several reasons" if found.several_reasons else ""
    drawing.heading(figure, name, f"{count - 1} masks for “{one_line(first.name(first.label))}”{ending}")
    panels = drawing.row(figure, count, 1.35, tall)
    show(panels[0], first.image, "all together")
    for index, (axes, one) in enumerate(zip(panels[1:], found.explanations)):
        colour = COLOURS[index % len(COLOURS)]
        panels[0].add_collection(drawing.outline(one.mask, colour))
        show(axes, _under(one, one.mask), f"mask {index + 1}")
        axes.spines[:].set(color=colour, linewidth=3)
        lines = [
            two_lines(one.name(one.masked_label)),
            f"confidence {one.masked_confidence:.2f}, area {one.area:.1%}",
            status_word(one),
        ]
        lines += [f"{found.shared[index]:.0%} lies in earlier masks"] if index else []
        axes.set_xlabel("\n".join(lines), fontsize=9.5, parse_math=False)
    return figure


@drawing.own_style
def stability_figure(image: np.ndarray, found: Stability, *, name: str = "") -> Figure:
    """What N seeds have in common: which pixels their masks keep, the mean score matrix and its standard deviation.

    Args:
      image: f32[H, W, C] in [0, 1].
      found: of this image alone (no batch axis).
      name: as for `explanation_figure`.
    """
    figure, tall = drawing.canvas(4, image, 2.0)
    area = f"area {found.area.mean():.1%} ± {found.area.std(ddof=1):.1%}"
    text = f"{len(found.area)} seeds, {found.met.sum()} {found.demand}, {area}, mean IoU {found.mean_iou:.2f}"
    drawing.heading(figure, name, text, fontsize=12)
    panels = drawing.row(figure, 4, 1.1, tall)
    show(panels[0], image, "original")
    if found.several_reasons:
        text = f"several reasons: two masks\nthat hold share {found.least_shared:.0%}"
        panels[0].set_xlabel(text, fontsize=9.5, color=RED)
    for axes, values, title, unit, most in (
        (panels[1], found.kept, "kept", "share of the seeds", 1),
        (panels[2], found.score, "score", "mean over the seeds", 1),
        (panels[3], found.score_std, "score", "standard deviation over the seeds", max(found.score_std.max(), 1e-6)),
    ):
        shown = show(axes, values, title, cmap=COLORMAP, vmin=0, vmax=most)
        drawing.colour_bar(axes, shown, unit)
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
    hollow = {"markerfacecolor": "white", "markersize": 4}
    for values, label, style, colour in (
        (np.asarray(history.confidence), "confidence", "-o", BLUE),
        (np.asarray(history.area), "area", "--s", BROWN),
    ):
        for x, y in zip(np.split(spent, breaks), np.split(values, breaks)):
            axes.plot(x, y, style, color=colour, label=label, markersize=3.5, linewidth=1.4)
            label = None  # one entry in the legend
        axes.plot(spent[infeasible], values[infeasible], style[-1], color=colour, **hollow)
    if infeasible.any():
        axes.plot([], [], "o", color="black", label="constraints not met", **hollow)
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


def _front_curve(axes: Axes, front: Front, slots: np.ndarray) -> None:
    """Confidence against area, and of each mask what its inverse does."""
    area, confidence, necessary = front.area[slots], front.confidence[slots], front.necessary[slots]
    unseen = np.isnan(front.inverse_confidence[slots])
    axes.step(area, confidence, where="post", color=BLUE, linewidth=1.4)
    for which, marker, face, label in (
        (necessary, "o", BLUE, "the inverse loses the class"),
        (~necessary & ~unseen, "o", "white", "the inverse keeps it"),
        (unseen, "x", None, "the inverse was not evaluated"),
    ):
        if which.any() or which is not unseen:
            dots = {"color": BLUE, "markersize": 5, "label": label}
            axes.plot(area[which], confidence[which], marker, markerfacecolor=face, **dots)


def _overlay(axes: Axes, found: Explanation) -> None:
    """The score inside the mask on a pale image, the mask's outline, and what is predicted without it."""
    show(axes, drawing.pale(found.image), "overlay")
    alpha = 0.65 * found.mask.astype(np.float32)
    axes.imshow(found.score, cmap=COLORMAP, vmin=0, vmax=1, alpha=alpha, interpolation="nearest")
    axes.add_collection(drawing.outline(found.mask))
    if np.isfinite(found.inverse_confidence):
        _caption(axes, found, found.inverse_label, found.inverse_confidence, "outlined part blanked:\n")


def _check_single(found: Explanation) -> None:
    if np.ndim(found.label):
        raise InputError(f"the explanation is of {len(found)} images: give that of one, such as found[0]")


def _under(found: Explanation, mask: np.ndarray) -> np.ndarray:
    """The image under a mask, with the first fill of the configuration around it."""
    return np.where(mask[..., None], found.image, found.blanks[0])


def _caption(axes: Axes, found: Explanation, predicted: int, confidence: float, before: str = "") -> None:
    which = "confidence" if predicted == found.label else "explained class:"
    text = f"{before}{two_lines(found.name(predicted))}\n{which} {confidence:.2f}"
    axes.set_xlabel(text, fontsize=9.5, parse_math=False)


def _why(found: Explanation) -> str:
    """The question, for the heading."""
    explained = f"“{one_line(found.name(found.label))}”"
    if found.status == Status.COUNTERFACTUAL:
        return f"what would make it {explained}, not “{one_line(found.name(found.predicted))}”?"
    return f"why {explained}" + (f" and not “{one_line(found.name(found.contrast))}”?" if found.contrast >= 0 else "?")


def _notes(found: Explanation, minimal: bool | None) -> str:
    held, counterfactual = fills_held(found), found.status == Status.COUNTERFACTUAL
    every = f"all {len(held)} fills" if len(held) > 1 else held[0] if held else ""
    named = every if len(held) == len(found.fills) else ", ".join(held) or "no fill"
    predicted = f"predicted   {one_line(found.name(found.predicted), 28)} ({found.predicted_confidence:.2f})"
    lines = [
        f"explained class   {one_line(found.name(found.label), 34)}",
        predicted if counterfactual else "",
        "confidences are shares between the two" if found.contrast >= 0 else "",
        "" if minimal is None else f"1-minimal   {'yes' if minimal else 'not certified'}",
        f"area kept   {found.area:.1%} of the pixels",
        f"CP   {found.cp:.2f} (masked confidence / area)",
        f"confidence of the blank image   {found.blank_confidence:.2f}",
        f"evaluations   {int(found.evaluations):,}",
        "" if counterfactual else textwrap.fill(f"{found.demand} under   {named}", 44),
        textwrap.fill(status_sentence(found), 44),
        "" if found.precision is None else textwrap.fill(short_sentence(found.precision), 44),
    ]
    return "\n".join(line for line in lines if line)
