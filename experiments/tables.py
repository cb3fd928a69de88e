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


if __name__ == "__main__":
    sys.exit(main())
