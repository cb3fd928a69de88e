"""Records: frozen dataclasses that are pytrees as well, of which everything that passes between the layers is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

T = TypeVar("T")


def set_tuples(node: Any, names: Sequence[str]) -> None:
    """For `__post_init__` of a record: lists in the named fields become tuples, which have a hash."""
    for name in names:
        if isinstance(getattr(node, name), list):
            object.__setattr__(node, name, tuple(getattr(node, name)))


def static(default: Any = dataclasses.MISSING) -> Any:
    """A field that belongs to the shape of the program: a change of it compiles again."""
    return dataclasses.field(default=default, metadata={"static": True})


# `static` is no field specifier: a type checker would want its default by keyword.
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[T]) -> type[T]:
    """A frozen dataclass that is also a JAX pytree; mark static fields with `static()`.

    Two records are equal where their class and all that they hold are. One that holds arrays equals only itself, since
    arrays have no truth value of being equal and no hash; so `jax.jit` of a network works.

    >>> @record
    ... class Rate:
    ...     rate: float
    ...     size: int = static(default=2)
    >>> jax.tree.leaves(Rate(0.5))
    [0.5]
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fixed = tuple(field.name for field in dataclasses.fields(cls) if field.metadata.get("static"))
    leaves = tuple(field.name for field in dataclasses.fields(cls) if field.name not in fixed)

    def flatten(node):
        return tuple(getattr(node, name) for name in leaves), tuple(getattr(node, name) for name in fixed)

    def flatten_with_keys(node):
        children, aux = flatten(node)
        return tuple(zip(map(jax.tree_util.GetAttrKey, leaves), children, strict=True)), aux

    def unflatten(aux, children):
        return cls(**dict(zip(leaves + fixed, (*children, *aux), strict=True)))

    def contents(node):
        """Leaves and structure; None where an array is among the leaves."""
        values, structure = jax.tree.flatten(node)
        has_arrays = any(isinstance(value, (jax.Array, np.ndarray)) for value in values)
        return None if has_arrays else (*values, structure)

    def equal(node, other):
        if node is other:
            return True
        if type(node) is not type(other):
            return NotImplemented
        mine = contents(node)
        return mine is not None and mine == contents(other)

    def hashed(node):
        mine = contents(node)
        return object.__hash__(node) if mine is None else hash(mine)

    cls.__eq__, cls.__hash__ = equal, hashed  # pyright: ignore[reportAttributeAccessIssue]
    # Not `register_dataclass`: its tree definitions compare equal for two classes with the same fields (jax 0.10 and
    # 0.12), so that a call of a jitted function with one operator could run the program that was compiled for another.
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
