"""The command `evomask`: explains photographs, and runs every other program, in a clone as where it was installed.

What is no verb is passed on to `evomask explain`, and what follows a verb to its program: `evomask photo.jpg seed=1`.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import evomask
from evomask.settings import collect_rarely
from evomask.types import InputError


class Verb(NamedTuple):
    """What can be done; `extra`: what has to be installed for it beside evomask."""

    words: str
    extra: str | None = None


VERBS = {
    "explain": Verb("photographs: which pixels did the network decide on?"),
    "shards": Verb("of pictures by the million, a table for each: tar or parquet files", "benchmark"),
    "train": Verb("a network, to be explained with model=trained"),
    "benchmark": Verb("methods on image sets, and sweeps over anything", "benchmark"),
    "tables": Verb("of an experiment that the benchmark ran", "benchmark"),
    "figures": Verb("of it", "benchmark"),
    "report": Verb("about it, as one HTML page", "benchmark"),
    "status": Verb("of its runs, while they run", "benchmark"),
    "optimality": Verb("how far is the search from the best mask?", "benchmark"),
    "labels": Verb("what a network calls its classes: evomask labels find=retriever"),
    "speed": Verb("what does an explanation cost, beside its rivals?"),
    "new": Verb("folder for parts of your own, with one of every kind to begin with: evomask new my_research"),
    "doctor": Verb("versions, devices, caches, extras: what is here, and what to install"),
}
HELP = """\
Which pixels did an image classifier decide on?

  evomask photo.jpg            explains a photograph; results go to out/photo
  evomask 'photos/*.jpg' demand=sufficient seeds=5
  evomask VERB key=value ...   runs a program; evomask VERB --help names its keys

{verbs}

Parts of your own: ./conf, laid out as evomask's, and modules in this folder are found without further words.
evomask --version"""
# Hydra's flags that are followed by a value, which is then no photograph.
WITH_VALUE = ("--cfg", "-c", "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--info", "-i",
              "--package", "-p", "--experimental-rerun")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the command line (or `argv`) asks and returns the exit code: 2 for what it cannot read."""
    collect_rarely()
    argv = list(sys.argv[1:] if argv is None else argv)
    first = argv[0] if argv else "--help"
    if first in ("--help", "-h", "help", "--version"):
        print(f"evomask {evomask.__version__}" if first == "--version" else usage())
        return 0
    if first in VERBS:
        return run(first, argv[1:])
    if not first.replace("_", "").isalpha() or os.path.lexists(first):  # key=value, a flag, photo.jpg, photos/*.jpg
        return run("explain", argv)
    near = difflib.get_close_matches(first, VERBS, 1)
    print(
        f"error: {first!r} is neither a verb nor a file: "
        + (f"did you mean evomask {near[0]}?" if near else f"choose from {', '.join(VERBS)}, or give a photograph"),
        file=sys.stderr,
    )
    return 2


def usage() -> str:
    """The short help."""
    return HELP.format(verbs="\n".join(f"  {name:<12} {verb.words}" for name, verb in VERBS.items()))


def run(verb: str, argv: Sequence[str]) -> int:
    """Runs a program, if what it needs is installed."""
    from evomask import doctor, new  # what is here is asked for only now, as the programs

    if verb in ("doctor", "new"):
        own = doctor if verb == "doctor" else new
        if {"--help", "-h"} & {*argv}:
            print(own.__doc__)
            return 0
        return own.main(argv)
    extra = VERBS[verb].extra
    for name in doctor.missing(extra) if extra else ():
        print(f"error: evomask {verb} needs {name}: pip install 'evomask[{extra}]'", file=sys.stderr)
        return 2
    if os.getcwd() not in sys.path:  # a script has its own folder there; parts of the user's are in this one
        sys.path.append(os.getcwd())
    try:
        program = importlib.import_module(f"{programs()}.{verb}")
    except InputError as error:  # about what it finds in ./conf
        print(f"error: {error}", file=sys.stderr)
        return 2
    return program.main(photographs(argv) if verb == "explain" else list(argv))


def programs() -> str:
    """The package of the programs: within this one where it is installed, beside it in a clone."""
    here = Path(__file__).parent
    if (here / "experiments").is_dir():
        return "evomask.experiments"
    if str(here.parent) not in sys.path:
        sys.path.insert(0, str(here.parent))
    return "experiments"


def photographs(argv: Sequence[str]) -> list[str]:
    """Bare words as values of `image`, wherever they stand.

    >>> photographs(["a.jpg", "seed=1", "--config-dir", "mine", "b c.jpg", "--cfg", "job"])
    ['image=a.jpg', 'seed=1', '--config-dir', 'mine', 'image=b c.jpg', '--cfg', 'job']
    """
    pairs = zip(["", *argv], argv)
    return [f"image={each}" if _bare(each) and before not in WITH_VALUE else each for before, each in pairs]


def _bare(argument: str) -> bool:
    return bool(argument) and (os.path.lexists(argument) or argument[0] not in "-~+" and "=" not in argument)
