"""Every picture of any number of shards, a table for each shard; `python -m experiments.shards --help` says more."""

from __future__ import annotations

import collections
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf

import evomask
from evomask import validate
from evomask.data import pictures, shards
from evomask.data.pictures import DataError, ImageError
from evomask.data.shards import Sample
from evomask.files import write_atomically
from evomask.report import records, sheets
from evomask.search.config import Config
from evomask.types import Classifier, Explanation, InputError, whole

from .benchmarks import damage, runs, sources
from .explain import build_config, image_shape
from .shared import answers, cli

UNFINISHED = ".unfinished"  # the folder in `out` with what is there of shards that are not finished
TARGETS = ("predicted", "label")
ASIDE = ("shards", "out", "again", "chunk")  # keys that change nothing of what is found about a picture

# A row for each picture, in the order of the shard; all but the first four are null where there is an error.
ROWS = pa.schema(
    {
        "name": pa.string(),
        "index": pa.int64(),
        "given": pa.int32(),  # the label that the shard gives it, if any
        "error": pa.string(),  # why there is no explanation
        "class_index": pa.int32(),  # what was explained
        "label": pa.string(),
        "predicted": pa.string(),
        "confidence": pa.float32(),
        "predicted_confidence": pa.float32(),
        "masked_confidence": pa.float32(),
        "inverse_confidence": pa.float32(),
        "area": pa.float32(),
        "status": pa.string(),  # an `evomask.Status`, in lower case
        "sufficient": pa.bool_(),
        "necessary": pa.bool_(),
        "holds": pa.bool_(),  # in showings where the preset draws some, otherwise in one
        "evaluations": pa.int32(),
        "mask": pa.binary(),  # the bits of bool[H, W], row by row, as `numpy.packbits` makes them
    }
)


class Job(NamedTuple):
    """What is asked about every picture."""

    classifier: Classifier
    shape: tuple[int, int, int]
    settings: Config
    seed: int
    target: str
    fit: str
    chunk: int
    request: str  # digest of all that the answers follow from, but for the pictures
    again: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(explain_shards, "shards", argv)


def explain_shards(config: DictConfig) -> int:
    """Goes from shard to shard; 2 if one of them could not be read to its end."""
    if config.shards is None:
        raise InputError("no shards: say shards=files.tar, a folder of them, or a pattern")
    paths = shards.find(config.shards if isinstance(config.shards, str) else list(config.shards))
    job, out = build(config), records.prepare_folder(config.out)
    names = pictures.unique_names([Path(f"{shards.stem(path)}.shard") for path in paths])
    failed, found = 0, collections.Counter()
    for path, name in zip(paths, names):
        try:
            before = finish(job, path, out, name)
            counts = tally(out / f"{name}.parquet")
            cli.say(f"{name}: {'finished before, ' if before else ''}{in_words(counts)}")
            found += counts
        except runs.Busy:
            cli.say(f"{name}: another process is at it")
        except DataError as error:  # about this shard: the others are explained all the same
            cli.say(f"error: {error}")
            failed += 1
    for status, count in sorted(found.items()):
        print(f"{count:9,}  {status}")
    print(f"{found.total():9,}  pictures, in {out}/*.parquet")
    return 2 if failed else 0


def build(config: DictConfig) -> Job:
    """What the command line asks, checked before any shard is opened."""
    settings = build_config(config)
    classifier = cli.classifier(config)
    shape = image_shape(classifier)
    if shape[2] not in (1, 3):
        raise InputError(f"shards hold photographs, and the network takes {shape[2]} channels: give one of 1 or 3")
    validate.inputs(classifier, np.zeros((1, *shape), np.float32), None, None, settings)
    if config.target not in TARGETS:
        raise InputError(f"target is {config.target!r}: give {' or '.join(TARGETS)}")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    asked = {key: value for key, value in plain.items() if key not in ASIDE}
    request = sources.digest({"settings": asked, "code": answers.code(plain, "shards")})
    numbers = whole("seed", config.seed, 0), whole("chunk", config.chunk)
    return Job(classifier, shape, settings, numbers[0], config.target, config.fit, numbers[1], request, config.again)


# ------------------------------------------------------------------------------------------------------ one shard


def finish(job: Job, path: Path, out: Path, name: str) -> bool:
    """Makes the table of a shard, and says whether it stood there before.

    Chunks of rows are written as they are found, so that a kill costs one of them, and become the table in one step
    once the shard has come to its end. The lock is held all the while: no picture is explained by two processes.

    Raises:
      Busy: another process has the lock.
      DataError: the shard could not be read to its end; the chunks that were found stay.
    """
    table, request = out / f"{name}.parquet", f"{job.request}-{shards.identity(path)}"
    with runs.locked(out / UNFINISHED / name, wait=False):
        chunks = out / UNFINISHED / name / "chunks"
        chunks.mkdir(exist_ok=True)
        before = is_of(table, request) and not job.again
        if before or job.again:
            _remove(chunks)
        if before:
            return True
        done = _done(chunks, request)
        samples = itertools.islice(shards.read(path), done, None)
        for start, stop, rows in _answered(job, samples, done):
            _write(chunks / f"{start:09}-{stop:09}.parquet", [rows], request)
        _write(table, map(pq.read_table, sorted(chunks.glob("*.parquet"))), request)
        _remove(chunks)
        return False


def is_of(table: Path, request: str) -> bool:
    """Whether a file holds rows, whole, that answer this request."""
    if not damage.intact_table(table):
        return False
    return (pq.read_schema(table).metadata or {}).get(b"request") == request.encode()


def tally(table: Path) -> collections.Counter:
    """How many pictures have each status; without an explanation: `error`."""
    rows = pq.read_table(table, columns=["status"])
    return collections.Counter("error" if each is None else each for each in rows["status"].to_pylist())


def in_words(counts: collections.Counter) -> str:
    """How many pictures there are.

    >>> in_words(collections.Counter(complete=1200, error=2))
    '1,202 pictures, 2 of them without explanation'
    """
    errors = counts["error"]
    return f"{counts.total():,} picture{'s' * (counts.total() != 1)}" + (
        f", {errors:,} of them without explanation" if errors else ""
    )


def _done(chunks: Path, request: str) -> int:
    """How many rows can be gone on from; all that is not part of them is removed from the folder."""
    done = 0
    for file in sorted(chunks.iterdir()):
        rows = pq.read_metadata(file).num_rows if is_of(file, request) else 0
        if rows and file.name == f"{done:09}-{done + rows:09}.parquet":
            done += rows
        else:
            file.unlink()
    return done


def _remove(chunks: Path) -> None:
    for file in chunks.iterdir():
        file.unlink()


def _write(path: Path, parts: Iterable[pa.Table], request: str) -> None:
    """A file with a row group for each part, whole or not at all."""

    def fill(file: Any) -> None:
        with pq.ParquetWriter(file, ROWS.with_metadata({"request": request})) as writer:
            for part in parts:
                writer.write_table(part.replace_schema_metadata(writer.schema.metadata))

    write_atomically(path, fill)


# ------------------------------------------------------------------------------------------------------- pictures


def _answered(job: Job, samples: Iterator[Sample], done: int) -> Iterator[tuple[int, int, pa.Table]]:
    """The chunks of rows, each with the numbers of its pictures."""
    while part := list(itertools.islice(samples, job.chunk)):
        rows = [{"name": s.name, "index": done + place, "given": s.label} for place, s in enumerate(part)]
        images = [_decoded(job, sample, row) for sample, row in zip(part, rows)]
        usable = [place for place, image in enumerate(images) if image is not None]
        if usable:
            labels = [part[place].label for place in usable] if job.target == "label" else None
            found = _explained(job, np.stack([images[place] for place in usable]), labels)
            for place, one in zip(usable, found):
                rows[place] |= one
        yield done, done + len(part), pa.Table.from_pylist(rows, ROWS)
        done += len(part)


def _decoded(job: Job, sample: Sample, row: dict[str, Any]) -> np.ndarray | None:
    """f32[H, W, C] in [0, 1]; None, and the row says why, for what is no picture or has no label."""
    crop = getattr(job.classifier, "crop", 1.0)
    try:
        if job.target == "label" and sample.label is None:
            raise ImageError(f"{sample.name} has no label in its shard; explain what is predicted, target=predicted")
        pixels, _ = pictures.read(sample.content, sample.name, job.shape, crop, job.fit)
    except ImageError as error:
        row["error"] = str(error)
        return None
    return pixels.astype(np.float32) / np.float32(255)


def _explained(job: Job, images: np.ndarray, labels: Sequence[int | None] | None) -> list[dict[str, Any]]:
    """The columns of each picture. Where something is wrong with one of them, they are asked about one by one."""
    try:
        found = evomask.explain(job.classifier, images, key=job.seed, labels=labels, config=job.settings)
        return [columns(one) for one in found]
    except InputError as error:
        if len(images) == 1:
            return [{"error": str(error)}]
        alone = (slice(place, place + 1) for place in range(len(images)))
        return [_explained(job, images[one], labels and labels[one])[0] for one in alone]


def columns(found: Explanation) -> dict[str, Any]:
    """What stands in the row of an explanation of one picture."""
    numbers = {name: value for name, value in sheets.numbers(found).items() if name in ROWS.names}
    return numbers | {"holds": bool(found.holds), "mask": np.packbits(np.asarray(found.mask)).tobytes()}


if __name__ == "__main__":
    sys.exit(main())
