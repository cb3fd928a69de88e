"""The table's two headline numbers as bars."""

from __future__ import annotations

from matplotlib.figure import Figure

from evomask.measures import statistics

from ..cells import Sweep
from ..columns import SEED, per_image
from ..drawing import LETTER, LINE, tallest, widest, wrapped


def draw(sweep: Sweep, most: int) -> Figure | None:
    """Complete area, failures counted as 1, and the share of complete explanations, of every cell."""
    del most
    cells = sweep.sound
    titles = [wrapped(cell.title, 30) for cell in cells]
    left = 0.35 + LETTER * widest(titles)
    figure = Figure(figsize=(left + 4.8, 1.0 + (0.16 + LINE * tallest(titles)) * len(cells)))
    place = {
        "left": left / figure.get_figwidth(),
        "right": 0.97,
        "bottom": 0.62 / figure.get_figheight(),
        "wspace": 0.1,
    }
    axes = figure.subplots(1, 2, sharey=True, gridspec_kw={**place, "top": 1 - 0.12 / figure.get_figheight()})
    for place, cell in enumerate(cells):
        special = sweep.is_ours(cell)
        fill = {
            "color": "#56b4e9" if special else "#c9d6df",
            "edgecolor": "black",
            "linewidth": 0.6,
            "hatch": "///" if special else "",
        }
        for panel, values in zip(axes, (per_image(cell.run, "complete_area", 1.0), per_image(cell.run, "complete"))):
            found = statistics.bootstrap(values, seed=SEED)
            errors = [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]
            panel.barh(
                place, found.value, height=0.68, xerr=errors, error_kw={"capsize": 2.5, "elinewidth": 1.0}, **fill
            )
    axes[0].set_yticks(range(len(cells)), titles, parse_math=False)
    axes[0].set_ylim(len(cells) - 0.4, -0.6)
    axes[0].set(xlabel="complete area, failures as 1", xlim=(0, 1.03))
    axes[1].set(xlabel="share of complete explanations", xlim=(0, 1.03))
    for panel in axes:
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    return figure
