"""Many photographs whose explaining is killed again and again: `PYTHONPATH=. python tests/kill_explain.py 1000 20`.

What comes out must be, byte for byte, what an undisturbed run leaves, and nothing that was there may be made again.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from kill_sweep import finish, program
from PIL import Image
from test_explain_cli import SIDE, SMALL

SEARCH = (*SMALL, "image=../pictures", "out=out")


def draw(folder: Path, images: int) -> None:
    """So many pictures of noise, half of them brighter on the left."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(images):
        pixels = rng.integers(0, 200, (SIDE, SIDE, 3), np.uint8)
        pixels[:, : SIDE // 2] += np.uint8(55 * (number % 2))
        Image.fromarray(pixels).save(folder / f"{number:04}.png")


def start(folder: Path):
    """The run as a process of its own, in a folder beside that of the pictures."""
    folder.mkdir(exist_ok=True)
    return program("experiments.explain", folder, *SEARCH)


def written(folder: Path) -> dict[str, bytes]:
    """Every file that the run has left, by its name."""
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def records(folder: Path) -> dict[Path, int]:
    """Every image that is done, and when: its record is what is written last."""
    return {path: path.stat().st_mtime_ns for path in (folder / "out").glob("*/explanation.json")}


def kill_and_resume(folder: Path, kills: int, images: int, seed: int) -> list[int]:
    """Kills the run `kills` times, at random moments of a part of its own each, and lets it come to its end.

    Returns:
      How many images were done after each kill.
    """
    rng, done, kept = random.Random(seed), [], {}
    for kill in range(kills):
        process, enough = start(folder), images * (kill + rng.random()) / kills
        while process.poll() is None and len(records(folder)) < enough:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.5)
        process.kill()
        process.communicate()
        assert process.returncode in (-9, 0)
        assert kept.items() <= records(folder).items(), "what was done was lost or made again"
        kept = records(folder)
        done.append(len(kept))
    finish(start(folder), seconds=300 + images)
    assert kept.items() <= records(folder).items()
    return done


def main(images: int, kills: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        draw(Path(temporary, "pictures"), images)
        quiet, killed = Path(temporary, "quiet"), Path(temporary, "killed")
        finish(start(quiet), seconds=300 + images)
        seed = random.randrange(1000)
        done = kill_and_resume(killed, kills, images, seed)
        expected = written(quiet)
        again = written(killed)
        differ = sorted(name for name in expected | again if expected.get(name) != again.get(name))
        assert not differ and len(records(quiet)) == images, f"seed {seed}: {differ} differ"
        print(f"{kills} kills (seed {seed}) after {done} images: {len(expected)} files, byte for byte the same")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
