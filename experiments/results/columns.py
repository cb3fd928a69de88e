"""The columns of a table: one line of `COLUMNS` each, from a run's rows to a number, and from that to what is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from evomask.measures import statistics
from experiments.benchmarks import runs
from experiments.benchmarks.measured import METRICS

SEED = 0  # of the bootstrap


def per_image(run: runs.Run, name: str, failure: float | None = None) -> np.ndarray:
    """f64[N]: for each image the mean over its seeds, for these are not independent. NaN becomes `failure`."""
    values = run.rows[name].astype("float64")
    values = values if failure is None else values.fillna(failure)
    return values.groupby(run.rows["index"]).mean().to_numpy()


def insertion_less_deletion(run: runs.Run) -> np.ndarray:
    """f64[N]; where there is no score, the worst of curves."""
    return per_image(run, "insertion_auc", 0.0) - per_image(run, "deletion_auc", 1.0)


def of_blank_class(run: runs.Run) -> np.ndarray:
    """bool[N]: images that are explained as what the blank image is, of which a mask is complete in the letter only."""
    rows = run.rows
    return (rows["blank_label"] == rows["label"]).groupby(rows["index"]).any().to_numpy()


class Column(NamedTuple):
    """One quantity in a table: `of` finds it, `text` is what readers see."""

    name: str
    better: int  # 1: more is better, -1: less is, 0: neither
    text: Callable[[Any], str]
    of: Callable[[runs.Run], Any] | None  # None where there is nothing to say of a run; no function: one of `TESTS`


class Test(NamedTuple):
    """What a column of p-values compares."""

    of: str  # a column
    values: Callable[[runs.Run], np.ndarray]  # f64[N], image by image
    smaller_is_better: bool


TESTS = {
    "p": Test("failures as 1", lambda run: per_image(run, "complete_area", 1.0), True),
    "p of insertion - deletion": Test("insertion - deletion", insertion_less_deletion, False),
    "p of IoU": Test("IoU", lambda run: per_image(run, "iou", 0.0), False),
}


percent = lambda value: f"{100 * value:.1f} %"
plain = lambda value: f"{value:.3f}"
hundredths = lambda value: f"{value:.2f}"
whole = lambda value: f"{value:,.0f}"
spread = lambda found: f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
p_value = lambda value: "*" if value == "*" else "<0.001" if value < 0.001 else f"{value:.3f}"


def mean(name: str, failure: float | None = None) -> Callable[[runs.Run], float]:
    """The mean over the images of a column of the rows."""
    return lambda run: float(per_image(run, name, failure).mean())


def interval(values: Callable[[runs.Run], np.ndarray]) -> Callable[[runs.Run], statistics.Interval | None]:
    """Mean and 95 % interval over the images of values f64[N]; None of no values."""
    return lambda run: statistics.bootstrap(found, seed=SEED) if len(found := values(run)) else None


def overlap(name: str) -> Callable[[runs.Run], float | None]:
    """The mean of a column that needs a truth."""
    return lambda run: mean(name)(run) if run.rows["iou"].notna().any() else None


def complete_areas(run: runs.Run) -> np.ndarray:
    """f64[M], of the images that have a complete mask."""
    areas = per_image(run, "complete_area")
    return areas[np.isfinite(areas)]


def areas_of_all(run: runs.Run) -> np.ndarray:
    """f64[N]; an image without a complete mask counts as the whole image."""
    return per_image(run, "complete_area", 1.0)


def without_blank(run: runs.Run) -> np.ndarray:
    """f64[M], of the images that have another class than the blank image; of no image, if all have or none has."""
    blank = of_blank_class(run)
    return areas_of_all(run)[~blank] if blank.any() else np.empty(0)


COLUMNS = (
    Column("images", 0, whole, lambda run: run.rows["index"].nunique()),
    Column("keeps class", 1, percent, lambda run: float((run.rows["masked_label"] == run.rows["label"]).mean())),
    Column("complete", 1, percent, mean("complete")),
    Column("complete area", -1, spread, interval(complete_areas)),
    Column("failures as 1", -1, spread, interval(areas_of_all)),
    Column("without blank", -1, spread, interval(without_blank)),
    Column("p", 0, p_value, None),
    Column("confidence", 1, plain, mean("masked_confidence")),
    Column("pixels", -1, percent, mean("area")),
    Column("CP mean", 1, hundredths, mean("cp")),
    Column("CP median", 1, hundredths, lambda run: float(np.median(per_image(run, "cp")))),
    Column("floored CP", 1, hundredths, mean("cp_floored")),
    *(Column(each.head, each.better, plain, mean(name, each.failure)) for name, each in METRICS.items() if each.head),
    Column("insertion - deletion", 1, spread, interval(insertion_less_deletion)),
    Column("p of insertion - deletion", 0, p_value, None),
    Column("evaluations", 0, whole, mean("evaluations")),
    Column("cut", 0, whole, mean("cut_evaluations")),
    Column("IoU", 1, plain, overlap("iou")),
    Column("p of IoU", 0, p_value, None),
    Column("precision", 1, plain, overlap("precision")),
    Column("recall", 1, plain, overlap("recall")),
)
LAYOUT = ("images", "keeps class", "confidence", "pixels", "CP mean", "CP median", "complete", "failures as 1", "p")
DISSERTATION = tuple(column for name in LAYOUT for column in COLUMNS if column.name == name)


def quantities(run: runs.Run, columns: Sequence[Column]) -> dict[str, Any]:
    """The numbers of one run by the names of the columns, and of what `TESTS` among them are about, whose own come from
    several runs. None where there is nothing to say.
    """
    names = {column.name for column in columns} | {TESTS[column.name].of for column in columns if column.name in TESTS}
    every = {column.name: column for column in (*COLUMNS, *columns)}
    return {name: column.of(run) for name, column in every.items() if name in names and column.of is not None}
