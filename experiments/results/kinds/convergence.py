"""How the search goes: area and confidence of the best individual against the evaluations spent."""

from __future__ import annotations

from matplotlib.figure import Figure

from ...benchmarks import runs
from ...benchmarks.jobs import OURS
from ..cells import Sweep
from ..columns import per_image
from ..drawing import TOGETHER, beside, by_image, curve, legend, panels, rows_below, style_of, wrapped

NAMES = {
    "history_area": "area",
    "history_confidence": "confidence",
    "history_feasible": "share that meets\nthe search's constraints",
}
# The search's constraints are those of its fitness; complete is what the verification says of the final mask.
COMPLETE = "★ at the end: the share of complete masks, as verified and in the table"


def draw(sweep: Sweep, most: int) -> Figure | None:
    """Of many cells, a panel for each; None where nothing was evolved."""
    del most
    cells = [cell for cell in sweep.sound if cell.run.config["method"]["_target_"] == OURS]
    if not cells:
        return None
    found = [runs.arrays(cell.folder, "history_evaluations", *NAMES) for cell in cells]
    spent = [arrays["history_evaluations"].max(0) for arrays in found]  # of the image that was searched longest
    complete = [float(per_image(cell.run, "complete").mean()) for cell in cells]
    star = {"marker": "*", "markersize": 11, "markeredgecolor": "white", "linestyle": "", "clip_on": False, "zorder": 6}
    if len(cells) > TOGETHER:
        kinds = [label.replace("\n", " ") for label in NAMES.values()]
        figure, axes = panels([cell.title for cell in cells], kinds)
        for panel, cell, arrays, x, share in zip(axes, cells, found, spent, complete):
            for number, (name, label) in enumerate(NAMES.items()):
                curve(
                    panel,
                    x,
                    by_image(cell, arrays[name]),
                    style_of(number),
                    label.replace("\n", " "),
                    max(len(x) // 5, 1),
                )
            panel.plot(x[-1], share, color=style_of(2).colour, **star)
            panel.set(xlim=(0, max(each[-1] for each in spent)), ylim=(0, 1.03))
        high = figure.get_figheight()
        figure.supxlabel(f"evaluations; {COMPLETE}", fontsize=9, y=(0.14 + 0.2 * rows_below(kinds)) / high)
        legend(figure, axes[0], below=True)
        return figure
    labels = [wrapped(cell.title, 26) for cell in cells]
    figure, axes = beside(labels, 4.9, 3)
    for number, (cell, arrays, x, share) in enumerate(zip(cells, found, spent, complete)):
        for panel, name in zip(axes, NAMES):
            curve(panel, x, by_image(cell, arrays[name]), style_of(number), labels[number], max(len(x) // 8, 1))
        axes[-1].plot(x[-1], share, color=style_of(number).colour, **star)
    for panel, label in zip(axes, NAMES.values()):
        panel.set(ylim=(0, 1.03))
        panel.set_ylabel(label, fontsize=8)
    axes[-1].set(xlabel=f"evaluations\n{COMPLETE}", xlim=(0, None))
    legend(figure, axes[0])
    return figure
