"""What was compiled is found again by the next process; where it cannot be kept, no harm is done."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = ["tests", "."]
import numpy as np, oracles, evomask
from evomask import operators
from evomask.search import fitness
from evomask.search.config import Config
from experiments.shared import compiling

moves = evomask.Operators(operators.Tournament(2), operators.Uniform(), operators.Replace(), operators.Plus())
stage = evomask.Stage("only", population=2, genes=1, radii=(1,), generations=4)
config = Config(stages=(stage,), operators=moves, fitness=fitness.smallest_complete())
with compiling.kept(Path(sys.argv[1])):
    print(evomask.explain(oracles.constant(), np.ones((1, 6, 6, 1)), key=0, config=config, progress=print).mask.sum())
"""


def run(folder, **variables):
    named = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = named | {"JAX_PLATFORMS": "cpu"} | variables
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def programs(folder):
    return {path.name.partition("-")[0] for path in folder.rglob("*-cache")}, {*folder.rglob("*-cache")}


def test_the_next_process_finds_the_programs_of_a_search(tmp_path):
    said = run(tmp_path)
    names, files = programs(tmp_path)
    assert "jit_advance" in names
    assert run(tmp_path) == said
    # Small programs are kept only where they took long enough to compile.
    searches = {file for file in files if file.name.startswith("jit_advance")}
    assert searches and searches == {file for file in programs(tmp_path)[1] if file.name.startswith("jit_advance")}


def test_a_folder_that_cannot_be_made_does_no_harm(tmp_path):
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "programs").splitlines()[-1].isdigit()


def test_jax_s_own_settings_come_first(tmp_path):
    run(tmp_path / "ours", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "named"))
    assert not (tmp_path / "ours").exists() and (tmp_path / "named").exists()
