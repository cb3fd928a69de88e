"""What is built is all of evomask, and works in an empty folder where nothing else of the repository is."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parent.parent
QUICK = ["model=mine", "fill=eighth", "preset=smallest", "budget=160", "~preset.stages.middle", "~preset.stages.fine",
         "preset.stages.gross.genes=4", "crossover=one_point", "mutation=replace", "screening=none"]  # fmt: skip
OWN = {
    "mine.py": """
import jax.numpy as jnp

def network():
    return lambda images: 9.0 * jnp.stack([images[:, :8].mean((1, 2, 3)), images[:, 8:].mean((1, 2, 3))], 1)
""",
    "conf/model/mine.yaml": """
_target_: evomask.as_classifier
network: {_target_: mine.network}
labels: [above, below]
image_shape: [16, 16, 3]
""",
    "conf/fill/eighth.yaml": "# @package preset.fill\n_target_: evomask.fills.Constant\nvalue: 0.125\n",
}


def python(*arguments, cwd, path=()):
    """Runs Python as somebody would who has these folders installed; returns the finished process."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)) or os.environ.get("PYTHONPATH", "")}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist, made of the tracked files, and the wheel, made of the sdist."""
    folder = tmp_path_factory.mktemp("built")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # and was not deleted just now
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "clone" / name)
    sdist = "from setuptools import build_meta; build_meta.build_sdist('../dist')"
    done = python("-c", sdist, cwd=folder / "clone")
    assert done.returncode == 0, done.stderr
    (archive,) = (folder / "dist").glob("*.tar.gz")
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    done = python("-m", "pip", "wheel", *offline, "--wheel-dir", "dist", archive, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built):
    """The folder into which the wheel was installed."""
    (wheel,) = (built / "dist").glob("*.whl")
    where = ["--no-deps", "--no-index", "--disable-pip-version-check", "--no-compile", "--target", "site"]
    done = python("-m", "pip", "install", *where, wheel, cwd=built)
    assert done.returncode == 0, done.stdout + done.stderr
    return built / "site"


@pytest.fixture
def own(tmp_path):
    """A folder with a picture, a network and a fill of somebody's own."""
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[2:6, 4:12] = 255
    Image.fromarray(pixels).save(tmp_path / "my picture.png")
    return tmp_path


def test_the_wheel_holds_every_file_and_takes_no_other_name(built):
    (wheel,) = (built / "dist").glob("*.whl")
    found = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.partition("/")[0] for name in found} == {"evomask"}
    expected = []
    for folder, inside in (("evomask", "evomask"), ("experiments", "evomask/experiments"), ("conf", "evomask/conf")):
        files = [path for path in (built / "clone" / folder).rglob("*") if path.is_file()]
        expected += [f"{inside}/{path.relative_to(built / 'clone' / folder).as_posix()}" for path in files]
    assert sorted(found) == sorted(expected)


def test_the_sdist_is_the_repository(built):
    (archive,) = (built / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        found = {name.partition("/")[2] for name in file.getnames()}
    tracked = {path.relative_to(built / "clone").as_posix() for path in (built / "clone").rglob("*") if path.is_file()}
    tracked = {name for name in tracked if not name.startswith((".", "evomask.egg-info/"))}
    assert not tracked - found


def test_a_photograph_is_explained_with_parts_of_ones_own(installed, own):
    done = python(installed / "bin" / "evomask", "my picture.png", *QUICK, cwd=own, path=[installed])
    assert done.returncode == 0, done.stderr
    folder = own / "out" / "my picture"
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".npz", ".png"]
    said = json.loads((folder / "explanation.json").read_text())
    assert said["config"]["preset"]["fill"] == {"_target_": "evomask.fills.Constant", "value": 0.125}
    assert sorted(path.name for path in own.iterdir() if path.name != "__pycache__") == [
        "conf", "mine.py", "my picture.png", "out"]  # fmt: skip


def test_programs_find_their_configuration(installed, tmp_path):
    """Those whose configuration lies deeper in conf/ than that of the others."""
    look = "import sys; from evomask import command; sys.exit(sum(command.main([v, '--help']) for v in sys.argv[1:]))"
    done = python("-c", look, "train", "report", cwd=tmp_path, path=[installed])
    assert done.returncode == 0, done.stderr
    assert "  evomask train recipe=digits " in done.stdout and "  evomask report experiment=" in done.stdout


def test_a_new_folder_works_as_it_is(installed, own):
    """Its own tests pass, and its experiment, all of whose parts are its own, runs and makes a table."""
    run = lambda *arguments, cwd: python(*arguments, cwd=cwd, path=[installed])
    done = run("-m", "evomask", "new", "thesis", cwd=own)
    assert done.returncode == 0, done.stderr
    folder = own / "thesis"
    assert not [path for path in folder.rglob("*") if path.is_file() and "my_research" in path.read_text()]
    for name in ("mine.py", "conf/model/mine.yaml"):  # a small network
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(own / name, folder / name)
    few = ["model=mine", "target=predicted", "data.num=1", "budget=160", "cut_steps=4", "auc_steps=4",
           "fidelity_subsets=4", "ours=smallest", "stages=flat", "preset.stages.gross.genes=4", "crossover=one_point",
           "screening=none", "method=evomask,brightness"]  # fmt: skip
    done = run("-m", "evomask", "benchmark", "-m", "+experiment=thesis", *few, cwd=folder)
    assert done.returncode == 0, done.stderr
    for path in (folder / "out" / "benchmark" / "thesis").glob("*/record.json"):
        code = json.loads(path.read_text())["code"]
        assert "experiments.benchmarks.protocol" in code["modules"] and {"mine", "thesis.compare"} <= {*code["own"]}
        assert (code["commit"], code["dirty"]) == (None, None)
    done = run(
        "-m", "evomask", "tables", "experiment=thesis", "format=csv", "where=method=evomask,brightness", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    lines = (folder / "out" / "tables" / "thesis.csv").read_text().splitlines()
    assert "in the middle" in lines[0] and [line.partition(",")[0] for line in lines[1:]] == ["evomask", "brightness"]
    tests = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    assert tests.returncode == 0, tests.stdout
