"""What `evomask.testing` asks of every part: all that ship pass, and each promise that is broken is named."""

import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evomask
from evomask import decisions, fills, operators, record, static, testing
from evomask.baselines import BASELINES
from evomask.search import fitness

TERMS = [fitness.Confidence(), fitness.Area(), fitness.Boundary(), fitness.Necessity(), fitness.KeepsClass(),
         fitness.KeepsConfidence(), fitness.LosesClass(), fitness.Wish(fitness.LosesClass())]  # fmt: skip
FILLS = {**fills.SHIPPED, "drop": fills.Drop()}
REGISTRIES = {
    testing.check_selection: operators.SELECTIONS,
    testing.check_crossover: operators.CROSSOVERS,
    testing.check_mutation: {name: each for name, each in operators.MUTATIONS.items() if name != "mixture"},
    testing.check_survival: operators.SURVIVALS,
    testing.check_fill: {name: lambda each=each: each for name, each in FILLS.items()},
    testing.check_term: {type(term).__name__: lambda term=term: term for term in TERMS},
}
SHIPPED = [
    pytest.param(check, build, id=f"{check.__name__}-{name}")
    for check, registry in REGISTRIES.items()
    for name, build in registry.items()
]
ROWS = np.linspace(0.1, 0.9, 12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(("check", "build"), SHIPPED)
def test_what_ships_keeps_its_contract(check, build):
    check(build())


def test_a_mixture_keeps_the_contract_of_a_mutation():
    testing.check_mutation(operators.Mixture((operators.Replace(), operators.Drop()), (1.0, 3.0), 0.5))


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in ("lime", "shap")])
def test_a_baseline_that_ships_keeps_its_contract(name):
    testing.check_baseline(BASELINES[name]())


@pytest.mark.parametrize(
    ("decision", "outputs"),
    [
        (decisions.Between(0, 2), ROWS),
        (decisions.Label(1), ROWS),
        (decisions.Threshold(0.5), ROWS[:, 0]),
        (decisions.Similarity(np.eye(4, dtype=np.float32)), ROWS),
        (decisions.Segment(np.ones((2, 2), bool)), np.tile(ROWS[:, None, None], (1, 2, 2, 1))),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_decision_that_ships_keeps_its_contract(decision, outputs):
    testing.check_decision(decision, outputs)


def test_a_classifier_that_ships_keeps_its_contract():
    testing.check_classifier(evomask.load("cifar10"))
    testing.check_classifier(evomask.BlackBox(lambda images: images.mean((1, 2)), 3), (8, 8, 3))


@record
class Bad:
    """An operator of every kind, whose field says what is wrong with it."""

    fault: str = static()

    def __call__(self, key, genome, *_):
        return {
            "shape": lambda: genome[:2],
            "dtype": lambda: genome.astype(float),
            "outside": lambda: genome + jax.random.randint(key, (), 1, 99),
            "fixed": lambda: genome,
            "python": lambda: genome if float(genome[0, 0]) else genome,
        }[self.fault]()


@record
class Named:
    """A mutation with a field that is no number, and no part of the program."""

    way: str = "up"

    def __call__(self, key, genome, space):
        return genome.at[:, 0].set(jax.random.randint(key, genome.shape[:1], 0, 3))


class Term:
    """A fitness term that reads what it says it does not read."""

    needs_inverse: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False

    def __call__(self, seen, target):
        return seen.inverse_margin


class Together:
    """Outputs that depend on the other images."""

    def __call__(self, outputs):
        return outputs - jnp.mean(outputs)

    def alternatives(self, labels):
        return "a", "a", "b", "c"


def memory():
    """A mutation that counts its calls."""
    calls = itertools.count()
    return lambda key, genome, space: genome.at[0, 0].set(next(calls) % 2)


@pytest.mark.parametrize(
    ("check", "part", "said"),
    [
        (testing.check_mutation, Bad("shape"), r"mutation Bad returns int32\[2, 3\]: it must return int32\[5, 3\]"),
        (testing.check_mutation, Bad("dtype"), r"returns float32\[5, 3\]: it must return int32\[5, 3\]"),
        (testing.check_mutation, Bad("outside"), r"centres\), returns .* to 1?\d\d: it must stay from 0 to 60"),
        (testing.check_mutation, Bad("fixed"), "the mutation Bad returns the same for twenty keys: use the key"),
        (testing.check_mutation, Bad("python"), "the mutation Bad cannot be compiled: "),
        (testing.check_mutation, Named(), r"the mutation Named cannot be compiled: .*str"),
        (testing.check_mutation, memory(), "is another when it is "),
        (testing.check_selection, lambda key, fit, num: jnp.full(num, 6), "returns 6 to 6: it must stay from 0 to 5"),
        (testing.check_survival, lambda fitness, num: jnp.zeros(num, jnp.int32), "keeps one twice"),
        (testing.check_survival, lambda fitness, num: jnp.arange(num), r"loses the best, 3: it keeps \[0, 1, 2\]"),
        (testing.check_fill, lambda key, image: image + 1, "it must stay from 0 to 1"),
        (testing.check_term, Term(), "the fitness term Term returns NaN"),
        (testing.check_term, lambda seen, target: seen.area, "does not say whether it looks at"),
        (testing.check_classifier, lambda images: images.mean((1, 2)), "says no image_shape"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(check, part, said):
    with pytest.raises(AssertionError, match=said):
        check(part)


@pytest.mark.parametrize(
    ("part", "outputs", "said"),
    [
        (Together(), ROWS, "image 0 by itself"),
        (decisions.Label(0), np.full((3, 4), np.nan, np.float32), "what is not finite"),
    ],
)
def test_a_decision_that_breaks_a_promise(part, outputs, said):
    with pytest.raises(AssertionError, match=said):
        testing.check_decision(part, outputs)


def test_alternatives_have_names_of_their_own():
    class Same(Together):
        def __call__(self, outputs):
            return outputs

    with pytest.raises(AssertionError, match="has 4 alternatives and calls them"):
        testing.check_decision(Same(), ROWS)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (lambda *_, key, budget: np.zeros((2, 4, 4)), r"returned float64\[2, 4, 4\]: it should return scores"),
        (lambda c, x, y, *, key, budget: x.mean(-1) + np.random.default_rng().random(), "the same key once more"),
        (lambda c, x, y, *, key, budget: x.mean(-1) - x.mean(), "an image by itself"),
        (lambda c, x, y, *, key, budget: np.full(x.shape[:3], np.inf), "what is not finite"),
    ],
)  # fmt: skip
def test_a_baseline_that_breaks_a_promise(method, said):
    with pytest.raises(AssertionError, match=said):
        testing.check_baseline(method)


def test_a_baseline_cannot_spend_more_than_the_budget():
    def spends(classifier, images, labels, *, key, budget):
        for _ in range(budget + 1):
            classifier(images)

    with pytest.raises(AssertionError, match="this method needs 4 evaluations per image"):
        testing.check_baseline(spends, budget=3)
