"""A run of a benchmark as arrays and tables, for analyses of one's own: `experiments.load_run(folder)`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evomask.types import InputError

from . import runs

if TYPE_CHECKING:
    import pandas as pd


class Loaded(NamedTuple):
    """What a run has left on disk: row r of `rows` is entry r of every array, and is of image `rows["index"][r]`."""

    record: dict[str, Any]  # method, budget, seeds, code, versions, ...
    rows: pd.DataFrame  # one row for each image and seed, see `columns.ROWS`
    cuts: pd.DataFrame  # masks cut from the heat map, one row for each image, seed and rule
    arrays: dict[str, np.ndarray]  # score f16[R, H, W], mask bool[R, H, W] and the curves, see `columns.ARRAYS`
    images: dict[str, np.ndarray]  # images uint8[N, H, W, C], labels int32[N], names str[N], classes str[K]


def load_run(folder: str | Path) -> Loaded:
    """Everything about one finished run.

    Args:
      folder: of the run, `out/benchmark/<experiment>/<hash>`.

    Raises:
      InputError: the folder is none of a run (of an experiment: its runs are named), or the run has not been finished.
    """
    folder = Path(folder)
    if not (folder / "record.json").exists():
        within = sorted(path.parent.name for path in folder.glob("*/record.json"))
        hint = f"it holds the runs {', '.join(within)}: give one of them" if within else "give out/benchmark/NAME/HASH"
        raise InputError(f"{folder} is no folder of a run: {hint}")
    run = runs.load(folder)
    return Loaded(run.record, run.rows, run.cuts, runs.arrays(folder), runs.images(folder))
