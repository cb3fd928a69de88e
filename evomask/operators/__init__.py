"""Operators of the evolution: pure functions, and records that carry their hyper-parameters.

A selection maps (key, fitness, num) to parents, a crossover (key, a, b) to two children, a mutation
(key, genome, space) to a genome, a survival (fitness, num) to survivors. Floats are leaves of the record and can be
swept without compiling again; sizes are static. Your own operator is any callable of the same form that is a pytree.
"""

from evomask.operators.crossover import OnePoint, TwoPoint, Uniform, one_point, two_point, uniform
from evomask.operators.founding import Bracket, Inherit, Scatter, Tile, bracket, inherit, scatter, tile
from evomask.operators.mutation import (
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
from evomask.operators.selection import Rank, Tournament, Truncation, rank, tournament, truncation
from evomask.operators.survival import Elitism, Plus, elitism, plus

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
