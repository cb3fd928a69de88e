"""Classifiers: the networks that ship with evomask, by name, and wrappers for anybody's own.

>>> from evomask import classifiers
>>> classifiers.load("imagenette").labels[2]
'cassette player'
"""

from __future__ import annotations

from collections.abc import Callable

from evomask.classifiers.blackbox import BlackBox
from evomask.classifiers.wrappers import (
    FlaxClassifier,
    FunctionClassifier,
    as_classifier,
    check_classifier,
    check_logits,
)
from evomask.types import Classifier, InputError

__all__ = [
    "BlackBox",
    "CLASSIFIERS",
    "FlaxClassifier",
    "FunctionClassifier",
    "as_classifier",
    "check_classifier",
    "check_logits",
    "load",
]


def _efficientnet_lite0() -> Classifier:
    from evomask.classifiers import efficientnet

    return efficientnet.efficientnet_lite0()


def _imagenette() -> Classifier:
    from evomask.classifiers import efficientnet

    return efficientnet.imagenette()


def _cifar10() -> Classifier:
    from evomask.classifiers import cnn

    return cnn.cifar10()


def _cifar10_erased() -> Classifier:
    from evomask.classifiers import cnn

    return cnn.cifar10_erased()


def _cifar10_vit() -> Classifier:
    from evomask.classifiers import vit

    return vit.cifar10_vit()


# Each entry imports what it needs when it is called, so that `import evomask` stays light.
CLASSIFIERS: dict[str, Callable[[], Classifier]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "imagenette": _imagenette,
    "cifar10": _cifar10,
    "cifar10_erased": _cifar10_erased,
    "cifar10_vit": _cifar10_vit,
}


def load(name: str) -> Classifier:
    """The shipped classifier of that name; InputError for an unknown one."""
    if name not in CLASSIFIERS:
        raise InputError(f"unknown classifier {name!r}: choose one of {', '.join(CLASSIFIERS)}")
    return CLASSIFIERS[name]()
