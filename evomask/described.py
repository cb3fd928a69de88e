"""What is static in a program, in words: two processes that use the same words mean the same.

It is for `evomask.executables`. Classes and functions go by their names, and are described only where a package's
version, or the digest of evomask's source, vouches for what they do.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import sys
import types
from typing import Any

import jax
import numpy as np

OURS = {__name__.partition(".")[0], "builtins", "collections", "numpy", "jax", "jaxlib"}  # their versions are known


class Indescribable(Exception):
    """Something may differ from one process to the next without its description saying so."""


def described(part: Any) -> str:
    """The static part of a program in words that another process would use of an equal one only.

    >>> described((1, "a", None, np.dtype("float32")))
    "tuple(int 1, str 'a', NoneType None, dtype float32)"
    >>> described(lambda x: x)
    Traceback (most recent call last):
    ...
    evomask.described.Indescribable: ...
    """
    kind = type(part)
    if kind in (type(None), bool, int, float, complex, str, bytes):
        return f"{kind.__name__} {part!r}"
    if isinstance(part, jax.tree_util.PyTreeDef):
        return _of_structure(part)
    if isinstance(part, np.dtype):
        return f"dtype {part}"
    if isinstance(part, type | types.FunctionType | types.BuiltinFunctionType):
        return _of_name(part)
    if isinstance(part, enum.Enum):
        return f"{_of_name(kind)}.{part.name}"
    if isinstance(part, tuple):
        return f"{_of_name(kind)}({', '.join(map(described, part))})"
    if kind is functools.partial:
        return f"partial({described((part.func, part.args, tuple(part.keywords.items())))})"
    if dataclasses.is_dataclass(part):
        values = [f"{field.name}={described(getattr(part, field.name))}" for field in dataclasses.fields(part)]
        return f"{_of_name(kind)}({', '.join(values)})"
    raise Indescribable(kind.__name__)


def _of_structure(structure: Any) -> str:
    """Of a tree of arguments: its nodes, with what is static in them."""
    if structure == jax.tree_util.tree_structure(0):
        return "*"
    kind, aux = structure.node_data()
    if kind is type(None):
        return "None"
    parts = ", ".join(map(_of_structure, structure.children()))
    names = tuple(aux) if kind is dict else aux
    return f"{_of_name(kind)}[{described(names)}]({parts})"


def _of_name(named: Any) -> str:
    """A class or function that a module of `OURS` has under the name that it goes by."""
    module, name = named.__module__ or "", named.__qualname__
    if module.partition(".")[0] not in OURS:
        raise Indescribable(f"{module}.{name}")
    found: Any = sys.modules[module]
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    if found is not named:
        raise Indescribable(name)
    return name if module == "builtins" else f"{module}.{name}"
