"""The figures of an experiment from its run folders; `python -m experiments.figures --help` says which there are."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence

import matplotlib
from matplotlib.figure import Figure
from omegaconf import DictConfig

from evomask.files import write_atomically
from evomask.report import records
from evomask.types import InputError

from .results.cells import Sweep, cell_name, gather
from .results.kinds import bars, budget, convergence, front, grid
from .shared import cli
from .tables import chosen

FORMATS = ("pdf", "png")
STYLE = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
}
# A function of the sweep and of how many images are shown, to a figure; None where there is nothing to draw.
KINDS: dict[str, Callable[[Sweep, int], Figure | None]] = {
    "grid": grid.draw,
    "convergence": convergence.draw,
    "front": front.draw,
    "budget": budget.draw,
    "bars": bars.draw,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(figures, "figures", argv, cli.CONF / "results")


def figures(config: DictConfig) -> int:
    """Writes every figure that the runs of an experiment have something for."""
    formats = chosen(config.format, FORMATS, "format")
    kinds = tuple(KINDS) if config.kind is None else chosen(config.kind, tuple(KINDS), "kind")
    if type(config.images) is not int or config.images < 1:
        raise InputError(f"images is {config.images!r}: give a whole number of 1 or more")
    sweep = gather(config.runs, config.experiment, config.where, config.mark, config.reference)
    for cell in sweep.cells:
        if not cell.sound:
            cli.say(f"left out: {cell_name(cell)}: {cell.note}")
    files: dict[str, bytes] = {}
    with matplotlib.rc_context(STYLE):
        for kind in kinds:
            figure = KINDS[kind](sweep, config.images)
            if figure is None and config.kind is not None:
                raise InputError(f"the runs of {config.experiment} have nothing for kind={kind}")
            for form in formats if figure is not None else ():
                files[f"{config.experiment}_{kind}.{form}"] = rendered(figure, form)
    out = records.prepare_folder(config.out)  # not before there is something for each file
    for name, content in files.items():
        write_atomically(out / name, lambda file, content=content: file.write(content))
        print(out / name, file=sys.stderr)
    return 0


def rendered(figure: Figure, form: str) -> bytes:
    """The file without the time of day, so that the same runs give the same bytes."""
    metadata = {"CreationDate": None} if form == "pdf" else {"Software": None}
    file = io.BytesIO()
    figure.savefig(file, format=form, dpi=150, metadata=metadata)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
