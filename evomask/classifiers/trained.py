"""Networks in files that `evomask train` wrote.

A file says itself which network it holds, by the names of its tensors; so `load` takes what any recipe makes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import safetensors
from flax import traverse_util

from evomask.classifiers import cnn, efficientnet, storage, vit
from evomask.data import pictures
from evomask.types import Classifier, InputError


def load(path: str | Path) -> Classifier:
    """The network in a file that `evomask train` wrote, whichever it is, for computation in single precision.

    Raises:
      InputError: the file is missing, damaged, or holds a network of another kind.

    >>> type(load(cnn.FOLDER / "cifar10.safetensors")).__name__
    'CNN'
    """
    path = pictures.located(path)
    if path.is_dir():
        raise InputError(f"'{path}' is a folder: give the .safetensors file in it")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            names = set(file.keys())
    except FileNotFoundError as error:
        raise InputError(f"no weights at '{path}': train them with evomask train") from error
    except safetensors.SafetensorError as error:
        raise InputError(f"'{path}' is damaged or holds no network ({error}): get it again") from error
    if "stem" in names:
        return cnn.load(path)
    if "embed.kernel" in names:
        return vit.load(path)
    if "stem.kernel" in names:
        return load_lite0(path)
    raise InputError(f"'{path}' holds no network that evomask train writes: for one of your own see model=custom")


def save_lite0(classifier: efficientnet.EfficientNetLiteClassifier, path: str | Path) -> None:
    """Writes a fine-tuned EfficientNet-Lite0 in half precision, with its labels and its crop in the header."""
    tensors = traverse_util.flatten_dict(classifier.params, sep=".")
    storage.write(path, tensors, labels=classifier.labels, crop=classifier.crop)


def load_lite0(path: str | Path) -> efficientnet.EfficientNetLiteClassifier:
    """The network in a file that `save_lite0` wrote, for computation in single precision.

    Raises:
      InputError: the file is missing, damaged, or holds something else.
    """
    with storage.reading(path, "evomask.training.save_lite0") as (tensors, header):
        labels, crop = tuple(json.loads(header["labels"])), float(json.loads(header.get("crop", "1.0")))
    params = traverse_util.unflatten_dict(tensors, sep=".")
    return dataclasses.replace(efficientnet.efficientnet_lite0(), params=params, labels=labels, crop=crop)
