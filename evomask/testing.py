"""The contract of every part that can be exchanged, for the tests of one's own: `check_mutation(mine.Jitter())`.

Each check tries a part on small input that it makes up, returns nothing, and raises `AssertionError` with a sentence
about the first promise that is broken. Parts are pure: the same arguments give the same result, compiled or not; what
is random comes from the key; numbers among a record's fields are arguments of the program, so that another value
compiles nothing again. Every part that ships passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask import classifiers, fills
from evomask.baselines.answers import answer
from evomask.measures.budget import Calls, Spent
from evomask.search import genome as genes
from evomask.search.checks import Plain, described, name_of, says
from evomask.types import Array, Classifier, Evaluation, InputError, Target, record, static

SHAPE = (61, 51)  # of the pictures that operators are tried on, in pixels
GENES, POPULATION = 5, 6
GENOME = np.array([[4, 4, 3], [6, 3, 1], [0, 0, genes.OFF], [60, 50, 3], [2, 7, 1]], np.int32)
OTHER = np.array([[1, 1, 1], [2, 2, genes.OFF], [3, 3, 3], [4, 4, 1], [5, 5, 3]], np.int32)
STANDING = np.array([3.0, np.nan, 1.0, 5.0, 4.0, 2.0], np.float32)  # larger is better, NaN the worst
TOLERANCE = 1e-4


def check_selection(selection: Callable) -> None:
    """(key, fitness f32[P], num) -> int32[num], who becomes a parent: numbers from 0 to P - 1.

    >>> from evomask import operators, testing
    >>> testing.check_selection(operators.Tournament(4))
    """
    found = _pure("selection", selection, "int32[7]", _key(), STANDING, 7)
    _within(f"the selection {name_of(selection)}", found, 0, POPULATION - 1)
    _random("selection", selection, _key(), STANDING, 7)


def check_crossover(crossover: Callable) -> None:
    """(key, genome int32[G, 3], genome int32[G, 3]) -> int32[2, G, 3], two children."""
    found = _pure("crossover", crossover, f"int32[2, {GENES}, 3]", _key(), GENOME, OTHER)
    _genes(f"the crossover {name_of(crossover)}", found)
    _random("crossover", crossover, _key(), GENOME, OTHER)


def check_mutation(mutation: Callable) -> None:
    """(key, genome int32[G, 3], space) -> int32[G, 3]: patches whose centres are in the picture, or that are off."""
    space = genes.space(jnp.ones(SHAPE, bool), jnp.array([1, 3]))
    found = _pure("mutation", mutation, f"int32[{GENES}, 3]", _key(), GENOME, space)
    _genes(f"the mutation {name_of(mutation)}", found)
    _random("mutation", mutation, _key(), GENOME, space)


def check_survival(survival: Callable) -> None:
    """(fitness f32[P + C], num) -> int32[num]: who stays, each at most once, and the best among them."""
    name = f"the survival {name_of(survival)}"
    for best in range(POPULATION):
        standing = np.where(np.arange(POPULATION) == best, 9.0, STANDING).astype(np.float32)
        kept = np.asarray(_pure("survival", survival, "int32[3]", standing, 3)).tolist()
        _within(name, np.array(kept), 0, POPULATION - 1)
        assert len(set(kept)) == 3, f"{name} keeps one twice: {kept}"
        assert best in kept, f"{name} loses the best, {best}: it keeps {kept}"


def check_fill(fill: Callable, shape: tuple[int, int, int] = (6, 9, 3)) -> None:
    """(key, image f32[H, W, C] in [0, 1]) -> blanks f32[H, W, C] in [0, 1], what its pixels become where blanked."""
    image = jax.random.uniform(_key(), shape)
    found = _pure("fill", fill, f"float32{list(shape)}", _key(), image)
    _within(f"the fill {name_of(fill)}", found, 0, 1)
    np.testing.assert_allclose(fills.blank(fill, _key(), image), found, atol=TOLERANCE)


def check_term(term: Callable) -> None:
    """(evaluation of P masks, target) -> f32[P], larger is better.

    Where its `needs_inverse` or `needs_features` is False, it is given NaN for what is said of these.
    """
    name, num = f"the fitness term {name_of(term)}", 4
    try:
        inverse, features = says(term, "needs_inverse"), says(term, "needs_features")
    except InputError as error:
        raise AssertionError(str(error)) from error
    rows = np.linspace(0.1, 0.9, num, dtype=np.float32)
    unknown = np.full(num, np.nan, np.float32)
    seen = Evaluation(
        area=rows,
        confidence=rows,
        margin=np.log(rows / (1 - rows)),
        inverse_confidence=rows[::-1].copy() if inverse else unknown,
        inverse_margin=-np.log(rows / (1 - rows)) if inverse else unknown,
        distance=rows if features else unknown,
        boundary=np.sqrt(rows),
    )
    layers = (jnp.ones((4, 4, 2)),) if features else None
    target = Target(jnp.ones((*SHAPE, 3)), jnp.int32(0), jnp.float32(0.9), layers)
    found = _pure("fitness term", term, f"float32[{num}]", seen, target)
    assert not np.isnan(found).any(), f"{name} returns NaN: {found}"
    alone = jax.tree.map(lambda field: field[1:2], seen)
    np.testing.assert_allclose(term(alone, target), found[1:2], atol=TOLERANCE, err_msg=f"{name}: one mask by itself")


def check_decision(decision: Any, outputs: Any, labels: tuple[str, ...] | None = None) -> None:
    """Outputs of a network for N images, 2 or more -> logits f32[N, K] of K alternatives, and `alternatives(labels)`.

    Args:
      decision: see `evomask.decisions.Decision`.
      outputs: what your network returns: an array with N rows, or a pytree of such.
      labels: what its classes are called; None: nothing.
    """
    name = f"the decision {name_of(decision)}"
    decision = decision.bind(labels) if hasattr(decision, "bind") else decision
    num = len(jax.tree.leaves(outputs)[0])
    found = _pure("decision", decision, None, outputs)
    given = described(found)
    assert found.ndim == 2 and found.dtype == jnp.float32 and found.shape[0] == num and found.shape[1] >= 2, (
        f"{name} returns {given}: it must return float32[{num}, K], K being 2 or more"
    )
    assert np.isfinite(found).all(), f"{name} returns what is not finite: {found}"
    for place in range(num):
        one = decision(jax.tree.map(lambda each, at=place: jnp.asarray(each)[at : at + 1], outputs))
        np.testing.assert_allclose(one[0], found[place], atol=TOLERANCE, err_msg=f"{name}: image {place} by itself")
    names = decision.alternatives(labels)
    if names is not None:
        assert len(names) == len(set(names)) == found.shape[1], (
            f"{name} has {found.shape[1]} alternatives and calls them {names}: give each a name of its own"
        )


def check_classifier(classifier: Classifier, shape: tuple[int, int, int] | None = None) -> None:
    """Images f32[N, H, W, C] in [0, 1] -> logits f32[N, K]; what is said of one depends on none of the others.

    Args:
      classifier: as `explain` takes it; see `as_classifier`, `BlackBox`, `decisions.decided`.
      shape: (H, W, C) of its images; None: as its `image_shape` says.
    """
    name, shape = f"the classifier {name_of(classifier)}", shape or getattr(classifier, "image_shape", None)
    assert shape is not None, f"{name} says no image_shape: give shape"
    try:
        num = classifiers.check_classifier(classifier, tuple(shape))
    except InputError as error:
        raise AssertionError(str(error)) from error
    images = jax.random.uniform(_key(), (3, *shape))
    found = _pure("classifier", classifier, f"float32[3, {num}]", images)
    assert np.isfinite(found).all(), f"{name} returns what is not finite: {found}"
    np.testing.assert_allclose(
        classifier(images[1:2]), found[1:2], atol=TOLERANCE, err_msg=f"{name}: an image by itself"
    )
    labels = getattr(classifier, "labels", None)
    assert labels is None or len(labels) == num, f"{name} has {num} classes and {len(labels or ())} labels"


def check_baseline(method: Callable, budget: int = 65) -> None:
    """(classifier, images f32[B, H, W, C], labels int[B], key=, budget=) -> scores f32[B, H, W], masks bool, or both.

    It is tried on a classifier that looks at the brightness of one square: no more evaluations than the budget, equal
    results for the same key, finite scores, and what is said of a picture depends on no other.
    """
    name, side = f"the baseline {name_of(method)}", 16
    images = np.random.default_rng(0).uniform(size=(2, side, side, 3)).astype(np.float32)
    images[:, 2:6, 8:12] = 1.0

    def ask(which: slice) -> tuple[list[np.ndarray], list[Spent]]:
        calls, shown = Calls(Square(), budget), images[which]
        made = method(calls, shown, np.ones(len(shown), np.int32), key=_key(), budget=budget)
        found = answer(name_of(method), made, shown.shape[:3])
        return [each for each in found if each is not None], calls.bill(len(shown))

    try:
        (found, spent), (again, _), (alone, _) = (ask(which) for which in (slice(None), slice(None), slice(1, 2)))
    except InputError as error:
        raise AssertionError(f"{name}: {error}") from error
    if hasattr(method, "cost"):
        declared = method.cost(images.shape[1:], budget)  # pyright: ignore
        assert declared.total <= budget, f"{name} declares {declared}, the budget being {budget}"
        assert all(one.total <= declared.total for one in spent), f"{name} spends {spent}, and declares {declared}"
    for each, other, one in zip(found, again, alone, strict=True):
        assert np.isfinite(each).all(), f"{name} returns what is not finite"
        np.testing.assert_array_equal(other, each, err_msg=f"{name}: the same key once more")
        np.testing.assert_allclose(
            one[0].astype(float), each[1].astype(float), atol=TOLERANCE, err_msg=f"{name}: an image by itself"
        )


@record
class Square:
    """Tells bright squares from dark ones; looks at 4 x 4 pixels and at nothing else."""

    gain: float = 8.0
    image_shape: tuple[int, int, int] = static(default=(16, 16, 3))

    def __call__(self, images: Array) -> Array:
        margin = self.gain * (images[:, 2:6, 8:12].mean((1, 2, 3)) - 0.5)
        return jnp.stack([-margin, margin], 1)

    def features(self, images: Array) -> tuple[Array, ...]:
        return (images,)

    def from_features(self, depth: int, feature: Array) -> Array:
        return self(feature)


def _key() -> jax.Array:
    return jax.random.key(0)  # not when this module is imported, which starts no device


def _pure(role: str, part: Callable, wanted: str | None, *args: Any) -> Any:
    """What a part returns, which is the same compiled and not, twice, and for other numbers without compiling again."""
    name, part, args = f"the {role} {name_of(part)}", Plain.in_place_of_functions(part), _arrays(args)
    traces: list[None] = []

    def call(part: Callable, *args: Any) -> Any:
        traces.append(None)
        return part(*args)

    compiled = _jitted(call, args)
    try:
        found = compiled(part, *args)
    except (TypeError, IndexError) as error:  # JAX's own are such
        raise AssertionError(f"{name} cannot be compiled: {str(error).splitlines()[0]}") from error
    assert wanted is None or described(found) == wanted, f"{name} returns {described(found)}: it must return {wanted}"
    exact = not jnp.issubdtype(found.dtype, jnp.floating)
    np.testing.assert_allclose(
        part(*args), found, rtol=0, atol=0 if exact else TOLERANCE, err_msg=f"{name} is another when it is compiled"
    )
    np.testing.assert_array_equal(compiled(part, *args), found, err_msg=f"{name} is another when it is called again")
    before = len(traces)
    compiled(jax.tree.map(lambda leaf: 0.5 * leaf + 0.1 if isinstance(leaf, float) else leaf, part), *args)
    assert len(traces) == before, f"{name} compiles again for another number among its fields"
    return found


def _random(role: str, part: Callable, key: jax.Array, *args: Any) -> None:
    """The key decides: of twenty keys not all give the same."""
    part, args = Plain.in_place_of_functions(part), _arrays((key, *args))
    call = _jitted(lambda part, *args: part(*args), args)
    found = {np.asarray(call(part, each, *args[1:])).tobytes() for each in jax.random.split(key, 20)}
    assert len(found) > 1, f"the {role} {name_of(part)} returns the same for twenty keys: use the key"


def _arrays(args: tuple) -> tuple:
    """Arguments as a search has them: arrays of JAX, and sizes as they are."""
    return tuple(arg if isinstance(arg, int) else jax.tree.map(jnp.asarray, arg) for arg in args)


def _jitted(call: Callable, args: tuple) -> Callable:
    """`call(part, *args)` compiled; the sizes among its arguments are static."""
    return jax.jit(call, static_argnums=[1 + place for place, arg in enumerate(args) if isinstance(arg, int)])


def _within(name: str, found: Any, least: float, most: float) -> None:
    low, high = np.min(found), np.max(found)
    assert least <= low and high <= most, f"{name} returns {low} to {high}: it must stay from {least} to {most}"


def _genes(name: str, found: Any) -> None:
    """Centres in the picture, half-widths of 0 or more, or `OFF`."""
    found = np.asarray(found)
    on = found[found[..., 2] != genes.OFF]
    for axis, side in enumerate(SHAPE):
        _within(f"{name}, column {axis} (centres),", on[:, axis], 0, side - 1)
    _within(f"{name}, column 2 (half-widths),", on[:, 2], 0, max(SHAPE))
