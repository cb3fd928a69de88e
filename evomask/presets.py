"""Recipes: complete configurations, by the name of what they reproduce.

`dissertation` is the published algorithm, `evomask` the default. Both take a budget of evaluations (images sent through
the classifier); every part of a `Config` can be exchanged with `dataclasses.replace`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from evomask import operators as ops
from evomask.search import fitness as fitness_lib
from evomask.search.config import Config
from evomask.search.evolve import Operators
from evomask.search.refine import Stage, check_stages
from evomask.search.scoring import BestOfGeneration
from evomask.search.surrogate import Screening
from evomask.types import InputError


def dissertation(budget: int | None = None) -> Config:
    """The published algorithm: gross then fine, feature distance, one-point crossover, one gene replaced, one elite.

    Its defects are mended where they lie: parents are two different draws (`evolve.breed`), infeasible masks are ranked
    by what they lack instead of scoring -1 or being redrawn (`fitness`), one batched forward pass evaluates a
    population (`evaluate`), patches are clipped at the border (`genome`). Radii are the published pixels at 224 x 224,
    as fractions.
    """
    stages = {
        "gross": Stage("gross", population=40, genes=4, radii=(30 / 224, 35 / 224, 40 / 224), generations=10),
        "fine": Stage("fine", population=40, genes=50, radii=(5 / 224, 8 / 224, 11 / 224), generations=20),
    }
    operators = Operators(ops.Tournament(4), ops.OnePoint(), ops.Replace(), ops.Elitism(1))
    return build(stages, operators, fitness_lib.published(), budget=budget, score_inside_only=True)


def evomask(budget: int | None = 2000) -> Config:
    """Small masks that are sufficient and necessary: the default.

    The first two stages trade area against what a mask still lacks, at a price that rises fiftyfold, so that they close
    in on small complete masks from both sides; the fine stage thins and trims the mask that they found, by the strict
    rule.
    The middle stage also begins with larger masks than the gross one ended with: small ones hardly grow again. A stage
    finds little after some sixty generations, but more with new founders, so a larger budget is spent in cycles.
    """
    sizes = {"population": 12, "genes": 32, "offspring": 16, "inverses": 8, "longest": 60}
    bracket = ops.Bracket(0.6)
    stages = {
        "gross": Stage("gross", radii=(0.03, 0.06, 0.12), generations=33, penalty=(0.2, 1.4), **sizes),
        "middle": Stage(
            "middle", radii=(0.03, 0.06, 0.12), generations=32, founders=bracket, penalty=(1.4, 10.0), **sizes
        ),
        "fine": Stage("fine", radii=(0.03, 0.06), generations=16, founders=bracket, **sizes),
    }
    moves = (ops.Replace(), ops.Move(0.25, 0.5), ops.Resize(0.1, 0.4, 0.5), ops.Add(0.5), ops.Drop(0.5), ops.Split())
    mutation = ops.Mixture(moves, (1.0, 1.0, 2.0, 1.0, 2.0, 0.5), 0.5)
    operators = Operators(ops.Tournament(2), ops.Uniform(0.5), mutation, ops.Plus(), Screening())
    return build(
        stages, operators, fitness_lib.smallest_complete(), budget=budget, scoring=BestOfGeneration(infeasible=0.0)
    )


PRESETS = {"evomask": evomask, "dissertation": dissertation}


def build(
    stages: Mapping[str, Stage],
    operators: Operators,
    fitness: fitness_lib.Fitness,
    *,
    budget: int | None = None,
    **options,
) -> Config:
    """A configuration from named stages, in order; with a budget, their generations are scaled to what it allows."""
    config = Config(tuple(stages.values()), operators, fitness, **options)
    return config if budget is None else with_budget(config, budget)


def with_budget(config: Config, budget: int) -> Config:
    """The same configuration with its generations scaled, stage by stage in proportion, to spend at most `budget`.

    No cycle gets more generations than the stage's `longest`: the first stage, which could only begin from nothing
    again, ends there, and the others run in several equal cycles instead. The last stage gets all that is left.

    Raises:
      InputError: the budget does not pay for the founders and one generation of every stage.

    >>> with_budget(evomask(), 960).evaluations
    960
    >>> [(stage.cycles, stage.generations) for stage in evomask(8000).stages]
    [(1, 60), (3, 42), (3, 46)]
    """
    check_stages(config.stages)
    prices = [config.generation_cost(stage) for stage in config.stages]
    least = 2 * sum(prices)
    if not isinstance(budget, int):
        raise InputError(f"budget is {budget!r}: give a whole number of evaluations")
    if budget < least:
        raise InputError(
            f"budget {budget} is less than one generation of every stage and its founders, {least}: give more"
        )
    share, left, stages = budget / config.evaluations, budget, []
    for index, (stage, price) in enumerate(zip(config.stages, prices)):
        later = 2 * sum(prices[index + 1 :])
        wanted = min(share * price * stage.rounds, left - later) if later else left
        is_capped = stage.longest is not None and index == 0 and later > 0
        stage = _with_rounds(stage, max(int(wanted // price), 2), is_capped)
        left -= stage.rounds * price
        stages.append(stage)
    return dataclasses.replace(config, stages=tuple(stages))


def _with_rounds(stage: Stage, rounds: int, is_capped: bool) -> Stage:
    """The stage with at most so many `rounds`, in cycles that are no longer than `longest` or, `is_capped`, as many as
    it has.
    """
    cycles = min(stage.cycles, rounds // 2)
    if stage.longest is not None:
        most = stage.longest + 1
        rounds = min(rounds, cycles * most) if is_capped else rounds
        cycles = max(cycles, -(-rounds // most))
    return dataclasses.replace(stage, generations=rounds // cycles - 1, cycles=cycles)
