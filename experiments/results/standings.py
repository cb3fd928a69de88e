"""Who is first in each metric, by how much, and with what p: the losses of the row that is asked about included."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from evomask.measures import statistics
from evomask.measures.statistics import Comparison

from ..benchmarks import runs
from ..benchmarks.measured import METRICS
from .cells import TITLES, Cell, Sweep, short
from .columns import SEED, TESTS, p_value, per_image
from .summaries import Table, notes


class Quantity(NamedTuple):
    """What methods are compared in, image by image."""

    better: int  # 1: more is better, -1: less is
    values: Callable[[runs.Run], np.ndarray]  # f64[N]


def quantities() -> dict[str, Quantity]:
    """Those of masks that tables test, and every metric of heat maps of which more or less is better."""
    tested = {test.of: Quantity(-1 if test.smaller_is_better else 1, test.values) for test in TESTS.values()}
    return tested | {
        metric.head or name: Quantity(metric.better, functools.partial(per_image, name=name, failure=metric.failure))
        for name, metric in METRICS.items()
        if metric.better and not metric.needs_truth
    }


def title(cell: Cell) -> str:
    """What a row is called."""
    values = cell.values.items()
    return ", ".join(TITLES.get(value, value) if key == "method" else f"{short(key)} {value}" for key, value in values)


def table(sweep: Sweep) -> Table | None:
    """A row for each quantity, and for each group of methods under the same circumstances; None without any."""
    numbers = pd.DataFrame([row for group in sweep.groups() for row in rows(sweep, group)])
    if numbers.empty:
        return None
    shown = lambda name: numbers[name].map(lambda value: f"{value:.3f}")
    interval = [f"{low:+.3f} to {high:+.3f}" for low, high in zip(numbers["low"], numbers["high"])]
    text = pd.DataFrame(
        {
            "metric": numbers["metric"],
            "of": numbers["of"],
            "first": numbers["first"],
            "its mean": shown("mean of the first"),
            "mean": shown("mean"),
            "place": numbers["place"],
            "nearest rival": numbers["rival"],
            "ahead of it by": numbers["ahead"].map(lambda value: f"{value:+.3f}"),
            "95 % interval": interval,
            "won, drawn, lost": [", ".join(map(str, each)) for each in numbers[["won", "drawn", "lost"]].to_numpy()],
            "p": numbers["p"].map(p_value),
        }
    )
    caption = (
        f"{sweep.experiment}: who is first in each metric, and how the method under “of” stands against its nearest "
        "rival: the first, or the second where it is the first itself. Ahead: the mean difference over the images, its "
        "sign turned so that more is better, with a 95 % bootstrap interval; p: Wilcoxon's signed-rank test, after "
        "Holm over the rivals."
    )
    first = pd.DataFrame(False, text.index, text.columns)
    first["place"] = [place.startswith("1 ") for place in text["place"]]
    return Table(caption, notes(sweep), numbers, text, first)


def rows(sweep: Sweep, group: list[int]) -> Iterator[dict[str, Any]]:
    """Of one group; none where nobody is there to be compared with."""
    ours = sweep.ours(group)
    cells = [sweep.cells[index] for index in group if sweep.cells[index].sound]
    if ours is None or len(cells) < 2:
        return
    for name, quantity in quantities().items():
        values = {title(cell): quantity.values(cell.run) for cell in cells}
        mine = values.pop(title(sweep.cells[ours]))
        same = lambda theirs: len(theirs) == len(mine) and np.isfinite(theirs).all()
        rivals = {rival: theirs for rival, theirs in values.items() if same(theirs)}
        if rivals and len(mine) and np.isfinite(mine).all():
            yield row(sweep.cells[ours], name, quantity.better, mine, rivals)


def row(ours: Cell, name: str, better: int, mine: np.ndarray, rivals: dict[str, np.ndarray]) -> dict[str, Any]:
    """How one method stands in one quantity."""
    compared = statistics.compare(mine, rivals, seed=SEED, smaller_is_better=better < 0)
    means = {each: better * float(values.mean()) for each, values in rivals.items()}
    nearest: Comparison = max(compared, key=lambda each: means[each.rival])
    own, best = better * float(mine.mean()), means[nearest.rival]
    ends = sorted(better * end for end in (nearest.difference.low, nearest.difference.high))
    return {
        "metric": name,
        "of": title(ours),
        "first": title(ours) if own >= best else nearest.rival,
        "mean of the first": better * max(own, best),
        "mean": better * own,
        "place": f"{1 + sum(value > own for value in means.values())} of {len(rivals) + 1}",
        "rival": nearest.rival,
        "ahead": own - best,
        "low": ends[0],
        "high": ends[1],
        "won": nearest.wins,
        "drawn": nearest.ties,
        "lost": nearest.losses,
        "p": nearest.p_holm,
    }
