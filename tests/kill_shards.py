"""Shards whose explaining is killed again and again: `PYTHONPATH=. python tests/kill_shards.py 100 10000 20` has a
hundred shards of ten thousand pictures each, and kills twenty times.

What comes out must be, byte for byte, what an undisturbed run leaves, with every picture in it once.
"""

from __future__ import annotations

import contextlib
import functools
import io
import random
import resource
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from kill_sweep import finish, program
from PIL import Image
from test_explain_cli import SIDE, SMALL

OVERRIDES = (*SMALL, "budget=96", "chunk=4")
KINDS = 64  # different pictures


def pixels(number: int) -> np.ndarray:
    """uint8[S, S, 3], noise, brighter on the left where the number is odd."""
    values = np.random.default_rng(number % KINDS).integers(0, 200, (SIDE, SIDE, 3), np.uint8)
    values[:, : SIDE // 2] += np.uint8(55 * (number % 2))
    return values


def draw(folder: Path, num: int, pictures: int) -> None:
    """So many tar files of so many pictures."""
    folder.mkdir()
    files = []
    for number in range(KINDS):
        Image.fromarray(pixels(number)).save(file := io.BytesIO(), "png")
        files.append(file.getvalue())
    for shard in range(num):
        with tarfile.open(folder / f"{shard:05}.tar", "w") as archive:
            for number in range(shard * pictures, (shard + 1) * pictures):
                member = tarfile.TarInfo(f"{number:09}.png")
                member.size = len(files[number % KINDS])
                archive.addfile(member, io.BytesIO(files[number % KINDS]))


def start(folder: Path, *overrides: str):
    """The run as a process of its own, in a folder beside that of the shards."""
    folder.mkdir(exist_ok=True)
    return program("experiments.shards", folder, *OVERRIDES, "shards=../shards", "out=out", *overrides)


def tables(folder: Path) -> dict[str, bytes]:
    """Every table that is finished, by its name."""
    return {path.name: path.read_bytes() for path in (folder / "out").glob("*.parquet")}


def names(folder: Path) -> list[str]:
    """The names of all pictures in the tables."""
    return [name for path in (folder / "out").glob("*.parquet") for name in pq.read_table(path)["name"].to_pylist()]


def written(folder: Path) -> dict[Path, int]:
    """Every chunk and table, and when it was written."""
    found = {}
    for path in (folder / "out").glob("**/*.parquet"):
        with contextlib.suppress(FileNotFoundError):  # a chunk that became part of a table just now
            if not path.name.startswith("."):
                found[path] = path.stat().st_mtime_ns
    return found


def kill_and_resume(folder: Path, kills: int, rows: int, seed: int, *overrides: str) -> list[int]:
    """Kills the run `kills` times, at random moments of a part of its own each, and lets it come to its end.

    Returns:
      How many rows were there after each kill.
    """
    rng, done, finished = random.Random(seed), [], {}
    for kill in range(kills):
        process, enough = start(folder, *overrides), rows * (kill + rng.random()) / kills
        while process.poll() is None and count(folder) < enough:
            time.sleep(0.02)
        time.sleep(rng.random() * 0.2)
        process.kill()
        process.communicate()
        assert process.returncode in (-9, 0)
        now = {path: when for path, when in written(folder).items() if path.parent.name == "out"}
        assert finished.items() <= now.items(), "a finished table was made again"
        finished = now
        done.append(count(folder))
    finish(start(folder, *overrides), seconds=3600 + rows)
    assert finished.items() <= written(folder).items()
    return done


def count(folder: Path) -> int:
    """Rows that are there, in tables and chunks."""
    total = 0
    for path, when in written(folder).items():
        with contextlib.suppress(FileNotFoundError):
            total += rows_of(path, when)
    return total


@functools.cache  # whoever watches a thousand tables must not be what the run waits for
def rows_of(path: Path, when: int) -> int:
    """Rows of a file as it was written then."""
    return pq.read_metadata(path).num_rows


def main(num: int, pictures: int, kills: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        draw(Path(temporary, "shards"), num, pictures)
        quiet, killed, options = (
            Path(temporary, "quiet"),
            Path(temporary, "killed"),
            ("chunk=500", "preset.together=64"),
        )
        begin = time.monotonic()
        finish(start(quiet, *options), seconds=3600 + num * pictures)
        seconds, seed = time.monotonic() - begin, random.randrange(1000)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        done = kill_and_resume(killed, kills, num * pictures, seed, *options)
        assert tables(quiet) == tables(killed), f"seed {seed}: tables differ"
        assert sorted(names(killed)) == [f"{number:09}" for number in range(num * pictures)], f"seed {seed}"
        print(f"{num * pictures:,} pictures in {seconds:.0f} s, {peak} MiB")
        print(f"{kills} kills (seed {seed}) after {done} rows: the same")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
