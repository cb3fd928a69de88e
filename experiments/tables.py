"""The table of an experiment from its run folders; `python -m experiments.tables --help` says how and what is in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import DictConfig, ListConfig

from evomask.measures import statistics
from evomask.measures.statistics import Interval
from evomask.report import records
from evomask.types import InputError
from experiments.benchmarks import runs
from experiments.results.cells import TITLES, Cell, Sweep, cell_name, gather, short
from experiments.shared import cli

SEED = 0  # of the bootstrap
FORMATS = ("md", "tex", "csv", "html")
DASH = "–"


class Column(NamedTuple):
    """One quantity in a table: `number` keeps it in full, `text` is what readers see."""

    name: str
    better: int  # 1: more is better, -1: less is, 0: neither
    text: Callable[[Any], str]


percent = lambda value: f"{100 * value:.1f} %"
plain = lambda value: f"{value:.3f}"
hundredths = lambda value: f"{value:.2f}"
whole = lambda value: f"{value:,.0f}"
spread = lambda found: f"{100 * found.value:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
p_value = lambda value: "*" if value == "*" else "<0.001" if value < 0.001 else f"{value:.3f}"
COLUMNS = (
    Column("images", 0, whole),
    Column("keeps class", 1, percent),
    Column("complete", 1, percent),
    Column("complete area", -1, spread),
    Column("failures as 1", -1, spread),
    Column("without blank", -1, spread),
    Column("p", 0, p_value),
    Column("confidence", 1, plain),
    Column("pixels", -1, percent),
    Column("CP mean", 1, hundredths),
    Column("CP median", 1, hundredths),
    Column("floored CP", 1, hundredths),
    Column("insertion", 1, plain),
    Column("deletion", -1, plain),
    Column("insertion - deletion", 1, spread),
    Column("p of insertion - deletion", 0, p_value),
    Column("muFidelity", 1, plain),
    Column("evaluations", 0, whole),
    Column("cut", 0, whole),
    Column("IoU", 1, plain),
    Column("p of IoU", 0, p_value),
    Column("precision", 1, plain),
    Column("recall", 1, plain),
)
LAYOUT = ("images", "keeps class", "confidence", "pixels", "CP mean", "CP median", "complete", "failures as 1", "p")
DISSERTATION = tuple(column for name in LAYOUT for column in COLUMNS if column.name == name)
TRUTH = ("IoU", "precision", "recall")


class Table(NamedTuple):
    """A table in its three guises; the rows and columns of `text` and `best` are the same."""

    caption: str
    notes: tuple[str, ...]
    numbers: pd.DataFrame  # in full
    text: pd.DataFrame  # as read
    best: pd.DataFrame  # bool, in bold


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.run(tables, "tables", argv, cli.CONF / "results")


def tables(config: DictConfig) -> int:
    """Writes the files of an experiment and prints the table."""
    formats = chosen(config.format, FORMATS, "format")
    if type(config.images) is not int or config.images < 1:
        raise InputError(f"images is {config.images!r}: give a whole number of 1 or more")
    names = {column.name.replace(" ", "_"): column for column in COLUMNS}
    wanted = (
        [names[name] for name in chosen(config.columns, tuple(names), "columns")]
        if config.columns is not None
        else None
    )
    sweep = gather(config.runs, config.experiment, config.where, config.mark)
    out = records.prepare_folder(config.out)
    dissertation = config.experiment.startswith("dissertation_")
    columns = wanted or (DISSERTATION if dissertation else COLUMNS)
    made = {config.experiment: summary(sweep, columns)}
    if dissertation if config.per_image is None else config.per_image:
        made[f"{config.experiment}_images"] = single_images(sweep, config.images)
    for name, table in made.items():
        for kind in formats:
            path = out / f"{name}.{kind}"
            records.write_atomically(path, lambda file, text=WRITERS[kind](table): file.write(text.encode()))
            print(path, file=sys.stderr)
    print(markdown(made[config.experiment]), end="")
    return 0


def chosen(value: Any, choices: Sequence[str], name: str) -> tuple[str, ...]:
    """One or several of the choices, in their order."""
    values = tuple(value) if isinstance(value, (ListConfig, list, tuple)) else (value,)
    for each in values or (None,):
        if each not in choices:
            raise InputError(f"{name} is {each!r}: choose from {', '.join(choices)}")
    return tuple(each for each in choices if each in values)


# ------------------------------------------------------------------------------------------------------ the numbers


def per_image(run: runs.Run, name: str, failure: float | None = None) -> np.ndarray:
    """One value f64[N] for each image: the mean over its seeds, for these are not independent. NaN becomes `failure`."""
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


def quantities(run: runs.Run) -> dict[str, Any]:
    """The numbers of one run under the names of `COLUMNS`, but for `TESTS`. None where there is nothing to say."""
    found = per_image(run, "complete_area")
    found = found[np.isfinite(found)]
    mean = lambda name, failure=None: float(per_image(run, name, failure).mean())
    cp = per_image(run, "cp")
    areas, blank = per_image(run, "complete_area", 1.0), of_blank_class(run)
    overlap = {name: mean(name.lower()) for name in TRUTH} if run.rows["iou"].notna().any() else dict.fromkeys(TRUTH)
    return {
        "images": run.rows["index"].nunique(),
        "keeps class": float((run.rows["masked_label"] == run.rows["label"]).mean()),
        "complete": mean("complete"),
        "complete area": statistics.bootstrap(found, seed=SEED) if len(found) else None,
        "failures as 1": statistics.bootstrap(areas, seed=SEED),
        "without blank": statistics.bootstrap(areas[~blank], seed=SEED) if blank.any() and not blank.all() else None,
        "confidence": mean("masked_confidence"),
        "pixels": mean("area"),
        "CP mean": float(cp.mean()),
        "CP median": float(np.median(cp)),
        "floored CP": mean("cp_floored"),
        "insertion": mean("insertion_auc", 0.0),
        "deletion": mean("deletion_auc", 1.0),
        "insertion - deletion": statistics.bootstrap(insertion_less_deletion(run), seed=SEED),
        "muFidelity": mean("mu_fidelity", 0.0),
        "evaluations": mean("evaluations"),
        "cut": mean("cut_evaluations"),
        **overlap,
    }


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


def summary(sweep: Sweep, columns: Sequence[Column]) -> Table:
    """One row for each cell."""
    values = [quantities(cell.run) if cell.run else {} for cell in sweep.cells]
    for name in [column.name for column in columns if column.name in TESTS]:
        found = tests(sweep, TESTS[name], values)
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
        caption(sweep, intervals, "without blank" in text, [name for name in TESTS if name in text]),
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
            f"Without blank: without the images that have the class of the blank image, of which there are {span(counts)}."
        ]
    words += [f"{name}: Wilcoxon's signed-rank test of “{TESTS[name].of}” against *, after Holm." for name in tested]
    return " ".join([*words, "Best in bold."])


def notes(sweep: Sweep) -> tuple[str, ...]:
    return tuple(
        f"({number + 1}) {cell_name(cell)} {cell.note}"
        for number, cell in enumerate(cell for cell in sweep.cells if cell.note)
    )


def single_images(sweep: Sweep, most: int) -> Table:
    """The dissertation's layout: for each image, what the network makes of it as a whole and as masked by every method."""
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
        CP=[shown(Column("CP", 1, hundredths), float(value)) for value in numbers["CP"]],
        complete=numbers["complete"].map({True: "yes", False: "no", None: ""}),
    )
    numbers["image"] = numbers["image"].replace("", None).ffill()
    bold = pd.DataFrame(False, text.index, text.columns)
    bold["CP"] = best
    seed = cells[0].run.record["seeds"][0]
    words = (
        f"{sweep.experiment}: single images, seed {seed}: what the network predicts for the masked image, its confidence "
        "in the explained class, pixels kept and CP. In bold the best CP of a mask that keeps the class."
    )
    return Table(words, (), numbers, text.fillna(""), bold)


# ---------------------------------------------------------------------------------------------------------- writing


def markdown(table: Table) -> str:
    """GitHub's table; bars in cells are escaped."""
    escape = lambda text: str(text).replace("|", "\\|").replace("*", "\\*")
    cells = [
        [f"**{escape(text)}**" if bold else escape(text) for text, bold in zip(row, bolds)]
        for row, bolds in zip(table.text.to_numpy(), table.best.to_numpy())
    ]
    named = len([name for name in table.text.columns if not _is_number(name)])
    rules = ["---"] * named + ["---:"] * (len(table.text.columns) - named)
    lines = [f"| {' | '.join(row)} |" for row in ([escape(name) for name in table.text.columns], rules, *cells)]
    return "\n".join([escape(table.caption), "", *lines, "", *(f"{escape(note)}\n" for note in table.notes)])


def latex(table: Table) -> str:
    """A floating table in the style of booktabs; the document needs \\usepackage{booktabs}."""
    style = _styler(table).format(escape="latex").format_index(escape="latex", axis=1)
    aligned = "".join("r" if _is_number(name) else "l" for name in table.text.columns)
    body = style.to_latex(hrules=True, convert_css=True, column_format=aligned)
    words = " ".join([table.caption, *table.notes])
    text = f"\\begin{{table}}\n\\centering\n\\caption{{{_for_latex(words)}}}\n{body}\\end{{table}}\n"
    text = text.replace("<", "\\textless{}").replace(">", "\\textgreater{}")  # which pandas leaves
    return text.replace("∞", "$\\infty$").replace("–", "--").replace("“", "``").replace("”", "''")


def csv(table: Table) -> str:
    """Every number in full."""
    return table.numbers.to_csv(index=False, lineterminator="\n")


def html(table: Table) -> str:
    """A page of its own."""
    words = [place for place, name in enumerate(table.text) if not _is_number(name)]
    style = _styler(table).format(escape="html").format_index(escape="html", axis=1)
    style = style.set_caption(_escaped(" ".join([table.caption, *table.notes]))).set_table_styles(
        [
            {"selector": "", "props": "border-collapse: collapse; font: 14px system-ui, sans-serif"},
            {"selector": "caption", "props": "text-align: left; padding-bottom: 0.5em; max-width: 60em"},
            {"selector": "th, td", "props": "padding: 0.25em 0.7em; text-align: right; border-bottom: 1px solid #bbb"},
            *({"selector": f".col{place}", "props": "text-align: left"} for place in words),
        ],
        overwrite=False,
    )
    return style.set_uuid(table.caption.partition(":")[0]).to_html(doctype_html=True)


WRITERS = {"md": markdown, "tex": latex, "csv": csv, "html": html}


def _styler(table: Table) -> Any:
    try:
        style = table.text.style
    except ImportError as missing:
        raise InputError("tables in LaTeX and HTML need jinja2: pip install 'evomask[benchmark]'") from missing
    bold = np.where(table.best.to_numpy(), "font-weight: bold", "")
    return style.hide(axis="index").apply(lambda _: bold, axis=None)


def _is_number(name: str) -> bool:
    return name in {column.name for column in COLUMNS} | {"CP"}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _for_latex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    return "".join(special.get(letter, letter) for letter in text)


if __name__ == "__main__":
    sys.exit(main())
