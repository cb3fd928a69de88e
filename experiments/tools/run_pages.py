"""Runs what the pages print: every command, and every block of Python, as a reader would, at a small size.

    python -m experiments.tools.run_pages                      # all pages, in an environment made for it
    python -m experiments.tools.run_pages README.md --here     # this page, in the environment that runs this
    python -m experiments.tools.run_pages --cifar10 cifar-10-python.tar.gz --imagenet imagenet

A command runs in an empty folder with two photographs; images, evaluations, epochs and methods are few, nothing else
of it is changed. What needs data that was not given, another machine or another environment is left out, and named.
Archives of a few images of each class will do. The exit code is 1 where anything failed.
"""

from __future__ import annotations

import argparse
import glob
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from . import pages

EXTRAS = "sweeps,notebooks"
OTHERS = "pytest", "equinox"  # which a page speaks of
PRELUDE = """import functools
from evomask import presets
presets.evomask = functools.partial(presets.evomask, 400)
"""  # so that Python that leaves the configuration to evomask is quick
LIMIT = 1800  # seconds for a command
SAMPLES = pages.ROOT / "evomask" / "samples"
TEMPLATE = pages.ROOT / "evomask" / "template" / "README.md"

SMALL = {
    "explain": ("budget=300", "preset.showings=16", "preset.draws=20", "preset.draws_apart=2"),
    "benchmark": ("data.num=1", "budget=400", "cut_steps=5", "auc_steps=5", "fidelity_subsets=5"),
    "speed": ("budget=400", "matching=200", "pairs=1", "rise=100", "naps=200", "batches=[1]"),
    "train": ("recipe.epochs=1",),
    **dict.fromkeys(("tables", "figures", "report"), ("mark=true",)),  # for of the methods only two were run
}
SIZES = {"stream": 2, "slide": 600}  # images, pixels on a side
DATA = {
    "imagenette": ("imagenette", "imagenette2-320.tgz", "imagenette2-320"),
    "caltech101": ("caltech101", "101_ObjectCategories"),
    "imagenet": ("data=imagenet", "trust_imagenet", "complete_area_imagenet", "data.path=imagenet"),
    "cifar10": ("cifar-10-python.tar.gz", "data.path=x"),
}
LEFT_OUT = {
    "NAME": "stands for a name",
    "VERB": "stands for a program",
    "launcher=slurm": "needs a cluster",
    "method=rex": "needs the environment of ReX",
    "foolbox": "needs the photographs of foolbox",
    "tools.convert_lite": "needs a file that is not shipped",
    "runs=[forward,frameworks]": "needs other frameworks",
    "model=efficientnet_lite1": "needs a file that is not shipped",
}


OWN = ("+experiment=mine", "+experiment=my_research")
RESULTS = {"tables", "figures", "report", "status"}  # what they show is made by a benchmark before


class Outcome(NamedTuple):
    page: str
    command: str
    said: str
    failed: bool = False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.tools.run_pages", description=__doc__.split("\n")[0])
    parser.add_argument("page", nargs="*", help="such as README.md; all of them where none is given")
    parser.add_argument("--here", action="store_true", help="in this environment, instead of one that is made for it")
    parser.add_argument("--commands", action="store_true", help="neither Python nor notebooks, which the tests run")
    for name in DATA:
        parser.add_argument(f"--{name}", type=pathlib.Path, help="where it is, for the commands that need it")
    chosen = parser.parse_args(arguments)
    wanted = [pages.ROOT / page for page in chosen.page] or pages.PAGES
    data = {name: path.resolve() for name in DATA if (path := getattr(chosen, name)) is not None}
    with tempfile.TemporaryDirectory(prefix="evomask-pages-") as made:
        folder = pathlib.Path(made)
        binaries = pathlib.Path(sys.executable).parent if chosen.here else environment(folder / "venv")
        outcomes = []
        for page in wanted:
            work = folder / str(page.relative_to(pages.ROOT)).replace("/", "-")  # no page finds what another has left
            for outcome in run(page, prepared(work, data), binaries, data, chosen.commands):
                Console().print(f"{outcome.page}: {outcome.command}: {outcome.said}", markup=False, highlight=False)
                outcomes.append(outcome)
    Console().print(table(outcomes))
    return int(any(outcome.failed for outcome in outcomes))


def environment(folder: pathlib.Path) -> pathlib.Path:
    """A fresh environment with evomask from its wheel; the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    binaries, wheels = folder / "bin", folder / "wheels"
    pip = [str(binaries / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, pages.ROOT], check=True)
    [wheel] = wheels.glob("evomask-*.whl")
    bound = ["-c", pages.ROOT / "constraints.txt"]
    subprocess.run([*pip, "install", f"evomask[{EXTRAS}] @ {wheel.as_uri()}", *OTHERS, *bound], check=True)
    return binaries


def prepared(folder: pathlib.Path, data: dict[str, pathlib.Path]) -> pathlib.Path:
    """The folder in which a reader works: photographs of the names that the pages use, and the data that is there."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    photographs = sorted(SAMPLES.glob("*.jpg"))
    for name, photograph in zip(("photo.jpg", "my.jpg", "photos/one.jpg"), [*photographs, *photographs]):
        shutil.copy(photograph, folder / name)
    for name, path in data.items():
        for word in DATA[name]:
            if not (folder / word).exists() and "=" not in word and word != name:
                (folder / word).symlink_to(path)
    return folder


def run(
    page: pathlib.Path,
    folder: pathlib.Path,
    binaries: pathlib.Path,
    data: dict[str, pathlib.Path],
    only_commands: bool = False,
) -> Iterator[Outcome]:
    """What becomes of each command of a page and, if asked for, of its Python."""
    name = str(page.relative_to(pages.ROOT))
    if page == TEMPLATE:  # speaks to who is in the folder that it comes with
        yield _tried(name, "evomask new my_research", [binaries / "evomask", "new", "my_research"], folder)
        folder = prepared(folder / "my_research", data)
    for line in dict.fromkeys(pages.printed(page)):
        argv = pages.words(line)
        if argv and (pages.verb_of(argv) or argv[:2] == ["python", "-m"]):
            shown = " ".join(argv)
            where = folder
            if "mutation=jitter" in argv and page != TEMPLATE:  # a part of the reader's own, from the page on operators
                where = folder / "mine"
                if not where.exists():
                    yield _tried(name, "evomask new mine", [binaries / "evomask", "new", "mine"], folder)
                    prepared(where, data)
            why = left_out(argv, data, where)
            yield Outcome(name, shown, why) if why else _tried(name, shown, told(argv, where, binaries, data), where)
    if only_commands:
        return
    if page.parent.name == "notebooks":
        copy = shutil.copytree(page.parent, folder / "notebooks", dirs_exist_ok=True) / page.name
        argv = [binaries / "python", "-m", "experiments.tools.notebooks", copy]
        yield _tried(name, "the notebook", argv, folder)
    elif blocks := pages.python(page):
        (folder / "blocks.py").write_text(PRELUDE + blocks)
        yield _tried(name, "the Python", [binaries / "python", "blocks.py"], folder)


def left_out(argv: Sequence[str], data: dict[str, pathlib.Path], folder: pathlib.Path) -> str:
    """Why a command is not run; empty if it is."""
    named = [word.removeprefix("experiment=") for word in argv if word.startswith("experiment=")]
    runs = (folder / "out" / "benchmark").joinpath(*named)
    if RESULTS & {*argv, *(word.rpartition(".")[2] for word in argv)} and not runs.exists():
        return "left out: needs the runs of a command that was left out"
    line = " ".join(argv)
    for part, why in LEFT_OUT.items():
        if part in line:
            return f"left out: {why}"
    needed = _needed(line)
    return f"left out: needs --{needed}" if needed is not None and needed not in data else ""


def told(argv: list[str], folder: pathlib.Path, binaries: pathlib.Path, data: dict[str, pathlib.Path]) -> list:
    """What is run for a command: that of the environment, at a small size."""
    if (found := pages.verb_of(argv)) is None:
        return [binaries / "python", *argv[1:]]
    verb, rest = found
    needed = _needed(" ".join(argv))
    rest = [word.replace("data.path=x", f"data.path={data.get(needed or '')}") for word in rest]
    rest = [word.replace("evomask/samples", str(SAMPLES)) for word in rest]
    rest = [each for word in rest for each in (sorted(glob.glob(word, root_dir=folder)) if "*" in word else [word])]
    rest = [re.sub(r"^(stream|slide)=.*", lambda found: f"{found[1]}=[{SIZES[found[1]]}]", word) for word in rest]
    small = [] if any(word.startswith("--") for word in rest) else list(SMALL.get(verb, ()))
    if any(word.startswith("+experiment=") and word not in OWN for word in rest) and "method=" not in " ".join(rest):
        small.append("method=evomask,gradcam")
    if verb == "train" and "recipe=digits" in rest:
        small = ()
    if argv[0] == "python":
        return [binaries / "python", "-m", argv[2], *rest, *small]
    return [binaries / "evomask", *([verb] if verb in argv[1:2] else []), *rest, *small]


def _needed(line: str) -> str | None:
    """The data that a command needs, which is not shipped."""
    if "data=samples" in line:
        return None
    return next((name for name, words in DATA.items() if any(word in line for word in words)), None)


def _tried(page: str, shown: str, argv: Sequence[str | pathlib.Path], folder: pathlib.Path) -> Outcome:
    """Runs a command in a folder, and says how long it took, or what it said at last where it failed."""
    folder.mkdir(exist_ok=True)
    settings = {**os.environ, "PYTHONPATH": str(pages.ROOT), "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
    if "experiments" not in " ".join(map(str, argv)):
        settings.pop("PYTHONPATH")  # what is installed must do
    began = time.perf_counter()
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(
        [str(word) for word in argv], cwd=folder, env=settings, start_new_session=True, **options
    ) as it:
        try:
            said, _ = it.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(it.pid, signal.SIGKILL)  # and the processes that it has started
            return Outcome(page, shown, f"FAILED: not over after {LIMIT} s", failed=True)
    if it.returncode:
        last = "\n".join(said.strip().splitlines()[-12:])
        return Outcome(page, shown, f"FAILED with exit code {it.returncode}:\n{last}", failed=True)
    return Outcome(page, shown, f"{time.perf_counter() - began:.0f} s")


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each page: how many of its commands ran, failed, and were left out."""
    shown = Table("page", "ran", "failed", "left out")
    for page in dict.fromkeys(outcome.page for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.page == page]
        failed, out = sum(one.failed for one in own), sum(one.said.startswith("left out") for one in own)
        shown.add_row(page, str(len(own) - failed - out), str(failed), str(out))
    return shown


if __name__ == "__main__":
    sys.exit(main())
