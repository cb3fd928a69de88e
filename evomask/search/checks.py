"""Operators of anybody's own: plain functions among them, and a look at what each returns before anything is compiled.

A configuration is a pytree, and a function is none: `Plain` holds it as part of the program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from evomask.search import scoring
from evomask.search.genome import Space
from evomask.search.scoring import Seen
from evomask.types import Evaluation, InputError, Target, first_line, record, static

if TYPE_CHECKING:
    from evomask.search.config import Config


@record
class Plain:
    """A plain function in the place of an operator, a term, a fill or a scoring rule; equal where the function is."""

    function: Callable = static()

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __getattr__(self, name: str) -> Any:  # the flags of a term, such as needs_inverse
        if name.startswith("needs_"):
            return getattr(self.function, name)
        raise AttributeError(name)

    @classmethod
    def in_place_of_functions(cls, tree: Any) -> Any:
        """The pytree with every leaf that can be called made part of its structure.

        >>> Plain.in_place_of_functions((0.5, abs))
        (0.5, Plain(function=<built-in function abs>))
        """
        return jax.tree.map(lambda leaf: cls(leaf) if callable(leaf) else leaf, tree)


def name_of(part: Any) -> str:
    """What a person calls an operator: its function's name, or its class's."""
    part = part.function if isinstance(part, Plain) else part
    return getattr(part, "__qualname__", None) or type(part).__name__


def operators(config: Config, shape: tuple[int, int]) -> None:
    """Refuses a configuration with a part that does not return what the search goes on with, at H x W pixels.

    Parts that ship with evomask are known to.

    Raises:
      InputError: it names the part, what it returned and what is wanted. (See `fill` for fills.)
    """
    key, space, parts = jax.random.key(0), _space(shape), config.operators
    for stage in config.stages:
        population, num, genes = stage.population, stage.num_offspring, stage.genes
        one, bred = _int(genes, 3), num * getattr(parts.screening, "candidates", 1)
        parents = 2 * -(-bred // 2)
        returns("selection", parts.selection, f"int32[{parents}]", key, _float(population), parents)
        returns("crossover", parts.crossover, f"int32[2, {genes}, 3]", key, one, one)
        returns("mutation", parts.mutation, f"int32[{genes}, 3]", key, one, space)
        returns("survival", parts.survival, f"int32[{population}]", _float(population + num), population)
        returns("founders rule", stage.founders, f"int32[{num}, {genes}, 3]", key, space, num, genes, one)
        seen, target = Evaluation(*[_float(num)] * 7), Target(_float(*shape, 3), _int(), _float())
        for term in (*config.fitness.terms, *config.fitness.constraints):
            if not says(term, "needs_features"):  # what these are only the classifier knows
                returns("fitness term", term, f"float32[{num}]", seen, target)
        best, feasible = Evaluation(*[_float()] * 7), jax.ShapeDtypeStruct((), bool)
        told = Seen(one, best, feasible, space, jax.ShapeDtypeStruct((num, *shape), bool), seen)
        sums = jax.eval_shape(lambda rule: scoring.begin(rule, shape), config.scoring)
        returns("scoring rule", config.scoring, described(sums), told)


def fill(part: Callable, shape: tuple[int, int, int]) -> None:
    """Refuses a fill that does not make blanks of images of H x W x C."""
    returns("fill", part, f"float32{list(shape)}", jax.random.key(0), _float(*shape))


def says(term: Any, flag: str) -> bool:
    """What a fitness term says of itself: without `needs_inverse` and `needs_features` nobody knows what to evaluate.

    Raises:
      InputError: it says nothing.
    """
    said = getattr(term, flag, None)
    if isinstance(said, bool):
        return said
    what = "the inverse-masked image" if flag == "needs_inverse" else "features"
    raise InputError(
        f"the fitness term {name_of(term)} does not say whether it looks at {what}: give it {flag} = True or False"
    )


def returns(role: str, part: Callable, wanted: str, *args: Any) -> None:
    """Refuses a part of the search that does not return what the search goes on with; nothing is computed.

    Args:
      role: what it is there for, such as "mutation".
      wanted: dtype and shape, such as "int32[4, 3]".
      *args: what it is called with: arrays, or `jax.ShapeDtypeStruct` for arrays, and whole numbers as they are.

    Raises:
      InputError: it fails, or returns anything else.

    >>> floats = lambda key: jax.random.uniform(key, (2,))
    >>> returns("mutation", floats, "int32[2]", jax.random.key(0))
    Traceback (most recent call last):
    ...
    evomask.types.InputError: the mutation <lambda> returns float32[2]: it must return int32[2]
    """
    fixed = tuple(arg if isinstance(arg, int) else None for arg in args)
    arrays = [arg for arg in args if not isinstance(arg, int)]
    for one in _of_others(Plain.in_place_of_functions(part)):
        name = f"the {role} {name_of(one)}"
        try:
            found = described(_call.eval_shape(fixed, one, arrays))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{name} fails ({first_line(error)}): it must return {wanted}") from error
        if found != wanted:
            raise InputError(f"{name} returns {found}: it must return {wanted}")


def _of_others(part: Any) -> list:
    """The part, unless it ships with evomask; of one that does, those that it holds (`Mixture`, `Wish`)."""
    if isinstance(part, Plain) or not type(part).__module__.startswith("evomask."):
        return [part]
    held = (
        *getattr(part, "mutations", ()),
        *(() if (inner := getattr(part, "constraint", None)) is None else (inner,)),
    )
    return [one for inner in held for one in _of_others(inner)]


@functools.partial(jax.jit, static_argnums=0)  # never run: so what was looked at once is remembered
def _call(fixed: tuple[int | None, ...], part: Callable, arrays: list) -> Any:
    """The part, called with arrays in the places where nothing is fixed."""
    rest = iter(arrays)
    return part(*(next(rest) if arg is None else arg for arg in fixed))


def _space(shape: tuple[int, int]) -> Space:
    return Space(jax.ShapeDtypeStruct(shape, bool), _float(shape[0] * shape[1]), _int(1), _int())


def _float(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, "float32")


def _int(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, "int32")


def described(found: Any) -> str:
    """What was returned, as dtype[shape].

    >>> described(jax.ShapeDtypeStruct((2, 3), "int32")), described((1, 2))
    ('int32[2, 3]', 'a tuple')
    """
    if hasattr(found, "dtype") and hasattr(found, "shape"):
        return f"{found.dtype}{list(found.shape)}"
    return "nothing" if found is None else f"a {type(found).__name__}"
