"""Run folders: what a benchmark job leaves on disk, how it is continued after a kill, and how it is read again.

    <out>/<experiment>/images/<digest>.npz    the images that were explained, shared by the runs of a sweep
    <out>/<experiment>/<hash>/config.yaml     the resolved configuration
                              record.json     how the run went, see below; the folder is a run once this is there
                              rows.parquet    one row per seed and image: the headline mask and the heat map (`ROWS`)
                              cuts.parquet    one row per seed, image and rule: the masks cut from the heat map (`CUTS`)
                              chunks/*.npz    the same rows as they were computed, and the arrays for figures (`ARRAYS`)
                              lock            held by the process that works here; the system frees it when that is
                              killed

The hash is that of everything that decides the numbers (method, model and its weights, images, fill, budget, seeds,
steps), and of nothing else: neither the folder, nor how many images make a chunk, nor how a choice is called. Every
image is explained alone, so that its numbers depend on no other. Rows are ordered by seed, then image, then rule, hold
no times, and are the same bytes however often a run was killed and resumed; both .parquet files appear when all of them
are there.

record.json
    schema           2; another number cannot be read
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
    code             {commit, dirty, digest of the sources}; commit null outside of a repository
    versions, device of the packages; kind of the first device
    sittings         [{started, outside, seconds, compile_seconds}]: one for every process that worked at the run;
    outside
                     holds versions of packages in another environment. Seconds of a killed one are those up to its last
                     chunk; compile_seconds are those that XLA took
    run_seconds      sum over the chunks of what they took without compiling, kept and merged ones only
    compile_seconds  sum over the sittings

`load` reads a finished run, `arrays` and `images` its arrays; `find` lists run folders, `status` says how they stand.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from evomask.measures.budget import Bill, Spent
from evomask.measures.budget import common_budget as common_budget_of_bills
from evomask.report import records
from evomask.types import InputError

try:
    import filelock
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"error: benchmarks need the package {missing.name}: pip install 'evomask[benchmark]'"
    ) from missing

SCHEMA = 2
ROOT = Path(__file__).parents[2]
PATIENCE = 2.0  # seconds before a lock counts as taken: whoever only looks holds it for an instant

# ----------------------------------------------------------------------------------------------------- the columns

# What one mask does; confidences are softmax probabilities of `label`, labels are class indices predicted.
_MASK = {
    "rule": "string",  # where the mask comes from, see `experiments.benchmarks.protocol.RULES`
    "area": "float32",  # fraction of pixels kept
    "masked_confidence": "float32",
    "masked_label": "int32",
    "inverse_confidence": "float32",
    "inverse_label": "int32",
    "cp": "float32",  # inf for an empty mask
    "cp_floored": "float32",
    "sufficient": "bool",
    "necessary": "bool",
    "complete": "bool",
    "complete_area": "float32",  # the area of a complete mask, NaN of another: a failure
    "status": "string",  # `evomask.types.Status`, lower case
    "reason": "string",  # `evomask.measures.thresholding.Reason`, lower case: found, not_found, constant, not_finite
    "cut_evaluations": "int32",  # spent on cutting the mask from the heat map, beside the budget
    "iou": "float32",  # these three NaN without a ground truth
    "precision": "float32",
    "recall": "float32",
}
_WHICH = {"image": "string", "index": "int32", "seed": "int64"}
ROWS = {
    **_WHICH,
    "method": "string",
    "label": "int32",  # the class explained
    "label_name": "string",
    "predicted": "int32",  # for the whole image
    "predicted_name": "string",
    "confidence": "float32",  # of the whole image
    "blank_confidence": "float32",
    "blank_label": "int32",
    **_MASK,  # of the headline rule
    "evaluations": "int32",  # forward + backward, within the budget
    "forward": "int32",
    "backward": "int32",
    "insertion_auc": "float32",  # NaN of a heat map that is not finite
    "deletion_auc": "float32",
    "mu_fidelity": "float32",
    "gini": "float32",
    "pointing_game": "float32",  # these two NaN without a ground truth
    "energy": "float32",
}
CUTS = {**_WHICH, **_MASK}

# Per seed and image, as the rows. T prefixes of the heat map, S stages, E generations.
ARRAYS = {
    "score": "f16[H, W], the heat map",
    "mask": "bool[H, W], the headline mask",
    "prefix_area": "f32[T], of the prefixes in the order of the score",
    "prefix_confidence": "f32[T], for the image masked by each prefix",
    "prefix_inverse_confidence": "f32[T]",
    "prefix_keeps": "bool[T], the masked image has the label",
    "prefix_loses": "bool[T], the inverse-masked image has it no more",
    "stage_masks": "bool[S, H, W], of an evolution, as the following",
    "history_evaluations": "int32[E], spent until then",
    "history_area": "f32[E], of the best individual",
    "history_confidence": "f32[E]",
    "history_feasible": "bool[E]",
}
_PACKED = ("mask", "stage_masks")  # eight pixels in a byte on disk


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
    return sorted(path.parent for path in Path(out).expanduser().glob(f"{experiment}/*/record.json"))


def read_record(folder: str | Path) -> dict[str, Any]:
    """record.json; InputError if it was written under another schema."""
    path = Path(folder) / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {record.get('schema')}, this version reads {SCHEMA}: run it again")
    return record


def status(folder: str | Path) -> str:
    """finished, failed, interrupted, running, or killed: begun, and nobody is at it."""
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
        with np.load(path) as chunk:
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
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    return Run(folder, record, config, *(pd.read_parquet(folder / f"{name}.parquet") for name in ("rows", "cuts")))


def arrays(folder: str | Path, *names: str) -> dict[str, np.ndarray]:
    """The named `ARRAYS` (all that the run has, if none is named), one entry for each row of `Run.rows`, in their
    order.

    Works on unfinished runs too, for the images that they have.
    """
    files = _chunk_files(Path(folder))
    parts: dict[str, list[np.ndarray]] = {}
    for *_, path in files:
        with np.load(path) as chunk:
            have = [key.removeprefix("array/") for key in chunk if key.startswith("array/")]
            for name in names or have:
                if name not in have:
                    raise InputError(f"run {folder} has no array {name!r}: it has {', '.join(have)}")
                value = chunk[f"array/{name}"]
                width = int(chunk["width"])
                parts.setdefault(name, []).append(
                    np.unpackbits(value, axis=-1, count=width).astype(bool) if name in _PACKED else value
                )
    return {name: np.concatenate(values) for name, values in parts.items()}


def images(folder: str | Path) -> dict[str, np.ndarray]:
    """What was explained, by `index` of the rows: images uint8[N, H, W, C], labels int32[N], names str[N], classes
    str[K] and, where it is known, the truth bool[N, H, W].
    """
    folder = Path(folder)
    with np.load(folder / read_record(folder)["images"]["file"]) as file:
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


def digest(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over JSON values, arrays and bytes (in dicts, lists and tuples).

    >>> digest({"a": 1, "b": [0.5]}) == digest({"b": [0.5], "a": 1})
    True
    >>> digest(np.zeros(2, np.float32)) == digest(np.zeros(2, np.float64))
    False
    """
    found = hashlib.sha256()

    def add(node: Any) -> None:
        if isinstance(node, Mapping):
            found.update(b"{%d" % len(node))
            for key in sorted(node):
                add(key), add(node[key])
        elif isinstance(node, (list, tuple)):
            found.update(b"[%d" % len(node))
            for item in node:
                add(item)
        elif isinstance(node, (np.ndarray, jax.Array)):
            node = np.ascontiguousarray(node)
            found.update(f"{node.dtype.str}{node.shape}".encode() + node.tobytes())
        else:
            found.update(json.dumps(node).encode() + b";")

    add(value)
    return found.hexdigest()[:16]


def write_images(folder: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes <folder>/images/<digest>.npz unless it is there, and returns its path relative to a run folder."""
    name = f"{digest(dict(arrays))}.npz"
    path = folder / "images" / name
    if not path.exists():
        records.prepare_folder(path.parent)
        records.write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
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
    old = read_record(folder) if (folder / "record.json").exists() else None
    if old and old["status"] == "finished" and not again:
        return None
    for path in folder.glob("**/.*"):  # what a kill left of a file that was being written
        path.unlink()
    if old is None or again or not _same_origin(old, record):
        shutil.rmtree(folder / "chunks", ignore_errors=True)
        (folder / "chunks").mkdir()
        old = None if again else _adopt(folder, record)
    record = record | {"sittings": old["sittings"] if old else []}
    records.write_atomically(folder / "config.yaml", lambda file: file.write(config.encode()))
    write_record(folder, record)
    return record


def _same_origin(old: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    same = all(old[name] == record[name] for name in ("versions", "device"))
    return same and old["code"]["digest"] == record["code"]["digest"]


def _adopt(folder: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Copies the chunks of a run of the same hash and origin in another experiment, and returns its record, if there is
    one.
    """
    for path in sorted(folder.parent.parent.glob(f"*/{folder.name}/record.json")):
        found = read_record(path.parent)
        if path.parent != folder and _same_origin(found, record):
            for *_, chunk in _chunk_files(path.parent):
                records.write_atomically(
                    folder / "chunks" / chunk.name, lambda file, chunk=chunk: file.write(chunk.read_bytes())
                )
            return found
    return None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    records.write_atomically(folder / "record.json", lambda file: file.write(text.encode()))


def missing(folder: Path, seeds: Sequence[int], num: int, size: int) -> list[tuple[int, int, int]]:
    """(seed, start, stop) of at most `size` images each: what a run has still to do."""
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
        stored[f"array/{name}"] = np.packbits(value, axis=-1) if name in _PACKED else value
    stored |= {"width": np.int32(chunk.arrays["mask"].shape[-1]), "seconds": np.float64(seconds)}
    path = folder / "chunks" / f"{seed}-{start:06}-{stop:06}.npz"
    records.write_atomically(path, lambda file: np.savez_compressed(file, **stored))


def merge(folder: Path) -> float:
    """Writes rows.parquet and cuts.parquet from the chunks and returns the seconds that those took."""
    chunks, seconds = [], 0.0
    for *_, path in _chunk_files(folder):
        with np.load(path) as chunk:
            chunks.append({key: chunk[key] for key in chunk if not key.startswith("array/")})
            seconds += float(chunk["seconds"])
    for name, prefix, columns in (("rows", "row/", ROWS), ("cuts", "cut/", CUTS)):
        joined = {column: np.concatenate([chunk[prefix + column] for chunk in chunks]) for column in columns}
        table = pa.table({c: pa.array(joined[c], type=pa.type_for_alias(kind)) for c, kind in columns.items()})
        records.write_atomically(folder / f"{name}.parquet", lambda file, table=table: pq.write_table(table, file))
    return seconds


def _chunk_files(folder: Path) -> list[tuple[int, int, int, Path]]:
    """(seed, start, stop, path), in the order of the seeds of the run, then of the images."""
    order = {seed: place for place, seed in enumerate(read_record(folder)["seeds"])}
    files = [(*map(int, path.stem.split("-")), path) for path in folder.glob("chunks/[0-9]*.npz")]
    return sorted(files, key=lambda file: (order[file[0]], file[1]))


# ------------------------------------------------------------------------------------------------------ provenance


@functools.cache
def code_version() -> dict[str, Any]:
    """Commit and dirty flag of the repository, null outside of one, and a digest of the sources that decide the
    numbers.
    """
    git = lambda *args: subprocess.run(("git", "-C", str(ROOT), *args), capture_output=True, text=True)
    own = [
        ROOT / "experiments" / name
        for name in ("benchmark.py", "benchmarks/imagesets.py", "benchmarks/protocol.py", "benchmarks/ablations.py")
    ]
    sources = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (*ROOT.glob("evomask/**/*.py"), *own)
    }
    try:
        commit = git("rev-parse", "HEAD")
        known = commit.returncode == 0
        dirty = bool(git("status", "--porcelain", "--", "evomask", "experiments", "conf").stdout) if known else None
    except FileNotFoundError:  # no git on this machine
        known, dirty = False, None
    return {"commit": commit.stdout.strip() if known else None, "dirty": dirty, "digest": digest(sources)}
