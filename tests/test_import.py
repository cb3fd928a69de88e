"""Importing evomask is cheap, and changes nothing that others share."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LOOK = """
import json, logging, os, sys, time, warnings
import jax
HEAVY = ("flax", "matplotlib", "optax", "orbax", "pandas", "PIL", "rich", "scipy")

def loggers():
    known = {"root": logging.root, **logging.root.manager.loggerDict}
    return {
        name: [log.level, log.disabled, log.propagate, len(log.handlers), len(log.filters)]
        for name, log in known.items() if isinstance(log, logging.Logger)
    }

def state():
    return {
        "environment": dict(os.environ), "loggers": loggers(), "warnings": len(warnings.filters),
        "options": {name: repr(value) for name, value in jax.config.values.items()},
    }

before, start = state(), time.process_time()
IMPORTS
taken, after = time.process_time() - start, state()
new = {name: log for name, log in after["loggers"].items() if name not in before["loggers"]}
after["loggers"] = {name: after["loggers"][name] for name in before["loggers"]}
print(json.dumps(dict(
    changed=[name for name in before if before[name] != after[name]],
    new=[name for name, log in new.items() if log[0] or log[1]],
    heavy=[name for name in HEAVY if name in sys.modules],
    backends=sorted(jax._src.xla_bridge._backends), seconds=taken,
)))
"""


def look(imports: str) -> dict:
    """What a fresh process says of itself after these imports."""
    command = [sys.executable, "-c", LOOK.replace("IMPORTS", imports)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def test_import_costs_a_tenth_of_a_second_more_than_jax():
    seen = look("import evomask")
    assert seen["seconds"] < 0.1
    assert seen | {"seconds": 0} == {"changed": [], "new": [], "heavy": [], "backends": [], "seconds": 0}


def test_public_names_import_nothing_heavy():
    seen = look("import evomask\nfor name in evomask.__all__: getattr(evomask, name)")
    assert (seen["heavy"], seen["backends"], seen["changed"], seen["new"]) == ([], [], [], [])


@pytest.mark.parametrize(
    "imports",
    [
        "import evomask\nfor name in dir(evomask): getattr(evomask, name)",
        "import experiments.explain, experiments.benchmark, experiments.figures, experiments.train",
    ],
)
def test_every_module_leaves_the_process_as_it_was(imports):
    seen = look(imports)
    assert (seen["changed"], seen["new"], seen["backends"]) == ([], [], [])
