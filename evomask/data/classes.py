"""Classes by name: from what a person writes, or calls a folder, to the index of a class.

There is one way for all: a name in full counts first, as it is written (a number that is a name, too); then a folder of
ImageNet (`n01440764`) is the class of that WordNet id; then capitals and underscores do not count.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomask.data.pictures import DataError, printable
from evomask.types import InputError

IMAGENET_LABELS = Path(__file__).parent.parent / "classifiers" / "weights" / "imagenet_labels.txt"
IMAGENET_WNIDS = IMAGENET_LABELS.with_name("imagenet_wnids.txt")
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FEW = 20  # classes that fit into one line


@functools.cache
def lines(path: Path) -> tuple[str, ...]:
    """The lines of a list that ships with the package."""
    return tuple(path.read_text(encoding="utf-8").splitlines())


@functools.cache
def _wordnet() -> dict[str, str]:
    return dict(zip(lines(IMAGENET_WNIDS), lines(IMAGENET_LABELS), strict=True))


def class_names(folders: Sequence[str]) -> tuple[str, ...]:
    """What the folders of a tree are called; those of ImageNet's WordNet ids get the names of its classes.

    Raises:
      DataError: two folders are one class.

    >>> class_names(["n01440764", "dragonfly"])
    ('tench', 'dragonfly')
    """
    names = tuple(printable(_wordnet().get(folder, folder)) for folder in folders)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        both = [folder for folder, name in zip(folders, names) if name == twice]
        raise DataError(f"the folders {both[0]!r} and {both[1]!r} are both the class {twice!r}: merge them")
    return names


def as_names(labels: Any) -> tuple[str, ...]:
    """The names of a classifier's classes as text; a number becomes its own name.

    Raises:
      InputError: not a list, or one that holds something else, such as the truth values that YAML makes of yes and no.

    >>> as_names(["cat", 3])
    ('cat', '3')
    >>> as_names([True, False])
    Traceback (most recent call last):
    evomask.types.InputError: labels[0] is True (bool), which is no name: write it in quotes, labels=['yes','no']
    """
    if isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Iterable):
        raise InputError(f"labels is {labels!r}: give a list of names, one for each class in the order of the logits")
    labels = list(labels)
    for index, label in enumerate(labels):
        if isinstance(label, bool) or not isinstance(label, str | int | np.integer):
            raise InputError(
                f"labels[{index}] is {label!r} ({type(label).__name__}), which is no name: write it in quotes, "
                "labels=['yes','no']"
            )
    return tuple(printable(str(label)) for label in labels)


def called(written: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """For each name that was written, the indices of the classes that are called so; see the top of this file.

    >>> called(["cardigan", "n02963159", "CARDIGAN", "2"], ["Cardigan", "cardigan", "2", "two"])
    [[1], [1], [0, 1], [2]]
    """
    named = lambda name: _wordnet().get(name, name)
    ways = (str, named, lambda name: named(name).casefold().replace("_", " ").strip())  # pyright: ignore[reportOptionalMemberAccess]
    tables: list[dict[str, list[int]]] = [{} for _ in ways]
    for way, table in zip(ways, tables):
        for index, name in enumerate(names):
            table.setdefault(way(str(name)), []).append(index)
    return [next((t[way(name)] for way, t in zip(ways, tables) if way(name) in t), []) for name in written]


def class_index(label: Any, names: Sequence[str], key: str = "label") -> int | None:
    """The class meant by a name, an index, or a part of a name that no other class has (None: none is asked for).

    Raises:
      InputError: no class is meant, or several are; `key` is what the message calls the label.

    >>> class_index("TABBY", ["tabby", "Egyptian cat"]), class_index("egypt", ["tabby", "Egyptian cat"])
    (0, 1)
    >>> class_index("1", ["3", "1", "2"]), class_index("0", ["3", "1", "2"])
    (1, 0)
    >>> class_index("tiger", ["tiger cat", "tiger shark"])
    Traceback (most recent call last):
    evomask.types.InputError: label 'tiger' fits several classes: choose from 0 tiger cat, 1 tiger shark
    >>> class_index("taby", ["tabby", "Egyptian cat"])
    Traceback (most recent call last):
    evomask.types.InputError: no class is called 'taby'; near: 0 tabby; or give an index from 0 to 1
    >>> class_index("elephant", ["tabby", "Egyptian cat"])
    Traceback (most recent call last):
    evomask.types.InputError: no class is called 'elephant'; choose from 0 tabby, 1 Egyptian cat
    """
    if label is None:
        return None
    text, last = str(label).strip(), len(names) - 1
    (hits,) = called([text], names)
    if not hits and re.fullmatch("[+-]?[0-9]+", text):
        if not 0 <= int(text) <= last:
            raise InputError(f"{key} {label} is out of range: give an index from 0 to {last}, or a name")
        return int(text)
    hits = hits or [index for index, name in enumerate(names) if text and text.casefold() in str(name).casefold()]
    if len(hits) == 1:
        return hits[0]
    listed = lambda indices: ", ".join(f"{index} {names[index]}" for index in indices)
    if hits:
        more = ", ..." if hits[10:] else ""
        raise InputError(f"{key} {label!r} fits several classes: choose from {listed(hits[:10])}{more}")
    lower = [str(name).casefold() for name in names]
    near = [lower.index(name) for name in difflib.get_close_matches(text.casefold(), lower)]
    if not near and last < FEW:
        raise InputError(f"no class is called {label!r}; choose from {listed(range(last + 1))}")
    near_text = f"near: {listed(near)}; or " if near else ""
    raise InputError(f"no class is called {label!r}; {near_text}give an index from 0 to {last}")


def class_indices(written: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """int32[N]: the class of each name, in full; what a tree of folders needs, where a guess would be a wrong label.

    Raises:
      InputError: a name is no class, or several.

    >>> class_indices(["dog", "Cat"], ["cat", "dog"]).tolist()
    [1, 0]
    """
    found = called(written, names)
    unknown = [name for name, hits in zip(written, found) if not hits]
    if unknown:
        raise InputError(
            f"the classifier knows no class {unknown[0]!r} ({len(unknown)} of {len(written)} classes): "
            "set target=predicted to explain what it predicts, or choose another model=... or data=..."
        )
    several = next(((name, hits) for name, hits in zip(written, found) if len(hits) > 1), None)
    if several:
        listed = ", ".join(f"{index} {names[index]}" for index in several[1])
        raise InputError(f"the class {several[0]!r} may be any of {listed}: call it as the classifier does")
    return np.array([hits[0] for hits in found], np.int32)
