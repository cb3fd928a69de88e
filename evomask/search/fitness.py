"""From an evaluation to a fitness: weighted terms to maximise, and constraints that come before all of them.

Constraints are compared, not added (Deb 2000): a feasible mask beats an infeasible one, feasible masks are ranked by
their objective and infeasible ones by how far they are from feasible. That mends two defects of the published code,
where -1 stood for infeasible although a feasible mask can score lower, and where the whole population was redrawn,
without limit, while nobody was feasible.

A term is `(Evaluation, Target) -> f32[P]`, larger is better. A constraint is `(Evaluation, Target) -> f32[P]`, zero
where it holds and otherwise how much is missing. Both say by `needs_inverse` and `needs_features` what must be
evaluated.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol

import jax.numpy as jnp

from evomask.search.checks import says
from evomask.types import SLACK, Array, Evaluation, Target, check_demand, record, set_tuples


class Term(Protocol):
    """A part of the objective, or a constraint."""

    needs_inverse: ClassVar[bool]
    needs_features: ClassVar[bool]

    def __call__(self, evaluation: Evaluation, target: Target) -> Array: ...


class _MaskedOnly:
    needs_inverse: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False


class _WithInverse(_MaskedOnly):
    needs_inverse: ClassVar[bool] = True


@record
class Confidence(_MaskedOnly):
    """Probability of the class for the masked image, in [0, 1]."""

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        return evaluation.confidence


@record
class Area(_MaskedOnly):
    """Minus the fraction of pixels kept, in [-1, 0]."""

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        return -evaluation.area


@record
class Boundary(_MaskedOnly):
    """Minus the length of the mask's boundary, the picture's own border being 1: few pieces, without holes.

    A person can point at these, and they have less freedom to fit one showing (total variation, as in Fong & Vedaldi
    2017).
    """

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        return -evaluation.boundary


@record
class FeatureDistance(_MaskedOnly):
    """Minus the mean squared distance between features of the whole and the masked image: the published fitness."""

    needs_features: ClassVar[bool] = True

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        return -evaluation.distance


@record
class Necessity(_WithInverse):
    """One minus the probability of the class for the inverse-masked image (negative reinforcement), in [0, 1]."""

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        return 1.0 - evaluation.inverse_confidence


@record
class KeepsClass(_MaskedOnly):
    """The masked image has the class: its margin (in nats) is positive."""

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        return jnp.maximum(target.slack - evaluation.margin, 0.0)


@record
class KeepsConfidence(_MaskedOnly):
    """The masked image keeps the target's ratio of the whole image's confidence; what is missing is in nats."""

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        wanted = jnp.log(target.ratio * target.confidence) + SLACK
        # A ratio of one asks for what the whole image has, and no more.
        wanted = jnp.minimum(wanted, jnp.log(target.confidence))
        return jnp.maximum(wanted - jnp.log(evaluation.confidence), 0.0)


@record
class LosesClass(_WithInverse):
    """The inverse-masked image loses the class: its margin (in nats) is negative (negative reinforcement)."""

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        return jnp.maximum(target.slack + evaluation.inverse_margin, 0.0)


@record
class Wish:
    """A constraint as a term: minus what is missing of it. It is met where that costs the rest of the objective
    little.
    """

    constraint: Term

    @property
    def needs_inverse(self) -> bool:
        return says(self.constraint, "needs_inverse")

    @property
    def needs_features(self) -> bool:
        return says(self.constraint, "needs_features")

    def __call__(self, evaluation: Evaluation, target: Target) -> Array:
        return -self.constraint(evaluation, target)


@record
class Fitness:
    """The weighted sum of `terms`, subject to `constraints`.

    >>> smallest_complete().needs_inverse
    True
    """

    terms: tuple[Term, ...]
    weights: tuple[float, ...]
    constraints: tuple[Term, ...] = ()

    def __post_init__(self):
        set_tuples(self, ("terms", "weights", "constraints"))

    def weigh(self, evaluation: Evaluation, target: Target) -> tuple[Array, Array]:
        """Objective and violation, both f32[P]."""
        return self.objective(evaluation, target), self.violation(evaluation, target)

    @property
    def needs_inverse(self) -> bool:
        return any(says(part, "needs_inverse") for part in (*self.terms, *self.constraints))

    @property
    def needs_features(self) -> bool:
        return any(says(part, "needs_features") for part in (*self.terms, *self.constraints))

    def objective(self, evaluation: Evaluation, target: Target) -> Array:
        """f32[P], larger is better."""
        return sum(weight * term(evaluation, target) for term, weight in zip(self.terms, self.weights, strict=True))  # pyright: ignore[reportReturnType]

    def violation(self, evaluation: Evaluation, target: Target) -> Array:
        """f32[P], zero where every constraint holds; NaN counts as infinitely far."""
        total = sum((part(evaluation, target) for part in self.constraints), jnp.zeros_like(evaluation.area))
        return jnp.where(jnp.isnan(total), jnp.inf, total)


def ranks(objective: Array, violation: Array) -> Array:
    """One fitness from objective and violation: f32[P], P - 1 for the best down to 0; ties go to the lower index.

    >>> ranks(jnp.array([9.0, 1.0, 2.0, 5.0]), jnp.array([0.1, 0.0, 0.0, 3.0]))
    Array([1., 2., 3., 0.], dtype=float32)
    """
    size = objective.shape[0]
    order = jnp.lexsort((-jnp.where(jnp.isnan(objective), -jnp.inf, objective), violation))
    places = jnp.zeros(size, jnp.int32).at[order].set(jnp.arange(size, dtype=jnp.int32))
    return (size - 1 - places).astype(jnp.float32)


def penalized(objective: Array, violation: Array, penalty: Array | float) -> Array:
    """Ranks by the objective minus a penalty times the violation, instead of by feasibility.

    Small masks that nearly hold then live beside large ones that do, and a search whose penalty rises closes in on the
    boundary from both sides, where the feasibility rule alone creeps down from the largest feasible masks.

    >>> penalized(jnp.array([-0.9, -0.1]), jnp.array([0.0, 2.0]), penalty=0.1)
    Array([0., 1.], dtype=float32)
    """
    return ranks(objective - penalty * violation, jnp.zeros_like(violation))


def smallest_complete() -> Fitness:
    """The smallest mask that keeps class and confidence and whose inverse loses the class."""
    return Fitness((Area(),), (1.0,), (KeepsClass(), KeepsConfidence(), LosesClass()))


def smallest_in_few_pieces(boundary: float = 0.02) -> Fitness:
    """The same, where the mask's boundary costs as well: the default of evomask.

    At 0.02 a patch of radius 0.03 that stands alone costs a quarter more than its area, and a quarter of the picture in
    one square 4 % more.
    """
    return dataclasses.replace(smallest_complete(), terms=(Area(), Boundary()), weights=(1.0, boundary))


def demanded(fitness: Fitness, demand: str, wish: float = 0.0) -> Fitness:
    """The same fitness with those of its constraints that belong to what is demanded of a mask.

    Constraints on the inverse-masked image make it necessary, the others sufficient. Those that are not demanded are
    wished for, at `wish` per unit missing; at 0 they are left out, and then the inverse may not have to be evaluated.
    Where none of them belongs to what is demanded, all stay as they are: without any, the empty mask would do.

    >>> fitness = demanded(smallest_complete(), "sufficient", wish=0.02)
    >>> fitness.terms, fitness.constraints
    ((Area(), Wish(constraint=LosesClass())), (KeepsClass(), KeepsConfidence()))
    >>> demanded(smallest_complete(), "necessary").constraints
    (LosesClass(),)
    """
    if check_demand(demand) == "complete":
        return fitness
    belongs = [says(part, "needs_inverse") == (demand == "necessary") for part in fitness.constraints]
    if not any(belongs):
        return fitness
    pairs = list(zip(fitness.constraints, belongs, strict=True))
    wishes = tuple(Wish(part) for part, does in pairs if not does and wish)
    constraints = tuple(part for part, does in pairs if does)
    return Fitness(fitness.terms + wishes, fitness.weights + (wish,) * len(wishes), constraints)


def published() -> Fitness:
    """The dissertation's fitness: close in features, class kept, and lost by the inverse (negative reinforcement)."""
    return Fitness((FeatureDistance(),), (1.0,), (KeepsClass(), LosesClass()))
