"""A sweep that is killed again and again: `PYTHONPATH=. python tests/kill_sweep.py 20` does it twenty times.

What comes out must be, byte for byte, what an undisturbed sweep leaves, and no chunk that was there may be made again.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.benchmarks import runs

ROOT = Path(__file__).parent.parent
RUNS = 4
SWEEP = (
    "method=random_pixels,centred_square", "seeds=[0],[1]", "budget=10", "chunk=1", "data.num=3", "target=predicted",
    "cut_steps=8", "auc_steps=8", "fidelity_subsets=8", "model=custom", "model.network._target_=test_benchmark.tiny",
)  # fmt: skip


def start(out: Path, *overrides: str) -> subprocess.Popen:
    """The sweep as a process of its own."""
    return program("experiments.benchmark", out.parent, "-m", *SWEEP, *overrides, f"out={out}")


def program(module: str, folder: Path, *arguments: str) -> subprocess.Popen:
    """A process in a folder, which finds the tests' own parts; what XLA compiles is kept there for the next one."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | cache | {"PYTHONPATH": path},
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen, seconds: float = 300) -> str:
    """Waits for success, for so long, and returns stderr."""
    _, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors
    return errors


def chunks(out: Path) -> dict[Path, int]:
    """Every chunk there is, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("benchmark/*/chunks/[0-9]*.npz")}


def tables(out: Path) -> dict[str, bytes]:
    """The bytes of every table, by run and name."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in out.glob("benchmark/*/*.parquet")}


def kill_and_resume(out: Path, kills: int, seed: int) -> dict[str, int]:
    """Kills the sweep `kills` times, at random moments after it has begun or, in one case of four, before; then two
    processes at once bring it to its end.

    Returns:
      How often each status was found after a kill.
    """
    rng, found = random.Random(seed), {}
    kept: dict[Path, int] = {}
    for _ in range(kills):
        process = start(out)
        if rng.random() < 0.75:
            while process.poll() is None and len(chunks(out)) <= len(kept):
                time.sleep(0.002)
        time.sleep(rng.random() * 0.15)
        process.kill()
        process.communicate()
        assert process.returncode in (-9, 0)
        assert kept.items() <= chunks(out).items(), "a finished chunk was lost or made again"
        kept = chunks(out)
        for folder in runs.find(out, "benchmark"):
            status = runs.status(folder)
            found[status] = found.get(status, 0) + 1
    sittings = {folder: len(runs.read_record(folder)["sittings"]) for folder in runs.find(out, "benchmark")}
    said = [finish(process) for process in [start(out), start(out)]]
    assert kept.items() <= chunks(out).items()
    assert sum(text.count("another process") + text.count("finished before") for text in said) >= RUNS
    for folder in runs.find(out, "benchmark"):
        assert len(runs.read_record(folder)["sittings"]) <= sittings.get(folder, 0) + 1, "both worked at one run"
    assert {runs.status(folder) for folder in runs.find(out, "benchmark")} == {"finished"}
    return found


def main(kills: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        quiet, killed = Path(folder, "quiet"), Path(folder, "killed")
        finish(start(quiet))
        seed = random.randrange(1000)
        found = kill_and_resume(killed, kills, seed)
        assert tables(quiet) == tables(killed) and len(tables(quiet)) == 2 * RUNS, f"tables differ, seed {seed}"
        same = f"{len(tables(quiet))} tables, byte for byte the same"
        print(f"{kills} kills (seed {seed}), found afterwards {found}: {same}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
