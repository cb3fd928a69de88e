"""The other figures: a front of masks, several masks of one image, what several seeds agree on.

Every figure is a plain `matplotlib.figure.Figure`; nothing here touches pyplot or any other global state, and nothing
that a user sets there changes a picture.
"""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from evomask.measures import agreement
from evomask.niches import Several
from evomask.report import drawing, layout, wording
from evomask.report.drawing import BLUE, BROWN, COLORMAP, COLOURS, RED, one_line, show
from evomask.report.layout import INNER, MARGIN, Block, Panel
from evomask.report.picture import caption, check_single, head, ratio_of, under_mask
from evomask.report.reasons import status_word
from evomask.stability import Stability
from evomask.types import Explanation, Front, InputError

SIZE = 10.0  # of the words at panels, in points
CURVE = 2.6  # inches of a curve
SIGNED = matplotlib.colormaps["RdBu"].with_extremes(bad="0.72")


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
    shown = slots[np.unique(np.linspace(0, len(slots) - 1, 6).round().astype(int))] if len(slots) else slots
    points = [(letter, front.area[slot], front.confidence[slot]) for letter, slot in zip("ABCDEF", shown)]
    panels = [
        Panel(
            f"{letter}: {wording.percent(area)}",
            lambda axes, mask=front.mask[slot]: show(axes, under_mask(found, mask)),
            [f"confidence {confidence:.2f}"],
        )
        for slot, (letter, area, confidence) in zip(shown, points)
    ]
    label = one_line(found.name(found.label))
    said = f"Of the masks of every size that the search saw, the one with the highest confidence in “{label}”."
    return layout.page([
        *head(name, f"how much is enough for “{label}”?", said if points else "The search saw no mask that counts."),
        Block(CURVE, lambda figure, top: _curve(figure, top, found, slots, points)),
        *_rows(panels, found.image),
    ])  # fmt: skip


@drawing.own_style
def several_figure(found: Several, *, name: str = "") -> Figure:
    """The masks of one image, each with what it keeps and how much of it lies in earlier ones.

    Args:
      found: of one image (no batch axis).
      name: as for `picture.explanation_figure`.
    """
    first, count = found.explanations[0], len(found.explanations)
    colours = [COLOURS[index % len(COLOURS)] for index in range(count)]

    def together(axes: Axes) -> None:
        show(axes, first.image)
        for one, colour in zip(found.explanations, colours):
            axes.add_collection(drawing.outline(one.mask, colour))

    def framed(axes: Axes, one: Explanation, colour: str) -> None:
        show(axes, under_mask(one, one.mask))
        axes.spines[:].set(color=colour, linewidth=3)

    panels, width = [Panel("all together", together)], INNER / _across(count + 1) - 0.2
    for index, one in enumerate(found.explanations):
        said = caption(one, one.masked_label, one.masked_confidence, width, SIZE)
        shared = [f"{wording.percent(found.shared[index])} in earlier masks"] if index else []
        draw = lambda axes, one=one, colour=colours[index]: framed(axes, one, colour)
        panels.append(Panel(f"mask {index + 1}: {wording.percent(one.area)}", draw, [*said, status_word(one), *shared]))
    met = sum(bool(one.met) for one in found.explanations)
    said = f"{met} of {count} masks are {' or '.join(dict.fromkeys(found.demanded))}, as was demanded."
    if found.several_reasons:
        said = f"{said} But {agreement.sentence(found.least_shared)}."
    return layout.page([
        *head(name, f"{count} masks for “{one_line(first.name(first.label))}”", said),
        *_rows(panels, first.image),
    ])  # fmt: skip


@drawing.own_style
def effect_figure(found: Explanation, *, name: str = "") -> Figure:
    """Which pixels speak for the class and which against it, as far as the search has seen, and the error of that.

    An effect within two standard errors of zero is not known to be any, and drawn in grey.

    Args:
      found, name: as for `picture.explanation_figure`; the explanation has effects.
    """
    check_single(found)
    if found.effect is None or found.effect_error is None:
        raise InputError("the explanation has no effects: search with scoring=GoodMasks() or MainEffects()")
    effect, error = np.asarray(found.effect), np.nan_to_num(found.effect_error)
    clear = clear_effect(effect, np.asarray(found.effect_error))
    most, largest = max(float(np.abs(effect[clear]).max(initial=0.0)), 0.01), max(float(error.max()), 0.01)

    def bar(axes: Axes, ticks: tuple[float, ...], unit: str) -> None:
        below = drawing.colour_bar(axes, 0.8 * SIZE, ticks)
        below.set_xticklabels([f"{tick:+.2f}" if tick and ticks[0] < 0 else f"{tick:.2f}" for tick in ticks])
        below.set_xlabel(unit, fontsize=0.9 * SIZE, labelpad=2)

    def effects(axes: Axes) -> None:
        show(axes, np.where(clear, effect, np.nan), cmap=SIGNED, vmin=-most, vmax=most)
        bar(axes, (-most, 0, most), "confidence with it less without")

    def errors(axes: Axes) -> None:
        show(axes, np.asarray(found.effect_error), cmap=COLORMAP, vmin=0, vmax=largest)
        bar(axes, (0, largest / 2, largest), "of the effect")

    label = one_line(found.name(found.label))
    shares = [wording.percent((clear & side).mean()) for side in (effect > 0, effect < 0)]
    said = (
        f"Pictures that show a pixel are more confident than those that do not, by more than two standard errors, for "
        f"{shares[0]} of the pixels, and less for {shares[1]}. Of the others, in grey, that is not known."
    )
    panels = [
        Panel("original", lambda axes: (show(axes, found.image), axes.add_collection(drawing.outline(found.mask)))),
        Panel("effect", effects, bar=0.62),
        Panel("standard error", errors, bar=0.62),
    ]
    return layout.page([*head(name, f"for and against “{label}”", said), *_rows(panels, found.image)])


def clear_effect(effect: np.ndarray, error: np.ndarray) -> np.ndarray:
    """bool[H, W]: where the effect f32[H, W] is further from zero than two standard errors; NaN is not.

    >>> clear_effect(np.array([[0.3, -0.3, 0.3, np.nan]]), np.array([[0.1, 0.1, 0.2, np.nan]])).tolist()
    [[True, True, False, False]]
    """
    return np.abs(np.nan_to_num(effect)) > 2 * np.nan_to_num(error, nan=np.inf)


@drawing.own_style
def stability_figure(image: np.ndarray, found: Stability, *, name: str = "") -> Figure:
    """What N seeds have in common: which pixels their masks keep, the mean score matrix and its standard deviation.

    Args:
      image: f32[H, W, C] in [0, 1].
      found: of this image alone (no batch axis).
      name: as for `picture.explanation_figure`.
    """

    def scaled(values: np.ndarray, title: str, unit: str, most: float = 1.0) -> Panel:
        def draw(axes: Axes) -> None:
            show(axes, values, cmap=COLORMAP, vmin=0, vmax=most)
            bar = drawing.colour_bar(axes, 0.8 * SIZE, (0, most / 2, most))
            bar.set_xlabel(unit, fontsize=0.9 * SIZE, labelpad=2)

        return Panel(title, draw, bar=0.62)

    count, spread = len(found.area), max(round(float(found.score_std.max()), 2), 0.01)
    said = (
        f"Searched from {count} seeds: {found.met.sum()} of {count} masks are {found.demand}. They keep "
        f"{wording.percent(found.area.mean())} of the pixels (± {wording.percent(found.area.std(ddof=1))}), and two of "
        f"them share {wording.percent(found.mean_iou)} of what they keep, in the mean."
    )
    reasons = agreement.sentence(found.least_shared) if found.several_reasons else ""
    panels = [
        Panel("original", lambda axes: show(axes, image)),
        scaled(found.kept, "kept", "share of the seeds"),
        scaled(found.score, "score, mean", "over the seeds"),
        scaled(found.score_std, "score, spread", "standard deviation", spread),
    ]
    return layout.page([
        *head(name, "do other seeds agree?", said),
        layout.text(reasons, SIZE, color=RED),
        *_rows(panels, image),
    ])  # fmt: skip


def _across(count: int) -> int:
    """How many panels stand side by side."""
    return 2 if count in (2, 4) else 3


def _rows(panels: list[Panel], image: np.ndarray) -> list[Block]:
    """Panels from left to right, two or three of them in a row; the last row is filled up."""
    across = _across(len(panels))
    panels = panels + [Panel("", Axes.set_axis_off)] * (-len(panels) % across)
    return [
        layout.panels(panels[first : first + across], ratio_of(image), size=SIZE)
        for first in range(0, len(panels), across)
    ]


def _curve(
    figure: Figure, top: float, found: Explanation, slots: np.ndarray, points: list[tuple[str, float, float]]
) -> None:
    """The front across the page, with the masks that are shown and the final one."""
    axes = drawing.place(figure, MARGIN + 0.5, top - CURVE + 0.45, INNER - 0.6, CURVE - 0.5)
    _front_curve(axes, found.front, slots)
    axes.plot(found.area, found.masked_confidence, "*", color=BROWN, markersize=13, label="the final mask")
    axes.axhline(found.confidence, color="0.5", linewidth=0.9, linestyle=":", label="the whole image")
    for letter, *point in points:
        axes.annotate(letter, point, (4, -11), textcoords="offset points", fontsize=SIZE)
    axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xticks=np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel("pixels kept", fontsize=SIZE)
    axes.set_ylabel("confidence", fontsize=SIZE)
    axes.tick_params(labelsize=0.9 * SIZE)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=0.85 * SIZE, frameon=False, loc="lower right")


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
