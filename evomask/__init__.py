"""evomask: which pixels did an image classifier decide on? Binary masks, evolved by one compiled JAX program."""

from evomask import presets
from evomask.classifiers import BlackBox, as_classifier, load
from evomask.config import Config
from evomask.evolve import Operators
from evomask.explain import explain, precompile
from evomask.refine import Stage
from evomask.stream import explain_stream
from evomask.types import Classifier, Evaluation, Explanation, History, InputError, Status, Target, record, static

__all__ = [
    "BlackBox", "Classifier", "Config", "Evaluation", "Explanation", "History", "InputError", "Operators", "Stage",
    "Status", "Target",
    "as_classifier", "explain", "explain_stream", "load", "precompile", "presets", "record", "static",
]
