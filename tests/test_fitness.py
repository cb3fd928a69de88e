"""Deb's rule, the penalty, terms and constraints by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomask.search import fitness as fit
from evomask.types import Evaluation, Target

SIZE = 6
ranks = jax.jit(fit.ranks)
objectives = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0, math.nan, -math.inf]), min_size=SIZE, max_size=SIZE)
violations = st.lists(st.sampled_from([0.0, 0.0, 1e-6, 0.5, 2.0, math.inf]), min_size=SIZE, max_size=SIZE)

TARGET = Target(image=jnp.zeros((2, 2, 1)), label=jnp.int32(1), confidence=jnp.float32(0.8))
EVALUATION = Evaluation(
    area=jnp.array([0.1, 0.5, 1.0]),
    confidence=jnp.array([0.9, 0.36, 0.72]),
    margin=jnp.array([2.0, -0.5, 0.0]),
    inverse_confidence=jnp.array([0.1, 0.7, 0.5]),
    inverse_margin=jnp.array([-2.0, 0.5, 0.0]),
    distance=jnp.array([0.0, 4.0, 0.25]),
    boundary=jnp.array([0.4, 1.2, 0.0]),
)


@given(objectives, violations)
def test_ranks_are_debs_rule(objective, violation):
    found = np.asarray(ranks(jnp.array(objective, jnp.float32), jnp.array(violation, jnp.float32)))
    assert sorted(found) == list(range(SIZE))  # a permutation
    key = lambda i: (violation[i], math.inf if math.isnan(objective[i]) else -objective[i], i)
    expected = sorted(range(SIZE), key=key)
    np.testing.assert_array_equal(np.argsort(-found), expected)
    feasible = np.array(violation) == 0
    if feasible.any() and not feasible.all():
        assert found[feasible].min() > found[~feasible].max()


@given(objectives, st.permutations(range(SIZE)))
def test_nan_is_last_among_equals_and_order_does_not_matter(objective, order):
    objective = np.array(objective, np.float32)
    objective[np.isinf(objective)] = -1.0
    objective += np.arange(SIZE, dtype=np.float32) / 100  # no ties
    zeros = jnp.zeros(SIZE)
    found = np.asarray(ranks(jnp.asarray(objective), zeros))
    isnan = np.isnan(objective)
    if isnan.any() and not isnan.all():
        assert found[isnan].max() < found[~isnan].min()
    shuffled = np.asarray(ranks(jnp.asarray(objective[list(order)]), zeros))
    np.testing.assert_array_equal(shuffled[~isnan[list(order)]], found[list(order)][~isnan[list(order)]])


def test_terms():
    for term, expected in [
        (fit.Confidence(), [0.9, 0.36, 0.72]),
        (fit.Area(), [-0.1, -0.5, -1.0]),
        (fit.FeatureDistance(), [0.0, -4.0, -0.25]),
        (fit.Necessity(), [0.9, 0.3, 0.5]),
        (fit.Boundary(), [-0.4, -1.2, 0.0]),
    ]:
        np.testing.assert_allclose(term(EVALUATION, TARGET), expected, rtol=1e-6, err_msg=repr(term))


def test_a_boundary_costs_beside_the_area():
    fitness = fit.smallest_in_few_pieces(0.5)
    assert fitness.constraints == fit.smallest_complete().constraints
    np.testing.assert_allclose(fitness.objective(EVALUATION, TARGET), [-0.3, -1.1, -1.0], rtol=1e-6)


def test_constraints_are_zero_where_they_hold_and_otherwise_what_is_missing():
    slack = fit.SLACK
    np.testing.assert_allclose(fit.KeepsClass()(EVALUATION, TARGET), [0, 0.5 + slack, slack], rtol=1e-6)
    np.testing.assert_allclose(fit.LosesClass()(EVALUATION, TARGET), [0, 0.5 + slack, slack], rtol=1e-6)
    # 0.9 * 0.8 = 0.72 is wanted: 0.36 is half of it, and 0.72 lacks the slack only.
    found = fit.KeepsConfidence()(EVALUATION, TARGET)
    np.testing.assert_allclose(found, [0, math.log(2) + slack, slack], atol=2e-6)


def test_a_ratio_of_one_asks_for_no_more_than_the_whole_image_has():
    kept = dataclasses.replace(EVALUATION, confidence=jnp.array([0.8, 0.79, 1.0]))
    found = fit.KeepsConfidence()(kept, dataclasses.replace(TARGET, ratio=1.0))
    np.testing.assert_allclose(found, [0, math.log(0.8 / 0.79), 0], atol=1e-6)
    assert float(found[0]) == 0


def test_a_ratio_of_zero_asks_for_nothing():
    np.testing.assert_array_equal(fit.KeepsConfidence()(EVALUATION, dataclasses.replace(TARGET, ratio=0.0)), [0, 0, 0])


def test_fitness_is_the_weighted_sum_under_the_feasibility_rule():
    fitness = fit.Fitness((fit.Confidence(), fit.Area()), (2.0, 0.5), (fit.KeepsClass(), fit.LosesClass()))
    objective, violation = fitness.weigh(EVALUATION, TARGET)
    np.testing.assert_allclose(objective, [1.75, 0.47, 0.94], rtol=1e-6)
    np.testing.assert_allclose(violation, [0, 1 + 2 * fit.SLACK, 2 * fit.SLACK], rtol=1e-6)
    np.testing.assert_array_equal(fit.ranks(objective, violation), [2, 0, 1])


def test_nan_counts_as_infinitely_far_from_feasible():
    broken = dataclasses.replace(EVALUATION, margin=jnp.array([jnp.nan, -0.5, 1.0]))
    fitness = fit.Fitness((fit.Confidence(),), (1.0,), (fit.KeepsClass(),))
    np.testing.assert_allclose(fitness.violation(broken, TARGET), [np.inf, 0.5 + fit.SLACK, 0], rtol=1e-6)
    np.testing.assert_array_equal(fit.ranks(*fitness.weigh(broken, TARGET)), [0, 1, 2])


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_a_penalty_trades_objective_against_violation(penalty):
    """The first breaks the constraint, but its objective is 0.5 better: they tie at a violation of 0.5 / penalty."""
    order = lambda violation: fit.penalized(jnp.array([0.75, 0.25]), jnp.array([violation, 0.0]), penalty).tolist()
    assert order(0.99 * 0.5 / penalty) == [1, 0]
    assert order(1.01 * 0.5 / penalty) == [0, 1]


def test_a_penalty_never_prefers_what_cannot_be_evaluated():
    objective, violation = jnp.array([9.0, -1.0, jnp.nan, 0.0]), jnp.array([jnp.inf, 100.0, 0.0, 50.0])
    np.testing.assert_array_equal(fit.penalized(objective, violation, 1e-3)[1::2], [2, 3])


@pytest.mark.parametrize(
    "terms, constraints, inverse, features",
    [
        ((fit.Area(),), (fit.KeepsClass(), fit.KeepsConfidence()), False, False),
        ((fit.Necessity(),), (), True, False),
        ((fit.Area(),), (fit.LosesClass(),), True, False),
        ((fit.FeatureDistance(),), (), False, True),
    ],
)
def test_a_fitness_asks_for_what_its_parts_need(terms, constraints, inverse, features):
    fitness = fit.Fitness(terms, (1.0,) * len(terms), constraints)
    assert (fitness.needs_inverse, fitness.needs_features) == (inverse, features)


def test_recipes():
    smallest, published = fit.smallest_complete(), fit.published()
    target = dataclasses.replace(TARGET, ratio=0.7)
    assert (smallest.needs_inverse, smallest.needs_features) == (True, False)
    assert (published.needs_inverse, published.needs_features) == (True, True)
    np.testing.assert_allclose(smallest.objective(EVALUATION, TARGET), [-0.1, -0.5, -1.0])
    np.testing.assert_allclose(published.objective(EVALUATION, TARGET), [0, -4, -0.25])
    # 0.7 * 0.8 = 0.56 is wanted of the second.
    missing = 2 * (0.5 + fit.SLACK) + math.log(0.56 / 0.36) + fit.SLACK
    np.testing.assert_allclose(smallest.violation(EVALUATION, target), [0, missing, 2 * fit.SLACK], rtol=1e-5)
    np.testing.assert_allclose(
        published.violation(EVALUATION, TARGET), [0, 1 + 2 * fit.SLACK, 2 * fit.SLACK], rtol=1e-5
    )


def test_weights_are_leaves():
    fitness = fit.Fitness((fit.Area(),), (2.0,), (fit.KeepsConfidence(),))
    assert jax.tree.leaves(fitness) == [2.0]


def test_as_many_weights_as_terms():
    with pytest.raises(ValueError, match="zip"):
        fit.Fitness((fit.Area(),), (1.0, 2.0)).objective(EVALUATION, TARGET)
