"""Is a wrong class made to win as easily as the right one? Certified areas of both, method by method.

A search that can make any class win with a small mask shows nothing about the right one (sanity in the sense of Adebayo
et al. 2018, asked of the decision instead of the weights).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evomask.measures import statistics

from .cells import TITLES, Cell, Sweep
from .columns import SEED, hundredths, per_image, spread
from .summaries import DASH, Table, notes

RIGHT = ("label", "predicted")  # values of `target`


def table(sweep: Sweep) -> Table:
    """A row for each method and target: certified area, its ratio to that of the right class, and the AUROC."""
    numbers = pd.DataFrame([row for group in by_method(sweep) for row in rows(group)])
    text = pd.DataFrame(
        {
            "method": [TITLES.get(name, name) for name in numbers["method"]],
            "class": numbers["class"],
            "certified area": numbers["certified area"].map(spread),
            "wrong / right": numbers["wrong / right"].map(_or_dash),
            "AUROC": numbers["AUROC"].map(_or_dash),
        }
    )
    for end in ("low", "high"):
        numbers[f"certified area {end}"] = [getattr(each, end) for each in numbers["certified area"]]
    numbers["certified area"] = [each.value for each in numbers["certified area"]]
    caption = (
        f"{sweep.experiment}: certified area (1 where nothing holds) of masks for the right class and for wrong ones; "
        "mean and 95 % bootstrap interval over the images, the ratio of the means, and the AUROC of the area as a "
        "detector of the right class: 0.5 says nothing, 1 that every right class has a smaller mask than every wrong "
        "one."
    )
    return Table(caption, notes(sweep), numbers, text, pd.DataFrame(False, text.index, text.columns))


def by_method(sweep: Sweep) -> list[list[Cell]]:
    """Cells that differ in nothing but the target; those of the right class first."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in sweep.sound:
        rest = tuple(value for key, value in cell.values.items() if key != "target")
        groups.setdefault(rest, []).append(cell)
    return [sorted(group, key=lambda cell: cell.values["target"] not in RIGHT) for group in groups.values()]


def rows(cells: list[Cell]) -> list[dict[str, Any]]:
    """Of one method; without a cell of the right class there is nothing to compare with."""
    areas = [per_image(cell.run, "certified_area") for cell in cells]
    has_right = cells[0].values["target"] in RIGHT
    compared = [has_right and cell is not cells[0] for cell in cells]
    return [
        {
            "method": cell.run.record["method"],
            "class": cell.values["target"],
            "certified area": statistics.bootstrap(mine, seed=SEED),
            "wrong / right": float(mine.mean() / areas[0].mean()) if other else np.nan,
            "AUROC": auroc(areas[0], mine) if other else np.nan,
        }
        for cell, mine, other in zip(cells, areas, compared, strict=True)
    ]


def auroc(right: np.ndarray, wrong: np.ndarray) -> float:
    """The chance that an area of the right class is smaller than one of a wrong class; equal ones count half.

    >>> auroc(np.array([0.1, 0.2]), np.array([0.2, 1.0]))
    0.875
    """
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(wrong, right).statistic / (len(right) * len(wrong)))


def _or_dash(value: float) -> str:
    return DASH if np.isnan(value) else hundredths(value)
