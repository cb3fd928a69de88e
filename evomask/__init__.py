"""evomask: which pixels did an image classifier decide on? Binary masks, evolved by one compiled JAX program."""

from evomask import presets
from evomask.certificate import certify, make_minimal
from evomask.classifiers import BlackBox, as_classifier, load
from evomask.config import Config
from evomask.evolve import Operators
from evomask.explain import explain, precompile
from evomask.refine import Stage
from evomask.several import several
from evomask.stability import across_seeds
from evomask.stream import explain_stream
from evomask.types import Classifier, Evaluation, Explanation, History, InputError, Status, Target, record, static

__all__ = [
    "BlackBox", "Classifier", "Config", "Evaluation", "Explanation", "History", "InputError", "Operators", "Stage",
    "Status", "Target", "across_seeds", "as_classifier", "certify", "explain", "explain_stream", "load",
    "make_minimal", "precompile", "presets", "record", "several", "static",
]
