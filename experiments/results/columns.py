"""The columns of a table: one line of `COLUMNS` each, from a run's rows to a number, and from that to what is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from evomask.measures import metrics, statistics

from ..benchmarks import runs
from ..benchmarks.measured import METRICS

SEED = 0  # of the bootstrap


def per_image(run: runs.Run, name: str, failure: float | None = None) -> np.ndarray:
    """f64[N]: for each image the mean over its seeds, for these are not independent. NaN becomes `failure`."""
    unknown = float("nan") * run.rows["index"]  # a metric that was not there when the run was made
    values = run.rows.get(name, unknown).astype("float64")
    values = values if failure is None else values.fillna(failure)
    return values.groupby(run.rows["index"]).mean().to_numpy()


def has_truth(run: runs.Run) -> bool:
    """Whether it is known of any image which pixels decide."""
    return bool(run.rows["iou"].notna().any())


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
    "p of IoU": Test("IoU", lambda run: per_image(run, "iou", 0.0 if has_truth(run) else None), False),
    "p of certified area": Test("certified area", lambda run: of_holding("certified_area")(run), True),
}


percent = lambda value: f"{100 * value:.1f} %"
plain = lambda value: f"{value:.3f}"
hundredths = lambda value: f"{value:.2f}"
whole = lambda value: f"{value:,.0f}"
spread = lambda found: f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
p_value = lambda value: "*" if value == "*" else "<0.001" if value < 0.001 else f"{value:.3f}"


def mean(name: str, failure: float | None = None) -> Callable[[runs.Run], float | None]:
    """The mean over the images of a column of the rows; None of a column without a number."""
    return lambda run: None if np.isnan(found := per_image(run, name, failure)).all() else float(found.mean())


def mean_of(values: np.ndarray) -> float | None:
    """None of no values."""
    return float(values.mean()) if len(values) else None


def interval(values: Callable[[runs.Run], np.ndarray]) -> Callable[[runs.Run], statistics.Interval | None]:
    """Mean and 95 % interval over the images of values f64[N]; None of no values."""
    return lambda run: statistics.bootstrap(found, seed=SEED) if len(found := values(run)) else None


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


def of_holding(name: str, failure: float | None = None) -> Callable[[runs.Run], np.ndarray]:
    """f64[M] of a column of `trust`, of the images whose whole picture holds: no mask can do more. Empty where it was
    not asked.
    """

    def values(run: runs.Run) -> np.ndarray:
        found = per_image(run, name, failure)[per_image(run, "decision_holds") == 1]
        return found[np.isfinite(found)]

    return values


def share_of_holding(name: str) -> Callable[[runs.Run], float | None]:
    """The mean of such values; None of none."""
    return lambda run: mean_of(of_holding(name)(run))


def decision_holds(run: runs.Run) -> float | None:
    """The share of the images."""
    return None if run.rows["decision_holds"].isna().all() else float(per_image(run, "decision_holds").mean())


def pieces(run: runs.Run) -> float | None:
    """The median over the images."""
    return float(np.median(found)) if len(found := of_holding("pieces")(run)) else None


def between_seeds(of: Callable[[np.ndarray], Any], name: str) -> Callable[[runs.Run], np.ndarray]:
    """f64[N]: for each image what `of` makes of the arrays of that name of all S seeds, [S, N, H, W]; empty for one
    seed.
    """

    def values(run: runs.Run) -> np.ndarray:
        if len(run.record["seeds"]) < 2:
            return np.empty(0)
        arrays = runs.arrays(run.folder, name)[name]
        groups = run.rows.groupby("index").indices.values()
        return np.asarray(of(np.stack([arrays[rows] for rows in groups], axis=1)), np.float64)

    return values


def second_area(run: runs.Run) -> np.ndarray:
    """f64[N]: the certified area of the second best of an image's seeds; empty for one seed."""
    if len(run.record["seeds"]) < 2:
        return np.empty(0)
    areas = run.rows[run.rows["decision_holds"] == 1].groupby("index")["certified_area"]
    return np.array([sorted(each)[1] for _, each in areas if len(each) > 1])


def score_correlation(run: runs.Run) -> float | None:
    """Spearman's, of every two seeds' heat maps, in the mean; None for one seed."""
    return mean_of(between_seeds(lambda scores: metrics.score_stability(scores.astype(np.float32)), "score")(run))


# Whether masks hold, of the images whose whole picture does; nothing where that was not asked.
TRUSTED = (
    Column("decision holds", 0, percent, decision_holds),
    Column("holds", 1, percent, share_of_holding("holds")),
    Column("certified area", -1, spread, interval(of_holding("certified_area"))),
    Column("p of certified area", 0, p_value, None),
    Column("second certified area", -1, percent, lambda run: mean_of(second_area(run))),
    Column("precision of the mask", 1, percent, share_of_holding("shown_complete")),
    Column("sufficient", 1, percent, share_of_holding("shown_sufficient")),
    Column("necessary", 1, percent, share_of_holding("shown_necessary")),
    Column("mask holds", 1, percent, share_of_holding("headline_holds")),
    Column("shifted", 1, percent, share_of_holding("survives_shift")),
    Column("brightness", 1, percent, share_of_holding("survives_brightness")),
    Column("noise", 1, percent, share_of_holding("survives_noise")),
    Column("JPEG", 1, percent, share_of_holding("survives_jpeg")),
    Column("mask nudged", 1, percent, share_of_holding("survives_nudge")),
    Column("mask opened", 1, percent, share_of_holding("survives_opening")),
    Column("mirrored", 1, percent, share_of_holding("survives_mirror")),
    Column("other fills", 1, percent, share_of_holding("survives_fills")),
    Column("pieces", -1, hundredths, pieces),
    Column("specks", -1, hundredths, share_of_holding("specks")),
    Column("boundary / area", -1, hundredths, share_of_holding("boundary")),
    Column("IoU of seeds", 1, spread, interval(between_seeds(metrics.mask_stability, "offered"))),
    Column("score correlation", 1, hundredths, score_correlation),
    Column("holds elsewhere", 1, percent, share_of_holding("holds_elsewhere")),
    Column("shape is class", 0, percent, share_of_holding("shape_is_label")),
)

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
    Column("IoU", 1, plain, mean("iou")),
    Column("p of IoU", 0, p_value, None),
    Column("precision", 1, plain, mean("precision")),
    Column("recall", 1, plain, mean("recall")),
    *TRUSTED,
)
LAYOUT = ("images", "keeps class", "confidence", "pixels", "CP mean", "CP median", "complete", "failures as 1", "p")
DISSERTATION = tuple(column for name in LAYOUT for column in COLUMNS if column.name == name)
TRUST = (COLUMNS[0], *TRUSTED)


def layout(experiment: str) -> tuple[Column, ...]:
    """The columns of an experiment's table, by the first word of its name."""
    return {"dissertation": DISSERTATION, "trust": TRUST}.get(experiment.partition("_")[0], COLUMNS)


def quantities(run: runs.Run, columns: Sequence[Column]) -> dict[str, Any]:
    """The numbers of one run by the names of the columns, and of what `TESTS` among them are about, whose own come from
    several runs. None where there is nothing to say.
    """
    names = {column.name for column in columns} | {TESTS[column.name].of for column in columns if column.name in TESTS}
    every = {column.name: column for column in (*COLUMNS, *columns)}
    return {name: column.of(run) for name, column in every.items() if name in names and column.of is not None}
