"""The stages of a search, and what of them is planned on the host before anything is computed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from evomask.search import genome
from evomask.search.operators import Scatter
from evomask.types import Genome, InputError, Key, record, static

Founding = Callable[[Key, genome.Space, int, int, Genome], Genome]  # see `evomask.operators.founding`


@record
class Stage:
    """One level of the search.

    Radii are pixels (8) or fractions of the shorter side (0.05). `generations` come after the founders, so that a cycle
    evaluates (generations + 1) * offspring masks. A stage of several `cycles` begins anew that often: each has founders
    of its own, inside the mask that the one before it found, and its penalty rises again from the first to the last
    value. For `penalty` see `evolve.standing`, for `inverses` `evolve.hopeful`, for `longest` `presets.with_budget`.

    A stage with `patience` is over as soon as its champion, feasible now and that many generations ago and at most half
    of the image, has lost less than 2 % of its area since (looked at as often, and at the end of a cycle): what the
    rest would cost is not spent.
    """

    name: str = static()
    population: int = static()
    genes: int = static()
    radii: tuple[float, ...] = static()
    generations: int = static()
    offspring: int | None = static(default=None)  # None: as many as the population
    inverses: int | None = static(
        default=None
    )  # offspring whose inverse is evaluated, where the fitness asks; None: all
    founders: Founding = Scatter()
    penalty: tuple[float, float] | None = None  # first and last; None: feasible before infeasible throughout
    cycles: int = static(default=1)
    longest: int | None = static(default=None)  # generations of a cycle that a budget does not exceed; None: any number
    confines: bool = static(default=True)  # whether what comes later searches inside of its mask only
    patience: int | None = static(default=None)  # generations without progress that end the stage; None: none do
    least: float = static(default=0)  # the smallest radius that mutation leaves a patch with

    @property
    def num_offspring(self) -> int:
        return self.population if self.offspring is None else self.offspring

    @property
    def num_inverses(self) -> int:
        return self.num_offspring if self.inverses is None else self.inverses

    @property
    def rounds(self) -> int:
        """Generations in all cycles, founders included."""
        return self.cycles * (self.generations + 1)


def check_stages(stages: Sequence[Stage]) -> None:
    """Raises InputError unless there are stages, and their sizes are whole numbers that make sense."""
    if not stages:
        raise InputError("the configuration has no stages: give at least one evomask.Stage")
    for stage in stages:
        for name in ("population", "genes", "num_offspring", "num_inverses", "generations", "cycles"):
            value = getattr(stage, name)
            if not isinstance(value, int) or value < 1:
                name = name.removeprefix("num_")
                raise InputError(f"stage {stage.name!r}: {name} is {value!r}: give a whole number of 1 or more")
        if stage.longest is not None and (not isinstance(stage.longest, int) or stage.longest < 1):
            raise InputError(
                f"stage {stage.name!r}: longest is {stage.longest!r}: give a whole number of 1 or more, or None"
            )
        if stage.patience is not None and (not isinstance(stage.patience, int) or stage.patience < 1):
            raise InputError(
                f"stage {stage.name!r}: patience is {stage.patience!r}: give a whole number of 1 or more, or None"
            )
        if stage.num_inverses > stage.num_offspring:
            raise InputError(
                f"stage {stage.name!r}: inverses is {stage.inverses}, but there are {stage.num_offspring} offspring: "
                "give at most as many"
            )
        if stage.penalty is not None and not (len(stage.penalty) == 2 and min(stage.penalty) > 0):
            raise InputError(f"stage {stage.name!r}: penalty is {stage.penalty}: give two positive numbers, or None")


class Size(NamedTuple):
    """What is compiled of a stage: those that share it share a program."""

    population: int
    genes: int
    offspring: int
    inverses: int | None


class Plan(NamedTuple):
    """What one cycle has of its own, among those of stages of one size."""

    number: np.ndarray  # int32[], of all cycles
    stage: np.ndarray  # int32[], of the stages of this size
    begins: np.ndarray  # bool[], the first cycle of its stage
    generations: np.ndarray  # int32[]
    penalty: tuple[np.ndarray, np.ndarray] | None  # f32[] each; see `evolve.standing`
    radii: np.ndarray  # int32[R]
    least: np.ndarray  # int32[]
    confines: np.ndarray  # bool[]


def planned(
    stages: Sequence[Stage], shape: tuple[int, int]
) -> Iterator[tuple[Size, tuple[Stage, ...], list[list[Plan]]]]:
    """Stages of one size that follow one another, and for each of them the plans of its cycles."""
    numbers = itertools.count()
    for size, alike in itertools.groupby(stages, size_of):
        alike = tuple(alike)
        radii = [genome.scale_radii(stage.radii, shape) for stage in alike]
        most = math.lcm(*map(len, radii))
        priced = any(stage.penalty is not None for stage in alike)
        plans = []
        for index, stage in enumerate(alike):
            prices = stage.penalty or (np.nan, np.nan)
            plan = Plan(
                number=np.int32(0),
                stage=np.int32(index),
                begins=np.bool_(True),
                generations=np.int32(stage.generations),
                penalty=tuple(np.asarray(price, np.float32) for price in prices) if priced else None,
                # Repeated until all have as many, which leaves what is drawn of them as it was.
                radii=np.repeat(radii[index], most // len(radii[index])),
                least=np.int32(genome.scale_radii((stage.least,), shape)[0] if stage.least else 0),
                confines=np.bool_(stage.confines),
            )
            cycles = [plan._replace(begins=np.bool_(cycle == 0)) for cycle in range(stage.cycles)]
            plans.append([cycle._replace(number=np.int32(next(numbers))) for cycle in cycles])
        yield size, alike, plans


def size_of(stage: Stage) -> Size:
    """What is compiled of a stage."""
    return Size(stage.population, stage.genes, stage.num_offspring, stage.inverses)
