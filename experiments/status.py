"""How the runs of benchmarks stand; `python -m experiments.status --help` says what is shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from evomask.data import pictures
from evomask.types import InputError

from .benchmarks import runs
from .results.cells import describe, not_begun
from .shared import cli

LISTED = 8  # cells that nobody has begun


class State(NamedTuple):
    """How one run stands."""

    title: str
    status: str
    done: int
    total: int
    pace: float | None  # seconds for an explanation, None as long as there is none
    error: str

    @property
    def left(self) -> float | None:
        """Seconds of work that are left."""
        return (
            None if self.pace is None or self.status in ("finished", "failed") else self.pace * (self.total - self.done)
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(status, "status", argv, cli.CONF / "results")


def status(config: DictConfig) -> int:
    """Prints a table for each experiment."""
    folder = pictures.located(config.runs)
    experiments = runs.experiments(folder)
    if config.experiment is not None and config.experiment not in experiments:
        raise InputError(
            f"no runs of experiment {config.experiment!r} in {folder}: there are {', '.join(experiments) or 'none'}"
        )
    if not experiments:
        raise InputError(f"no runs in {folder}: say where they are with runs=...")
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a pipe or a file has room
    for name in experiments if config.experiment is None else [config.experiment]:
        states = sorted((state(path) for path in runs.find(folder, name)), key=lambda one: one.title)
        console.print(overview(name, states))
        console.print(totals(states, not_begun(folder, name)), "\n", sep="", highlight=False, markup=False)
    return 0


def state(folder: Path) -> State:
    """How the run in a folder stands; what cannot be read is said, and ends nothing."""
    try:
        record = runs.read_record(folder)
        status, (done, total) = runs.status(folder), runs.done(folder)
        error = f"{record['error']['type']}: {record['error']['message']}" if record["error"] else ""
    except (InputError, ValueError, KeyError, TypeError) as problem:
        return State(folder.name, "unreadable", 0, 0, None, str(problem))
    try:
        return State(describe(record), status, done, total, runs.pace(folder), error)
    except InputError as problem:
        return State(describe(record), "damaged", done, total, None, str(problem))


def overview(experiment: str, states: Sequence[State]) -> Table:
    """One line for each run."""
    table = Table(title=experiment, title_justify="left", box=None, pad_edge=False)
    table.add_column("run", no_wrap=True)
    for name in ("status", "done", "rate", "left"):
        table.add_column(name, no_wrap=True, justify="left" if name == "status" else "right")
    table.add_column("why", overflow="fold")  # the only one that is folded, so that names are whole
    for one in states:
        table.add_row(
            _plain(one.title),
            one.status,
            f"{one.done}/{one.total}",
            rate(one.pace),
            duration(one.left),
            _plain(one.error),
        )
    return table


def totals(states: Sequence[State], not_begun: Sequence[dict[str, str]]) -> str:
    """All of it in a line or two."""
    counts = {name: sum(one.status == name for one in states) for name in dict.fromkeys(one.status for one in states)}
    lines = [
        ", ".join(f"{count} {name}" for name, count in counts.items()) + f"; {sum(one.done for one in states)} of "
        f"{sum(one.total for one in states)} explanations"
    ]
    if not_begun:
        cells = "; ".join(" ".join(f"{key}={value}" for key, value in values.items()) for values in not_begun[:LISTED])
        more = f"; and {len(not_begun) - LISTED} more" if len(not_begun) > LISTED else ""
        lines.append(f"not begun, of the experiment's own sweep: {cells}{more}")
    return "\n".join(lines)


def rate(pace: float | None) -> str:
    """
    >>> rate(0.25), rate(12.4), rate(None)
    ('4.0 /s', '12.4 s each', '')
    """
    return "" if not pace else f"{1 / pace:.1f} /s" if pace < 1 else f"{pace:.1f} s each"


def duration(seconds: float | None) -> str:
    """
    >>> duration(59.2), duration(3700), duration(None)
    ('0:01:00', '1:01:40', '')
    """
    if seconds is None:
        return ""
    whole = int(-(-seconds // 1))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _plain(text: str) -> str:
    return text.replace("[", "\\[")  # not rich's markup


if __name__ == "__main__":
    sys.exit(main())
