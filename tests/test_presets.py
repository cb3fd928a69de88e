"""Budgets are kept to, and the dissertation's preset is its table."""

import dataclasses

import jax
import numpy as np
import pytest

from evomask import operators, presets
from evomask.search import fitness, genome
from evomask.search.config import Config
from evomask.search.evolve import Operators
from evomask.search.stages import Stage
from evomask.types import InputError

OPERATORS = Operators(operators.Tournament(2), operators.OnePoint(), operators.Replace(), operators.Plus())
every = pytest.mark.parametrize("name", presets.PRESETS)


def config(generations=(4, 9), population=5):
    stages = tuple(Stage(f"stage{i}", population, 3, (2,), num) for i, num in enumerate(generations))
    return Config(stages, OPERATORS, fitness.smallest_complete())


def test_dissertation_is_the_published_table():
    preset = presets.dissertation()
    gross, fine = preset.stages
    assert [(s.name, s.population, s.num_offspring, s.genes, s.generations) for s in preset.stages] == [
        ("gross", 40, 40, 4, 10),
        ("fine", 40, 40, 50, 20),
    ]
    assert genome.scale_radii(gross.radii, (224, 224)).tolist() == [30, 35, 40]
    assert genome.scale_radii(fine.radii, (224, 224)).tolist() == [5, 8, 11]
    assert preset.operators == Operators(
        operators.Tournament(4), operators.OnePoint(), operators.Replace(), operators.Elitism(1)
    )
    assert preset.fitness == fitness.published() and preset.score_inside_only
    assert preset.evaluations == (11 + 21) * 40 * 2  # every mask and its inverse
    np.testing.assert_array_equal(preset.fill(jax.random.key(0), np.ones((2, 2, 3), np.float32)), np.zeros((2, 2, 3)))


@every
@pytest.mark.parametrize("budget", [500, 1001, 2000, 4567, 8000])
def test_a_preset_spends_at_most_its_budget_and_wastes_less_than_a_generation_of_each_cycle(name, budget):
    preset = presets.PRESETS[name](budget)
    assert preset.evaluations <= budget
    last = preset.stages[-1]
    assert budget - preset.evaluations < last.cycles * preset.generation_cost(last)
    whole = presets.PRESETS[name](None)
    for scaled, stage in zip(preset.stages, whole.stages, strict=True):  # nothing but the generations has changed
        assert dataclasses.replace(scaled, generations=stage.generations, cycles=1) == stage
        assert stage.longest is None or scaled.generations <= stage.longest
        share = scaled.rounds * whole.evaluations / (stage.rounds * budget)
        assert stage.longest is not None and budget > 5000 or 0.5 < share < 1.5


def test_longer_stages_than_the_longest_run_in_cycles_but_for_the_first():
    """A generation of `config` costs 10, so its 5 + 10 generations cost 150."""
    longest = lambda *limits: dataclasses.replace(
        config(), stages=tuple(dataclasses.replace(s, longest=n) for s, n in zip(config().stages, limits, strict=True))
    )
    shapes = lambda scaled: [(stage.cycles, stage.generations) for stage in scaled.stages]
    assert shapes(presets.with_budget(longest(4, 9), 150)) == [(1, 4), (1, 9)]
    assert shapes(presets.with_budget(longest(4, 9), 300)) == [(1, 4), (3, 7)]  # 25 rounds, 8 for each cycle
    assert shapes(presets.with_budget(longest(None, 9), 300)) == [(1, 9), (2, 9)]
    assert shapes(presets.with_budget(longest(4, None), 300)) == [(1, 4), (1, 24)]
    alone = dataclasses.replace(longest(4, 9), stages=longest(4, 9).stages[:1])
    assert shapes(presets.with_budget(alone, 300)) == [(6, 4)]


def test_cycles_of_the_configuration_are_kept_where_the_budget_pays_for_them():
    cyclic = dataclasses.replace(config(), stages=tuple(dataclasses.replace(s, cycles=2) for s in config().stages))
    assert cyclic.evaluations == 300
    assert presets.with_budget(cyclic, 300) == cyclic
    assert [(s.cycles, s.generations) for s in presets.with_budget(cyclic, 70).stages] == [(1, 1), (2, 1)]


@every
def test_a_preset_declares_what_its_stages_cost(name):
    preset = presets.PRESETS[name]()
    assert preset.fitness.needs_inverse
    evolving = sum(s.cycles * (s.generations + 1) * (s.num_offspring + s.num_inverses) for s in preset.stages)
    apart = 0 if preset.perturbation is None else preset.showings + preset.race
    assert preset.evaluations == evolving + apart


@every
def test_presets_are_pytrees_with_a_hashable_structure(name):
    leaves, structure = jax.tree.flatten(presets.PRESETS[name]())
    assert leaves and all(isinstance(leaf, (int, float)) for leaf in leaves)
    assert hash(structure) == hash(jax.tree.structure(presets.PRESETS[name]()))


@pytest.mark.parametrize(
    "budget, generations",
    [(150, (4, 9)), (300, (9, 19)), (149, (3, 9)), (40, (1, 1)), (59, (1, 2)), (75, (1, 4))],
)
def test_generations_are_scaled_in_proportion(budget, generations):
    """A generation of `config` costs 10, so its 5 + 10 generations cost 150."""
    scaled = presets.with_budget(config(), budget)
    assert tuple(stage.generations for stage in scaled.stages) == generations
    assert scaled.evaluations == 10 * (sum(generations) + 2) <= budget


@pytest.mark.parametrize("budget", [39, 1])
def test_a_budget_below_one_generation_of_every_stage_is_refused(budget):
    message = f"^budget {budget} is less than one generation of every stage and its founders, 40: give more"
    with pytest.raises(InputError, match=message):
        presets.with_budget(config(), budget)


def test_stages_are_checked_before_their_budget():
    with pytest.raises(InputError, match="no stages"):
        presets.with_budget(config(()), 100)
    with pytest.raises(InputError, match="'stage0': population is 0"):
        presets.with_budget(config(population=0), 100)


def test_build_takes_stages_in_order_and_options():
    stages = {stage.name: stage for stage in config().stages}
    built = presets.build(stages, OPERATORS, fitness.smallest_complete(), budget=75, confidence_ratio=0.5)
    assert built == dataclasses.replace(presets.with_budget(config(), 75), confidence_ratio=0.5)
    assert presets.build(stages, OPERATORS, fitness.smallest_complete()) == config()
