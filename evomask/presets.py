"""Recipes: complete configurations, by the name of what they reproduce.

`evomask`, the default, asks for masks that hold; `smallest` for the smallest in one exact showing; `dissertation` is
the published algorithm. All take a budget of evaluations (images sent through the classifier) and what is demanded of a
mask: "complete", "sufficient" or "necessary". Every part of a `Config` can be exchanged with its `replace`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from evomask import operators as ops
from evomask.perturbations import SHIPPED
from evomask.search import fitness as fitness_lib
from evomask.search.config import Config, with_budget
from evomask.search.evolve import Operators
from evomask.search.scoring import GoodMasks
from evomask.search.stages import Stage
from evomask.search.surrogate import Caution, Screening


def dissertation(budget: int | None = None, demand: str = "complete") -> Config:
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
    options = {"demand": demand, "score_inside_only": True}
    return build(stages, operators, fitness_lib.published(), budget=budget, **options)


def smallest(budget: int | None = 2000, demand: str = "complete") -> Config:
    """The smallest masks that are sufficient and necessary in one exact showing of the picture.

    They measure how fragile a network is: most no longer do so where the picture is moved by a pixel. It asks for
    no margin beyond what rounding moves.

    The first two stages trade area against what a mask still lacks, at a price that rises fiftyfold, so that they close
    in on small complete masks from both sides; the fine stage thins and trims the mask that they found, by the strict
    rule.
    The middle stage also begins with larger masks than the gross one ended with: small ones hardly grow again. A stage
    finds little after some sixty generations, but more with new founders, so a larger budget is spent in cycles.
    """
    stages = _closing_in({"gross": 33, "middle": 32, "fine": 16})
    options = {"demand": demand, "scoring": GoodMasks(), "windows": 10}
    return build(stages, _operators(Screening()), fitness_lib.smallest_complete(), budget=budget, **options)


def evomask(budget: int | None = 4000, demand: str = "complete") -> Config:
    """The smallest masks that hold: sufficient and necessary however slightly the picture is shown anew. The default.

    It searches as `smallest` does, but sees each mask in a showing of its own (`evomask.perturbations`), and lets masks
    compete by what the surrogate believes of them, with a caution that follows how often the best one fails. The fine
    stage is the longest, and is not confined to what the others found: there a mask grows until it holds. At last masks
    of several sizes race in fresh showings (`evomask.racing`), and the winner is judged in others still
    (`Explanation.precision`).

    Its masks are few pieces that a person can point at: a boundary costs, and no patch gets smaller than the smallest
    that is drawn. That leaves them less freedom to fit single showings, so they are smaller as well.
    """
    stages = _closing_in({"gross": 33, "middle": 32, "fine": 63}, confines=False, least=0.03)
    stages["fine"] = dataclasses.replace(stages["fine"], patience=12)
    operators = _operators(Screening(noise=0.1, caution=Caution()))
    options = {"demand": demand, "perturbation": SHIPPED["local"], "slack": 0.3, "scoring": GoodMasks(), "windows": 10}
    return build(stages, operators, fitness_lib.smallest_in_few_pieces(), budget=budget, **options)


def _closing_in(generations: Mapping[str, int], **options) -> dict[str, Stage]:
    """The stages of `smallest`, with so many generations."""
    sizes = {"population": 12, "genes": 32, "offspring": 16, "inverses": 8, "longest": 60, **options}
    coarse, bracket = (0.03, 0.06, 0.12), ops.Bracket(0.6)
    kinds = {
        "gross": {"radii": coarse, "penalty": (0.2, 1.4)},
        "middle": {"radii": coarse, "penalty": (1.4, 10.0), "founders": bracket},
        "fine": {"radii": (0.03, 0.06), "founders": bracket},
    }
    return {name: Stage(name, generations=generations[name], **kind, **sizes) for name, kind in kinds.items()}


def _operators(screening: Screening) -> Operators:
    moves = (ops.Replace(), ops.Move(0.25, 0.5), ops.Resize(0.1, 0.4, 0.5), ops.Add(0.5), ops.Drop(0.5), ops.Split())
    mutation = ops.Mixture(moves, (1.0, 1.0, 2.0, 1.0, 2.0, 0.5), 0.5)
    return Operators(ops.Tournament(2), ops.Uniform(0.5), mutation, ops.Plus(), screening)


__all__ = ["PRESETS", "build", "dissertation", "evomask", "smallest", "with_budget"]

PRESETS = {"evomask": evomask, "smallest": smallest, "dissertation": dissertation}


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
