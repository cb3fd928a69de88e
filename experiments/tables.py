"""The table of an experiment from its run folders; `python -m experiments.tables --help` says how and what is in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig

from evomask.files import write_atomically
from evomask.report import records
from evomask.types import InputError

from .results import soundness, standings
from .results.cells import gather
from .results.columns import COLUMNS, layout
from .results.rendering import RENDERERS, markdown
from .results.summaries import single_images, summary
from .shared import cli

FORMATS = tuple(RENDERERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(tables, "tables", argv, cli.CONF / "results")


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
    sweep = gather(config.runs, config.experiment, config.where, config.mark, config.reference)
    dissertation = config.experiment.startswith("dissertation_")
    made = {config.experiment: summary(sweep, wanted or layout(config.experiment))}
    if dissertation if config.per_image is None else config.per_image:
        made[f"{config.experiment}_images"] = single_images(sweep, config.images)
    if "target" in sweep.keys and all(cell.run.rows["certified_area"].notna().all() for cell in sweep.sound):
        made[f"{config.experiment}_soundness"] = soundness.table(sweep)
    if "method" in sweep.keys and (found := standings.table(sweep)) is not None:
        made[f"{config.experiment}_standings"] = found
    texts = {f"{name}.{kind}": RENDERERS[kind](table) for name, table in made.items() for kind in formats}
    out = records.prepare_folder(config.out)  # not before there is something for each file
    for name, text in texts.items():
        content = text.encode("utf-8", "backslashreplace")
        write_atomically(out / name, lambda file, content=content: file.write(content))
        print(out / name, file=sys.stderr)
    print(markdown(made[config.experiment]), end="")
    return 0


def chosen(value: Any, choices: Sequence[str], name: str) -> tuple[str, ...]:
    """One or several of the choices, in their order; large and small letters are alike."""
    spelled = {each.casefold(): each for each in choices}
    values = tuple(value) if isinstance(value, (ListConfig, list, tuple)) else (value,)
    values = tuple(spelled.get(str(each).casefold(), each) for each in values)
    for each in values or (None,):
        if each not in choices:
            raise InputError(f"{name} is {each!r}: choose from {', '.join(choices)}")
    return tuple(each for each in choices if each in values)


if __name__ == "__main__":
    sys.exit(main())
