"""evomask: which pixels did an image classifier decide on? Binary masks, evolved by one compiled JAX program.

Everything here is imported when it is first asked for, so that `import evomask` costs little more than `import jax`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomask import presets
    from evomask.certificate import certify, make_minimal
    from evomask.classifiers import BlackBox, as_classifier, load
    from evomask.classifiers.frameworks import from_huggingface, from_keras, from_onnx, from_torch
    from evomask.classifiers.outputs import from_function
    from evomask.explaining import explain, precompile
    from evomask.holding import precision, smallest_that_holds
    from evomask.niches import several
    from evomask.search.config import Config
    from evomask.search.evolve import Operators
    from evomask.search.stages import Stage
    from evomask.slides import explain_slide
    from evomask.stability import across_seeds
    from evomask.stream import explain_stream
    from evomask.types import Classifier, Evaluation, Explanation, History, InputError, Status, Target, record, static

__version__ = "0.1.0"

__all__ = [
    "BlackBox",
    "Classifier",
    "Config",
    "Evaluation",
    "Explanation",
    "History",
    "InputError",
    "Operators",
    "Stage",
    "Status",
    "Target",
    "across_seeds",
    "as_classifier",
    "certify",
    "explain",
    "explain_slide",
    "explain_stream",
    "from_function",
    "from_huggingface",
    "from_keras",
    "from_onnx",
    "from_torch",
    "load",
    "make_minimal",
    "precision",
    "precompile",
    "presets",
    "record",
    "several",
    "smallest_that_holds",
    "static",
]

# Where each public name lives. None of them is also the name of a module: `import evomask.x` is a module or an error.
_NAMES = {
    "evomask.certificate": ("certify", "make_minimal"),
    "evomask.classifiers": ("BlackBox", "as_classifier", "load"),
    "evomask.classifiers.frameworks": ("from_huggingface", "from_keras", "from_onnx", "from_torch"),
    "evomask.classifiers.outputs": ("from_function",),
    "evomask.explaining": ("explain", "precompile"),
    "evomask.holding": ("precision", "smallest_that_holds"),
    "evomask.niches": ("several",),
    "evomask.search.config": ("Config",),
    "evomask.search.evolve": ("Operators",),
    "evomask.search.stages": ("Stage",),
    "evomask.slides": ("explain_slide",),
    "evomask.stability": ("across_seeds",),
    "evomask.stream": ("explain_stream",),
    "evomask.types": (
        "Classifier",
        "Evaluation",
        "Explanation",
        "History",
        "InputError",
        "Status",
        "Target",
        "record",
        "static",
    ),
}
_HOME = {name: home for home, names in _NAMES.items() for name in names}

# Modules by the short names under which configuration files and notebooks know them: evomask.fitness.Area.
_SHORT = {
    "data": ("images",),
    "measures": ("budget", "certainty", "metrics", "statistics", "thresholding"),
    "report": ("plots", "reasons", "records"),
    "search": ("evolve", "fitness", "front", "genome", "prune", "refine", "scoring", "sharding", "surrogate"),
}
_MODULES = {name: f"evomask.{room}.{name}" for room, names in _SHORT.items() for name in names}
_MODULES["images"] = "evomask.data.photographs"
_FLAT = (
    "baselines",
    "certificate",
    "classifiers",
    "data",
    "decisions",
    "fills",
    "holding",
    "operators",
    "perturbations",
    "presets",
    "slides",
    "testing",
    "training",
    "types",
    "verify",
)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES or name in _FLAT:
        value = importlib.import_module(_MODULES.get(name, f"evomask.{name}"))
    else:
        raise AttributeError(f"module 'evomask' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES, *_FLAT})
