"""From the cells of an experiment to its table: a row for each, tests against one of them, a caption in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from evomask.measures import statistics
from evomask.measures.statistics import Interval

from ..benchmarks import runs
from .cells import TITLES, Cell, Sweep, cell_name, short
from .columns import (
    COLUMNS,
    SEED,
    TESTS,
    Column,
    Test,
    hundredths,
    of_blank_class,
    percent,
    plain,
    quantities,
    spread,
)

DASH = "–"


class Table(NamedTuple):
    """A table in its three guises; the rows and columns of `text` and `best` are the same."""

    caption: str
    notes: tuple[str, ...]
    numbers: pd.DataFrame  # in full
    text: pd.DataFrame  # as read
    best: pd.DataFrame  # bool, in bold


def tests(sweep: Sweep, test: Test, figures: Sequence[dict[str, Any]]) -> dict[int, Any]:
    """p after Holm for every cell that has a partner to be compared with, whose own entry is `*`."""
    found: dict[int, Any] = {}
    for group in sweep.groups():
        ours = sweep.ours(group)
        if ours is None or figures[ours][test.of] is None:
            continue
        values = {str(i): test.values(sweep.cells[i].run) for i in group if sweep.cells[i].sound}
        mine = values.pop(str(ours))
        rivals = {index: theirs for index, theirs in values.items() if len(theirs) == len(mine)}
        if rivals:
            compared = statistics.compare(mine, rivals, seed=SEED, smaller_is_better=test.smaller_is_better)
            found |= {ours: "*"} | {int(each.rival): each.p_holm for each in compared}
    return found


def no_test(sweep: Sweep, test: Test, figures: Sequence[dict[str, Any]]) -> str:
    """Why no row has a p-value."""
    if not any(each and each[test.of] is not None for each in figures):
        return f"there are no numbers for “{test.of}”"
    if all(sweep.ours(group) is None for group in sweep.groups()):
        if not sweep.usual:
            return "nothing says which row the others are compared with; reference=... names it"
        usual = " ".join(f"{key}={value}" for key, value in sweep.usual.items())
        return f"no row has {usual}, with which the others would be compared; reference=... names another"
    if all(len(group) < 2 for group in sweep.groups()):
        return "there is no second row to compare with"
    return "no two rows are of the same number of images"


def summary(sweep: Sweep, columns: Sequence[Column]) -> Table:
    """One row for each cell."""
    values = [quantities(cell.run, columns) if cell.run else {} for cell in sweep.cells]
    untested = []
    for name in [column.name for column in columns if column.name in TESTS]:
        found = tests(sweep, TESTS[name], values)
        if not found and (name == "p" or columns is not COLUMNS):
            untested.append(f"No {name}: {no_test(sweep, TESTS[name], values)}.")
        values = [figures and {**figures, name: found.get(i)} for i, figures in enumerate(values)]
    columns = [column for column in columns if any(each.get(column.name) is not None for each in values)]
    heads = pd.DataFrame([head(sweep, cell, i) for i, cell in enumerate(sweep.cells)])
    text = pd.DataFrame([{c.name: shown(c, each.get(c.name)) for c in columns} for each in values])
    numbers = pd.DataFrame(
        [dict(pair for c in columns for pair in in_full(c, each.get(c.name)).items()) for each in values]
    )
    folders = [cell.folder.name if cell.folder else "" for cell in sweep.cells]
    raw = pd.DataFrame([{**cell.values, "run": run, "note": cell.note} for cell, run in zip(sweep.cells, folders)])
    intervals = any(column.text is spread for column in columns)
    best = pd.DataFrame({c.name: champions(sweep, c, [each.get(c.name) for each in values]) for c in columns})
    return Table(
        " ".join([caption(sweep, intervals, "without blank" in text, [n for n in TESTS if n in text]), *untested]),
        notes(sweep),
        pd.concat([raw, numbers], axis=1),
        pd.concat([heads, text], axis=1),
        pd.concat([pd.DataFrame(False, heads.index, heads.columns), best], axis=1),
    )


def head(sweep: Sweep, cell: Cell, index: int) -> dict[str, str]:
    """The columns that say which cell it is; a cell with a note carries its number."""
    values = {short(key): TITLES.get(value, value) if key == "method" else value for key, value in cell.values.items()}
    values = values or {"run": cell.folder.name}
    if cell.note:
        noted = [i for i, each in enumerate(sweep.cells) if each.note]
        values[next(iter(values))] += f" ({noted.index(index) + 1})"
    return values


def shown(column: Column, value: Any) -> str:
    nothing = value is None or isinstance(value, float) and np.isnan(value)
    return DASH if nothing else "∞" if isinstance(value, float) and np.isinf(value) else column.text(value)


def in_full(column: Column, value: Any) -> dict[str, Any]:
    if isinstance(value, Interval) or column.text is spread:
        low, high = (value.low, value.high) if value else (None, None)
        return {column.name: value and value.value, f"{column.name} low": low, f"{column.name} high": high}
    return {column.name: value}


def champions(sweep: Sweep, column: Column, values: Sequence[Any]) -> np.ndarray:
    """bool[cells]: the best of each group, with those that read the same; none where all do."""
    best = np.zeros(len(values), bool)
    for group in sweep.groups():
        number = {
            i: getattr(values[i], "value", values[i]) for i in group if sweep.cells[i].sound and values[i] is not None
        }
        number = {i: value for i, value in number.items() if column.better and not np.isnan(value)}
        if number:
            top = max(number, key=lambda i: column.better * number[i])
            equal = [i for i in number if _reads(column, number[i]) == _reads(column, number[top])]
            best[equal if len(equal) < len(number) else []] = True
    return best


def _reads(column: Column, value: float) -> str:
    return percent(value) if column.text is spread else shown(column, float(value))


def caption(sweep: Sweep, intervals: bool, blanks: bool, tested: Sequence[str]) -> str:
    """What was done, in words."""
    record = sweep.sound[0].run.record
    budgets = sorted({cell.run.record["budget"] for cell in sweep.sound})
    images = sorted({cell.run.record["images"]["num"] for cell in sweep.sound})
    span = lambda numbers: f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"
    of = f"{span(images)} images ({record['choices'].get('data')})"
    seeds = f", {len(record['seeds'])} seeds each" if len(record["seeds"]) > 1 else ""
    words = [f"{sweep.experiment}: {of}{seeds}, a budget of {span(budgets)} evaluations for each explanation."]
    words += ["Areas: mean and 95 % bootstrap interval over the images."] if intervals else []
    if blanks:
        counts = sorted({int(of_blank_class(cell.run).sum()) for cell in sweep.sound})
        words += [
            "Without blank: without the images that have the class of the blank image, "
            f"of which there are {span(counts)}."
        ]
    words += [f"{name}: Wilcoxon's signed-rank test of “{TESTS[name].of}” against *, after Holm." for name in tested]
    return " ".join([*words, "Best in bold."])


def notes(sweep: Sweep) -> tuple[str, ...]:
    return tuple(
        f"({number + 1}) {cell_name(cell)} {cell.note}"
        for number, cell in enumerate(cell for cell in sweep.cells if cell.note)
    )


def single_images(sweep: Sweep, most: int) -> Table:
    """The dissertation's layout: for each image, what the network makes of the whole and of what each method masks."""
    cells = [cell for cell in sweep.sound if cell.run.record["images"] == sweep.sound[0].run.record["images"]]
    classes = runs.images(cells[0].folder)["classes"]
    rows, best = [], []
    for index in cells[0].run.rows["index"].drop_duplicates()[:most]:
        firsts = [cell.run.rows[cell.run.rows["index"] == index].iloc[0] for cell in cells]
        image, cp = firsts[0], [first["cp"] for first in firsts]
        rows.append(
            {
                "image": image["image"],
                "method": "whole image",
                "prediction": image["predicted_name"],
                "confidence": image["confidence"],
                "pixels": 1.0,
                "CP": image["confidence"],
                "complete": None,
            }
        )
        rows += [
            {
                "image": "",
                "method": cell.title,
                "prediction": str(classes[row["masked_label"]]),
                "confidence": row["masked_confidence"],
                "pixels": row["area"],
                "CP": row["cp"],
                "complete": bool(row["complete"]),
            }
            for cell, row in zip(cells, firsts)
        ]
        keeps = [first["masked_label"] == first["label"] for first in firsts]
        top = max((hundredths(value) for value, kept in zip(cp, keeps) if kept), key=float, default=None)
        best += [False, *(kept and hundredths(value) == top for value, kept in zip(cp, keeps))]
    numbers = pd.DataFrame(rows)
    text = numbers.assign(
        confidence=numbers["confidence"].map(plain),
        pixels=numbers["pixels"].map(percent),
        CP=[shown(Column("CP", 1, hundredths, None), float(value)) for value in numbers["CP"]],
        complete=numbers["complete"].map({True: "yes", False: "no", None: ""}),
    )
    numbers["image"] = numbers["image"].replace("", None).ffill()
    bold = pd.DataFrame(False, text.index, text.columns)
    bold["CP"] = best
    seed = cells[0].run.record["seeds"][0]
    words = (
        f"{sweep.experiment}: single images, seed {seed}: what the network predicts for the masked image, its "
        "confidence in the explained class, pixels kept and CP. In bold the best CP of a mask that keeps the class."
    )
    return Table(words, (), numbers, text.fillna(""), bold)
