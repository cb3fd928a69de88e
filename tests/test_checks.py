"""Operators of one's own: plain functions are taken; what returns something else is named before anything compiles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import evomask
from evomask import fills, operators, presets, validate
from evomask.baselines import RISE
from evomask.search import fitness
from evomask.search.config import Config
from evomask.types import InputError, record
from experiments.shared.compiling import compile_seconds

SHAPE = (8, 8)
CONFIG = Config(
    stages=(evomask.Stage("only", population=4, genes=2, radii=(1, 2), generations=4, offspring=6),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)


def same(key, genome, space):
    return genome


def as_floats(key, genome, space):
    return genome.astype(jnp.float32)


def small(evaluation, target):
    return -evaluation.area


@record
class Mean:
    needs_inverse = needs_features = False

    def __call__(self, evaluation, target):
        return -evaluation.area.mean()


def terms(*parts):
    return dict(fitness=fitness.Fitness(parts, (1.0,) * len(parts)))


BAD = {
    "dtype": (
        dict(mutation=as_floats),
        r"the mutation as_floats returns float32\[2, 3\]: it must return int32\[2, 3\]",
    ),
    "in a mixture": (
        dict(mutation=operators.Mixture([operators.Replace(), as_floats], [1.0, 1.0])),
        r"the mutation as_floats returns float32",
    ),
    "nothing": (dict(mutation=lambda key, genome, space: None), "the mutation <lambda> returns nothing"),
    "arguments": (dict(mutation=lambda key, genome: genome), r"the mutation <lambda> fails \(TypeError: .*\)"),
    "one child": (dict(crossover=lambda key, a, b: a), r"returns int32\[2, 3\]: it must return int32\[2, 2, 3\]"),
    "individuals": (
        dict(survival=lambda fitness, num: fitness[:num]),
        r"survival .* returns float32\[4\]: .* int32\[4\]",
    ),
    "too many": (
        dict(selection=lambda key, fitness, num: jnp.argsort(fitness)),
        r"int32\[4\]: it must return int32\[6\]",
    ),
    "founders": (
        dict(founders=lambda key, space, num, genes, best: best),
        r"founders rule .* must return int32\[6, 2, 3\]",
    ),
    "scoring": (
        dict(scoring=lambda *args: jnp.zeros(3)),
        r"scoring rule .* float32\[3\]: it must return float32\[8, 8\]",
    ),
    "term": (terms(Mean()), r"the fitness term Mean returns float32\[\]: it must return float32\[6\]"),
    "flags": (
        terms(small),
        "the fitness term small does not say whether it looks at .*: give it needs_.* = True or False",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_part_that_does_not_fit_is_named_before_anything_compiles(bad):
    parts, message = BAD[bad]
    fits = lambda key, fitness, num: jnp.zeros(num, jnp.int32)
    validate.configuration(CONFIG.replace(selection=fits), SHAPE)  # what JAX does once in a process
    with compile_seconds() as compiled, pytest.raises(InputError, match=message) as caught:
        validate.configuration(CONFIG.replace(**parts), SHAPE)
    assert not compiled and "\n" not in str(caught.value)


def test_a_fill_that_does_not_fit_is_named():
    grey = lambda key, image: image[..., 0]
    with pytest.raises(InputError, match=r"the fill .* returns float32\[8, 8\]: it must return float32\[8, 8, 3\]"):
        evomask.explain(oracles.constant(), np.ones((1, 8, 8, 3)), key=0, config=CONFIG.replace(fill=grey))


def test_plain_functions_stand_for_operators_everywhere():
    """The same masks, bit for bit, as the records that they are taken from."""
    area = lambda evaluation, target: -evaluation.area
    area.needs_inverse = area.needs_features = False
    parts = dict(
        selection=functools.partial(operators.tournament, size=2),
        crossover=lambda key, a, b: operators.uniform(key, a, b, 0.5),
        mutation=lambda key, genome, space: operators.replace(key, genome, space),
        survival=operators.plus,
        founders=lambda key, space, num, genes, best: operators.scatter(key, space, num, genes),
        fill=lambda key, image: jnp.zeros_like(image),
        fitness=fitness.Fitness([area], [1.0], CONFIG.fitness.constraints),
    )
    classifier, image = oracles.BoxOracle(), oracles.lit((2, 4, 4, 4), 8, 8)[None]
    found, plain = (
        evomask.explain(classifier, image, key=3, config=config) for config in (CONFIG, CONFIG.replace(**parts))
    )
    np.testing.assert_array_equal(found.mask, plain.mask)
    np.testing.assert_array_equal(found.score, plain.score)
    assert found.complete[0]


def test_a_baseline_takes_a_plain_function_as_its_fill():
    classifier, image = oracles.BoxOracle(), oracles.lit((2, 4, 4, 4), 8, 8)[None]
    black = lambda key, image: jnp.zeros_like(image)
    first, second = (RISE(fill=fill)(classifier, image, [1], key=0, budget=8) for fill in (black, fills.Constant(0.0)))
    np.testing.assert_array_equal(first, second)


# ------------------------------------------------------------------------------------------------------ Config.replace


@pytest.mark.parametrize("budget", [960, 2000, np.int64(8000)])
def test_the_budget_is_applied_last(budget):
    three = (fills.Constant(0.0), fills.Mean(), fills.Blur())
    config = presets.smallest(2000).replace(fill=three, budget=budget)
    assert config.fills == three and budget / 2 < config.evaluations <= budget
    assert presets.smallest(2000).replace(fill=three).evaluations > 5000  # who names no budget pays what it costs


def test_parts_go_where_they_stand():
    config = presets.smallest().replace(mutation=operators.Replace(), genes=5, confidence_ratio=0.8, screening=None)
    assert config.operators.mutation == operators.Replace() and config.operators.screening is None
    assert [stage.genes for stage in config.stages] == [5, 5, 5] and config.confidence_ratio == 0.8
    assert config.operators.crossover == presets.smallest().operators.crossover
    assert presets.smallest().replace() == presets.smallest() != config


def test_a_part_that_there_is_not():
    with pytest.raises(InputError, match="has no part 'mutatoin': did you mean mutation"):
        presets.smallest().replace(mutatoin=operators.Replace())
    with pytest.raises(InputError, match="has no part 'x': give one of batch_size, "):
        presets.smallest().replace(x=1)


def test_lists_are_tuples():
    listed = presets.smallest().replace(fill=[fills.Constant(0.0)], stages=list(presets.smallest().stages))
    assert listed == presets.smallest().replace(fill=(fills.Constant(0.0),)) and hash(listed)
    assert jax.tree.structure(fitness.Fitness([small], [1.0])) == jax.tree.structure(fitness.Fitness((small,), (1.0,)))
