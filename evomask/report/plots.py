"""The other figures: a front of masks, several masks of one image, what several seeds agree on.

Every figure is a plain `matplotlib.figure.Figure`; nothing here touches pyplot or any other global state, and nothing
that a user sets there changes a picture.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evomask.niches import Several
from evomask.report import drawing
from evomask.report.drawing import BLUE, BROWN, COLORMAP, COLOURS, RED, one_line, show, two_lines
from evomask.report.picture import check_single, under_mask
from evomask.report.reasons import status_word
from evomask.stability import Stability
from evomask.types import Explanation, Front, InputError


@drawing.own_style
def front_figure(found: Explanation, *, name: str = "") -> Figure:
    """The area-confidence front of one image, and the image under some of its masks.

    Args:
      found, name: as for `picture.explanation_figure`; the explanation has a front.
    """
    check_single(found)
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
        show(panel, under_mask(found, front.mask[slot]), letter)
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
      name: as for `picture.explanation_figure`.
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
        show(axes, under_mask(one, one.mask), f"mask {index + 1}")
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
      name: as for `picture.explanation_figure`.
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
