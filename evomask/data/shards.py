"""Shards: files of many pictures each, tar as WebDataset lays it out or parquet as Hugging Face's datasets do, read in
order and a picture at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from evomask.data import pictures
from evomask.data.pictures import DataError
from evomask.data.sets import ARCHIVE_SUFFIXES

SUFFIXES = (".parquet", *ARCHIVE_SUFFIXES)
COLUMNS = ("image", "label")  # of a parquet file
ENDS = 1 << 20  # bytes at either end of a shard that its identity is made of


class Sample(NamedTuple):
    """One picture of a shard, not decoded yet."""

    name: str  # of its file in the shard, without suffix; of a row without a path its number
    content: bytes
    label: int | None  # where the shard says it


def find(shards: str | Path | Iterable[str | Path]) -> list[Path]:
    """Files, folders and glob patterns -> shards, each once; folders and patterns sorted.

    Raises:
      DataError: something leads to no shard.

    >>> find("nothing-*.tar")
    Traceback (most recent call last):
    evomask.data.pictures.DataError: no shards at nothing-*.tar: give files, a folder or a pattern (.parquet, .tar,
    .tar.gz, .tgz)
    """
    found = []
    for asked in [shards] if isinstance(shards, str | Path) else shards:
        path = pictures.located(asked)
        inside = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else pictures.matching(str(path))
        new = [file for file in inside if is_shard(file.name)]
        if not new:
            raise DataError(f"no shards at {asked}: give files, a folder or a pattern ({', '.join(SUFFIXES)})")
        found += new
    return list(dict.fromkeys(found))


def is_shard(name: str) -> bool:
    """By its name, whether a file is taken for a shard: a known suffix, and not hidden.

    >>> [is_shard(name) for name in ("00.tar", "00.TGZ", ".00.tar", "00.zip")]
    [True, True, False, False]
    """
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def stem(path: Path) -> str:
    """The name of a shard without its suffix.

    >>> stem(Path("a/train-00.tar.gz")), stem(Path("v1.2.parquet"))
    ('train-00', 'v1.2')
    """
    suffix = max((one for one in SUFFIXES if path.name.lower().endswith(one)), key=len, default="")
    return path.name[: len(path.name) - len(suffix)]


def identity(path: Path) -> str:
    """A digest of a shard's size and of its first and last MiB: what is found of it belongs to this file."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        begin = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        return hashlib.sha256(b"%d" % size + begin + file.read(ENDS)).hexdigest()[:16]


def read(path: Path) -> Iterator[Sample]:
    """The pictures of a shard, in its order; one is in memory at a time.

    In a tar file the files of one name are one sample, `0001.jpg` and its label `0001.cls`, next to each other; in a
    parquet file the column `image` holds bytes or records with `bytes` and `path`, and the column `label` integers.

    Raises:
      DataError: the shard is damaged, holds no pictures, or its columns are others.
    """
    try:
        yield from _of_parquet(path) if path.name.lower().endswith(".parquet") else _of_tar(path)
    except DataError:
        raise
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:  # pyarrow's are ValueErrors, too
        raise DataError(f"{path} cannot be read ({error}); it is damaged or cut short, get it again") from error


def _of_tar(path: Path) -> Iterator[Sample]:
    with tarfile.open(path) as archive:
        files = (member for member in archive if member.isfile() and not Path(member.name).name.startswith("."))
        count = 0
        for name, members in itertools.groupby(files, key=lambda member: _key(member.name)):
            content = label = None
            for member in members:
                if pictures.is_picture(Path(member.name).name):
                    content = _bytes(archive, member)
                elif member.name.lower().endswith(".cls"):
                    label = _label(_bytes(archive, member), f"{path}: {member.name}")
            if content is not None:
                yield Sample(name, content, label)
                count += 1
        if not count:
            raise DataError(f"{path} holds no pictures ({' '.join(pictures.SUFFIXES)})")


def _key(name: str) -> str:
    """The name of a sample: folders, and the file up to its first dot.

    >>> _key("a.b/0001.seg.png")
    'a.b/0001'
    """
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with contextlib.closing(archive.extractfile(member)) as file:  # pyright: ignore[reportArgumentType]
        return file.read()


def _label(content: bytes, name: str) -> int:
    try:
        return int(content)
    except ValueError as error:
        raise DataError(f"{name} is {content[:20]!r}: a label is an integer") from error


def _of_parquet(path: Path) -> Iterator[Sample]:
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError as missing:
        raise DataError("parquet shards need pyarrow: pip install 'evomask[benchmark]'") from missing

    with pq.ParquetFile(path) as file:
        image, label = COLUMNS
        if image not in file.schema_arrow.names:
            raise DataError(f"{path} has no column {image!r}, but {', '.join(file.schema_arrow.names)}")
        wanted = [name for name in COLUMNS if name in file.schema_arrow.names]
        rows = (row for batch in file.iter_batches(16, columns=wanted) for row in batch.to_pylist())
        for number, row in enumerate(rows):
            yield _row(row[image], row.get(label), number, path)


def _row(image: Any, label: Any, number: int, path: Path) -> Sample:
    content, name = (image.get("bytes"), image.get("path")) if isinstance(image, Mapping) else (image, None)
    if not isinstance(content, bytes):
        raise DataError(f"row {number} of {path} has {type(content).__name__} where the bytes of a picture should be")
    if not isinstance(label, int | None):
        raise DataError(f"row {number} of {path} has the label {label!r}: a label is an integer")
    return Sample(_key(name) if name else str(number), content, label)
