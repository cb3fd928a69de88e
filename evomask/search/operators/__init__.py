"""Operators of the evolution: pure functions, and records that carry their hyper-parameters.

A selection maps (key, fitness, num) to parents, a crossover (key, a, b) to two children, a mutation
(key, genome, space) to a genome, a survival (fitness, num) to survivors. Floats are leaves of the record and can be
swept without compiling again; sizes are static. Your own operator is any callable of the same form that is a pytree.
"""

from evomask.search.operators.crossover import OnePoint, TwoPoint, Uniform, one_point, two_point, uniform
from evomask.search.operators.founding import Bracket, Inherit, Scatter, Tile, bracket, inherit, scatter, tile
from evomask.search.operators.mutation import (
    Add,
    Drop,
    Mixture,
    Move,
    Replace,
    Resize,
    Split,
    add,
    drop,
    move,
    replace,
    resize,
    split,
)
from evomask.search.operators.selection import Rank, Tournament, Truncation, rank, tournament, truncation
from evomask.search.operators.survival import Elitism, Plus, elitism, plus

__all__ = [
    "Add",
    "Bracket",
    "CROSSOVERS",
    "Drop",
    "Elitism",
    "FOUNDERS",
    "Inherit",
    "MUTATIONS",
    "Mixture",
    "Move",
    "OnePoint",
    "Plus",
    "Rank",
    "Replace",
    "Resize",
    "SELECTIONS",
    "SURVIVALS",
    "Scatter",
    "Split",
    "Tile",
    "Tournament",
    "Truncation",
    "TwoPoint",
    "Uniform",
    "add",
    "bracket",
    "drop",
    "elitism",
    "inherit",
    "move",
    "one_point",
    "plus",
    "rank",
    "replace",
    "resize",
    "scatter",
    "split",
    "tile",
    "tournament",
    "truncation",
    "two_point",
    "uniform",
]

FOUNDERS = {"scatter": Scatter, "tile": Tile, "inherit": Inherit, "bracket": Bracket}
SELECTIONS = {"tournament": Tournament, "rank": Rank, "truncation": Truncation}
CROSSOVERS = {"one_point": OnePoint, "two_point": TwoPoint, "uniform": Uniform}
MUTATIONS = {
    "replace": Replace,
    "move": Move,
    "resize": Resize,
    "add": Add,
    "drop": Drop,
    "split": Split,
    "mixture": Mixture,
}
SURVIVALS = {"elitism": Elitism, "plus": Plus}
