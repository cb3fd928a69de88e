"""What more evaluations are worth."""

from __future__ import annotations

from matplotlib.figure import Figure

from evomask.measures import statistics

from ..cells import Sweep, titled
from ..columns import SEED, per_image
from ..drawing import beside, legend, style_of, wrapped


def draw(sweep: Sweep, most: int) -> Figure | None:
    """Complete area, failures counted as 1, against the budget."""
    del most
    if "budget" not in sweep.keys:
        return None
    differ = [key for key in sweep.keys if key != "budget" and len({cell.values[key] for cell in sweep.sound}) > 1]
    rest = lambda cell: wrapped(titled(cell, differ), 26) or "complete area"
    figure, (axes,) = beside([rest(cell) for cell in {rest(cell): cell for cell in sweep.sound}.values()], 3.6)
    for number, name in enumerate(dict.fromkeys(map(rest, sweep.sound))):
        cells = sorted((cell for cell in sweep.sound if rest(cell) == name), key=lambda cell: cell.run.record["budget"])
        found = [statistics.bootstrap(per_image(cell.run, "complete_area", 1.0), seed=SEED) for cell in cells]
        style, budgets = style_of(number), [cell.run.record["budget"] for cell in cells]
        axes.fill_between(
            budgets, [x.low for x in found], [x.high for x in found], color=style.colour, alpha=0.13, linewidth=0
        )
        axes.plot(
            budgets,
            [x.value for x in found],
            marker=style.marker,
            linestyle=style.dashes,
            color=style.colour,
            label=name,
        )
    budgets = sorted({cell.run.record["budget"] for cell in sweep.sound})
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{each:,}" for each in budgets])
    axes.minorticks_off()
    axes.set(xlabel="budget (evaluations of one explanation)", ylabel="complete area, failures as 1", ylim=(0, 1.03))
    legend(figure, axes)
    return figure
