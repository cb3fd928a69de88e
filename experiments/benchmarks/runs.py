"""Run folders: what a benchmark job leaves on disk, how it is continued after a kill, and how it is read again.

    <out>/<experiment>/sweep.json             what the experiment's sweep declares, see `sweeps`
    <out>/<experiment>/images/<digest>.npz    the images that were explained, shared by the runs of a sweep
    <out>/<experiment>/<hash>/config.yaml     the resolved configuration
                              record.json     how the run went, see below; the folder is a run once this is there
                              rows.parquet    one row per seed and image: the headline mask and the heat map (`ROWS`)
                              cuts.parquet    one row per seed, image and rule: the masks cut from the heat map (`CUTS`)
                              chunks/*.npz    the same rows as they were computed, and the arrays for figures (`ARRAYS`)
                              lock            held by the process that works here; the system frees it when that is
                              killed

The hash is that of everything that decides the numbers (method, model and its weights, images, fill, budget, seeds,
steps, source files of the user's own among their `_target_`s), and of nothing else: neither the folder, nor how many
images make a chunk, nor how a choice is called. Every
image is explained alone, so that its numbers depend on no other. Rows are ordered by seed, then image, then rule, hold
no times, and are the same bytes however often a run was killed and resumed; both .parquet files appear when all of them
are there.

record.json
    schema           3; another number cannot be read
    status           running, finished, failed or interrupted (Ctrl-C); see `status` for killed ones
    error            null, or {type, message, traceback} of a failed run
    hash, experiment
    method           the name of its file in conf/method (evomask, dissertation, gradcam ...)
    choices          {group: name} of every configuration group
    overrides        {key: value} as given by command line and sweep, in which the runs of an experiment differ
    budget           evaluations declared for each explanation; compare only runs for which `common_budget` says so
    seeds            list of int
    images           {file (relative to the run), num, left_out (images seen and not taken, for the model errs on them)}
    weights          digest of the classifier's arrays
    code             {commit, dirty, modules, own}: commit null outside of a repository; digests of the modules that
                     decided the numbers, by name, and of the user's own among them, see `sources`
    versions, device of the packages; kind of the first device
    asked            when the run was last asked for: of two that differ in the state of the user's files, tables
                     take the later one
    sittings         [{started, outside, seconds, compile_seconds}]: one for every process that has worked on the run;
                     outside holds versions of packages in another environment. Seconds of a killed one are those up to
                     its last chunk; compile_seconds are those that XLA took
    run_seconds      sum over the chunks of what they took without compiling, kept and merged ones only
    compile_seconds  sum over the sittings

`load` reads a finished run, `arrays` and `images` its arrays; `find` lists run folders, `status` says how they stand.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from evomask.data import pictures
from evomask.files import write_atomically
from evomask.measures.budget import Bill, Spent
from evomask.measures.budget import common_budget as common_budget_of_bills
from evomask.report import records
from evomask.types import InputError

from ..shared import cli

try:
    import filelock
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as missing:
    raise SystemExit(f"error: benchmarks need {missing.name}: pip install 'evomask[benchmark]'") from missing

from . import damage, sources  # after pandas and pyarrow, which they need
from .columns import ARRAYS as ARRAYS
from .columns import CUTS, PACKED, ROWS
from .sources import digest

SCHEMA = 4
NEEDED = ("status", "error", "hash", "experiment", "method", "choices", "overrides", "budget", "seeds", "images",
          "weights", "code", "versions", "device", "sittings")  # fmt: skip
# What a kill leaves of a file that was being written, see `evomask.files.write_atomically`.
HALF_WRITTEN = re.compile(r"\.(config\.yaml|record\.json|(rows|cuts)\.parquet|\d+-\d+-\d+\.npz)\.")
PATIENCE = 2.0  # seconds before a lock counts as taken: whoever only looks holds it for an instant


class Run(NamedTuple):
    """A finished run."""

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]
    rows: pd.DataFrame  # columns `ROWS`
    cuts: pd.DataFrame  # columns `CUTS`


class Chunk(NamedTuple):
    """Results of images start .. stop - 1 for one seed."""

    rows: dict[str, np.ndarray]
    cuts: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]


def join(chunks: Sequence[Chunk]) -> Chunk:
    """One after the other."""
    parts = zip(*chunks, strict=True)
    return Chunk(*({name: np.concatenate([each[name] for each in part]) for name in part[0]} for part in parts))


class Busy(Exception):
    """Another process works at the run."""


# --------------------------------------------------------------------------------------------------------- reading


def find(out: str | Path, experiment: str) -> list[Path]:
    """The run folders of an experiment, sorted by name."""
    return sorted(folder for folder in _folders(out) if folder.parent.name == experiment)


def experiments(out: str | Path) -> list[str]:
    """The experiments of which there are runs."""
    return sorted({folder.parent.name for folder in _folders(out)})


def _folders(out: str | Path) -> list[Path]:
    """Whatever has a record; hidden folders are other programs'."""
    found = (path.parent for path in pictures.located(out).glob("*/*/record.json") if path.is_file())
    return [folder for folder in found if not folder.name.startswith(".") and not folder.parent.name.startswith(".")]


def read_record(folder: str | Path) -> dict[str, Any]:
    """record.json; InputError if it is damaged, or was written under another schema."""
    path = Path(folder) / "record.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({damage.why(error)}): run the experiment again") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} holds no record: run the experiment again")
    if record.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {record.get('schema')}, this version reads {SCHEMA}: run it again")
    lacking = [name for name in NEEDED if name not in record]
    if lacking:
        raise InputError(f"{path} lacks {', '.join(lacking)}: run the experiment again")
    return record


def status(folder: str | Path) -> str:
    """finished, failed, interrupted, running, or killed: begun, and no process is working on it."""
    noted = read_record(folder)["status"]
    if noted != "running":
        return noted
    try:
        with filelock.FileLock(Path(folder) / "lock", timeout=0):
            return read_record(folder)["status"].replace("running", "killed")
    except filelock.Timeout:
        return "running"


def done(folder: str | Path) -> tuple[int, int]:
    """Explanations (images x seeds) that a run has, and has to make."""
    record = read_record(folder)
    finished = sum(stop - start for _, start, stop, _ in _chunk_files(Path(folder)))
    return finished, record["images"]["num"] * len(record["seeds"])


def pace(folder: str | Path) -> float | None:
    """Seconds that an explanation of this run has taken so far, without compiling; None as long as there is none."""
    seconds, count = 0.0, 0
    for _, start, stop, path in _chunk_files(Path(folder)):
        with damage.arrays(path) as chunk:
            seconds, count = seconds + float(chunk["seconds"]), count + stop - start
    return seconds / count if count else None


def load(folder: str | Path) -> Run:
    """Reads a finished run; InputError, with its status, for any other."""
    folder = Path(folder)
    record = read_record(folder)
    if record["status"] != "finished":
        error = record["error"]
        why = f" ({error['type']}: {error['message']})" if error else ""
        raise InputError(f"run {folder} is {status(folder)}{why}: run the experiment again")
    config = OmegaConf.to_container(damage.config(folder))
    return Run(folder, record, config, *(damage.table(folder / f"{name}.parquet") for name in ("rows", "cuts")))


def arrays(folder: str | Path, *names: str) -> dict[str, np.ndarray]:
    """The named `ARRAYS` (all that the run has, if none is named), one entry for each row of `Run.rows`, in their
    order.

    Works on unfinished runs too, for the images that they have.
    """
    files = _chunk_files(Path(folder))
    parts: dict[str, list[np.ndarray]] = {}
    for *_, path in files:
        with damage.arrays(path) as chunk:
            have = [key.removeprefix("array/") for key in chunk if key.startswith("array/")]
            for name in names or have:
                if name not in have:
                    raise InputError(f"run {folder} has no array {name!r}: it has {', '.join(have)}")
                value = chunk[f"array/{name}"]
                width = int(chunk["width"])
                parts.setdefault(name, []).append(
                    np.unpackbits(value, axis=-1, count=width).astype(bool) if name in PACKED else value
                )
    return {name: np.concatenate(values) for name, values in parts.items()}


def images(folder: str | Path) -> dict[str, np.ndarray]:
    """What was explained, by `index` of the rows: images uint8[N, H, W, C], labels int32[N], names str[N], classes
    str[K] and, where it is known, the truth bool[N, H, W].
    """
    folder = Path(folder)
    with damage.arrays(folder / read_record(folder)["images"]["file"]) as file:
        return dict(file)


def common_budget(runs: Sequence[Run]) -> int:
    """The one budget that all the runs declared and none overspent; UnequalBudgets otherwise. Every comparison of
    methods begins with it.
    """
    return common_budget_of_bills(
        Bill(
            run.record["method"],
            run.record["budget"],
            [Spent(int(f), int(b)) for f, b in zip(run.rows["forward"], run.rows["backward"], strict=True)],
        )
        for run in runs
    )


# --------------------------------------------------------------------------------------------------------- writing


def write_images(folder: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes <folder>/images/<digest>.npz unless it stands there undamaged; returns its path relative to a run."""
    name = f"{digest(dict(arrays))}.npz"
    path = folder / "images" / name
    if not damage.intact(path):
        records.prepare_folder(path.parent)
        write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
    return f"../images/{name}"


@contextlib.contextmanager
def locked(folder: Path, wait: bool) -> Iterator[None]:
    """Makes the run folder and is the only one to work in it; Busy if another process does and we do not wait."""
    records.prepare_folder(folder)
    lock = filelock.FileLock(folder / "lock", timeout=-1 if wait else PATIENCE)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise Busy from None
    try:
        yield
    finally:
        lock.release()


def begin(folder: Path, record: dict[str, Any], config: str, again: bool) -> dict[str, Any] | None:
    """The record of a run that is now running, or None if it is finished already and not wanted again. The caller holds
    the lock.

    Chunks of an unfinished run stay if the same code, packages and device made them, and a run that begins anew takes
    those that another experiment of the same sweep folder has of it.
    """
    old = _old_record(folder)
    damaged = [path for *_, path in _chunk_files(folder, record) if not damage.intact(path)]
    whole = not damaged and all(damage.intact_table(folder / f"{name}.parquet") for name in ("rows", "cuts"))
    if old and old["status"] == "finished" and whole and not again:
        if old["code"].get("own"):  # which may be back in a state of long ago
            write_record(folder, old | {"asked": record["asked"]})
        return None
    for path in damaged:
        cli.say(f"{path} is damaged; it is computed again")
        path.unlink()
    for path in (*folder.glob(".*"), *folder.glob("chunks/.*")):
        if HALF_WRITTEN.match(path.name) and not path.is_dir():
            path.unlink()
    if old is None or again or not _same_origin(old, record):
        shutil.rmtree(folder / "chunks", ignore_errors=True)
        (folder / "chunks").mkdir()
        old = None if again else _adopt(folder, record)
    record = record | {"sittings": old["sittings"] if old else []}
    write_atomically(folder / "config.yaml", lambda file: file.write(config.encode()))
    write_record(folder, record)
    return record


def _old_record(folder: Path) -> dict[str, Any] | None:
    """The record that stands in a folder; a damaged one is named, and is as good as none."""
    if not (folder / "record.json").exists():
        return None
    try:
        return read_record(folder)
    except InputError as error:
        cli.say(f"{error}; the run starts over")
        return None


def _same_origin(old: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    same = all(old[name] == record[name] for name in ("versions", "device"))
    return same and sources.same(old["code"], record["code"])


def _adopt(folder: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Copies the chunks of a run of the same hash and origin in another experiment, and returns its record, if there is
    one.
    """
    for path in sorted(folder.parent.parent.glob(f"*/{folder.name}/record.json")):
        found = _old_record(path.parent) if path.parent != folder else None
        if found and _same_origin(found, record):
            for chunk in (chunk for *_, chunk in _chunk_files(path.parent) if damage.intact(chunk)):
                write_atomically(
                    folder / "chunks" / chunk.name, lambda file, chunk=chunk: file.write(chunk.read_bytes())
                )
            return found
    return None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    text = records.as_json(record)
    write_atomically(folder / "record.json", lambda file: file.write(text))


def missing(folder: Path, seeds: Sequence[int], num: int, size: int) -> list[tuple[int, int, int]]:
    """(seed, start, stop) of at most `size` images each: what is left of a run."""
    have = {(seed, index) for seed, start, stop, _ in _chunk_files(folder) for index in range(start, stop)}
    todo = []
    for seed in seeds:
        for index in range(num):
            if (seed, index) in have:
                continue
            if todo and todo[-1][0] == seed and todo[-1][2] == index and index - todo[-1][1] < size:
                todo[-1] = (seed, todo[-1][1], index + 1)
            else:
                todo.append((seed, index, index + 1))
    return todo


def write_chunk(folder: Path, seed: int, start: int, stop: int, chunk: Chunk, seconds: float) -> None:
    """Writes one chunk, and the seconds that it took, whole or not at all."""
    stored = {f"row/{name}": value for name, value in chunk.rows.items()}
    stored |= {f"cut/{name}": value for name, value in chunk.cuts.items()}
    for name, value in chunk.arrays.items():
        stored[f"array/{name}"] = np.packbits(value, axis=-1) if name in PACKED else value
    stored |= {"width": np.int32(chunk.arrays["mask"].shape[-1]), "seconds": np.float64(seconds)}
    path = folder / "chunks" / f"{seed}-{start:06}-{stop:06}.npz"
    write_atomically(path, lambda file: np.savez_compressed(file, **stored))


def merge(folder: Path) -> float:
    """Writes rows.parquet and cuts.parquet from the chunks and returns the seconds that those took."""
    chunks, seconds = [], 0.0
    for *_, path in _chunk_files(folder):
        with damage.arrays(path) as chunk:
            chunks.append({key: chunk[key] for key in chunk if not key.startswith("array/")})
            seconds += float(chunk["seconds"])
    for name, prefix, columns in (("rows", "row/", ROWS), ("cuts", "cut/", CUTS)):
        joined = {column: np.concatenate([chunk[prefix + column] for chunk in chunks]) for column in columns}
        table = pa.table({c: pa.array(joined[c], type=pa.type_for_alias(kind)) for c, kind in columns.items()})
        write_atomically(folder / f"{name}.parquet", lambda file, table=table: pq.write_table(table, file))
    return seconds


def _chunk_files(folder: Path, record: Mapping[str, Any] | None = None) -> list[tuple[int, int, int, Path]]:
    """(seed, start, stop, path), in the order of the seeds of the run, then of the images; files of other names, of
    other seeds or of images that the run does not have are not its own.
    """
    record = record or read_record(folder)
    order, num = {seed: place for place, seed in enumerate(record["seeds"])}, record["images"]["num"]
    names = ((re.fullmatch(r"(\d+)-(\d+)-(\d+)", path.stem), path) for path in folder.glob("chunks/*.npz"))
    files = [(*map(int, match.groups()), path) for match, path in names if match and path.is_file()]
    own = [file for file in files if file[0] in order and file[1] < file[2] <= num]
    return sorted(own, key=lambda file: (order[file[0]], file[1]))
