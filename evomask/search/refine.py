"""Coarse to fine: a sequence of stages, where the best mask of one is the region of the next.

The dissertation has two, gross and fine; any number works.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evomask.search import evolve, genome
from evomask.search.evaluate import Hopeful
from evomask.search.evolve import Info, Operators, Problem
from evomask.search.fitness import Fitness
from evomask.search.front import Archive, Collect
from evomask.search.ladder import Ladder, Rungs
from evomask.search.operators import Scatter
from evomask.search.surrogate import Model
from evomask.types import Array, Evaluation, Genome, InputError, Key, Mask, Target, record, static

Founding = Callable[[Key, genome.Space, int, int, Genome], Genome]  # see `evomask.operators.founding`


@record
class Stage:
    """One level of the search.

    Radii are pixels (8) or fractions of the shorter side (0.05). `generations` come after the founders, so that a cycle
    evaluates (generations + 1) * offspring masks. A stage of several `cycles` begins anew that often: each has founders
    of its own, inside the mask that the one before it found, and its penalty rises again from the first to the last
    value. For `penalty` see `evolve.standing`, for `inverses` `evolve.hopeful`, for `longest` `presets.with_budget`.
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
        if stage.num_inverses > stage.num_offspring:
            raise InputError(
                f"stage {stage.name!r}: inverses is {stage.inverses}, but there are {stage.num_offspring} offspring: "
                "give at most as many"
            )
        if stage.penalty is not None and not (len(stage.penalty) == 2 and min(stage.penalty) > 0):
            raise InputError(f"stage {stage.name!r}: penalty is {stage.penalty}: give two positive numbers, or None")


@record
class Refined:
    """What the stages found."""

    masks: Array  # bool[S, H, W], the best mask of every stage
    genome: Array  # int32[G, 3], of the last stage
    violation: Array  # f32[S]
    score: Array  # f32[H, W], running sum of the scoring rule over all stages
    infos: tuple[Info, ...]  # one per stage, each with leading axis `Stage.rounds`
    archives: tuple[Archive | None, ...]  # one per stage
    rungs: tuple[Rungs | None, ...]  # one per stage
    breaks: Array | None = None  # bool[], where showings were drawn: whether the decision does not hold in them


@record
class Found:
    """What a cycle leaves to the next one."""

    region: Mask  # bool[H, W], where the next one searches
    mask: Mask  # bool[H, W], the best one
    champion: Genome  # int32[G, 3], of that mask
    violation: Array  # f32[]
    score: Array  # f32[H, W], running sum
    model: Model | None
    archive: Archive | None  # of this stage
    rungs: Rungs | None  # of this stage


class Plan(NamedTuple):
    """What one cycle has of its own, among those of stages of one size."""

    number: Array  # int32[], of all cycles
    stage: Array  # int32[], of the stages of this size
    begins: Array  # bool[], the first cycle of its stage
    generations: Array  # int32[]
    penalty: tuple[Array, Array] | None  # f32[] each; see `evolve.standing`
    radii: Array  # int32[R]
    least: Array  # int32[]
    confines: Array  # bool[]


def refine(
    key: Key,
    stages: Sequence[Stage],
    target: Target,
    fitness: Fitness,
    operators: Operators,
    evaluate: Callable[[Key, Mask, Hopeful | None], Evaluation],
    scoring: Callable[..., Array],
    region: Mask | None = None,
    collect: Collect | None = None,
    ladder: Ladder | None = None,
) -> Refined:
    """Runs the stages in order, each inside the mask that the one before it found, the first in `region` if there is
    one.

    Stages of one size that follow one another, and their cycles, are one scan: many of them compile as fast as one.
    """
    shape = target.image.shape[:2]
    region = jnp.ones(shape, bool) if region is None else region
    region = jax.lax.optimization_barrier(region)  # no constant, which compilers take seconds to fold
    nothing, model = jnp.full((1, 3), genome.OFF, jnp.int32), operators.screening and operators.screening.init()
    found = Found(region, region, nothing, jnp.float32(0.0), jnp.zeros(shape), model, None, None)
    before, ends, infos = 0, [], []
    for _, alike in itertools.groupby(stages, _size):
        alike = tuple(alike)
        archive = None if collect is None else collect.init(shape)
        rungs = None if ladder is None else ladder.init(shape, alike[0].genes)
        parts = (evaluate, scoring, collect, alike[0].inverses, ladder)

        def cycle(found: Found, plan: Plan, alike=alike, fresh=(archive, rungs), parts=parts):
            found = _begun(found, plan, *fresh)
            space = genome.space(found.region, plan.radii, least=plan.least)
            problem = Problem(target, space, fitness, plan.penalty, *parts)
            found, info = _cycle(jax.random.fold_in(key, plan.number), alike, plan, found, problem, operators)
            return found, (dataclasses.replace(found, score=None, model=None), info)

        champion = genome.resize(found.champion, alike[0].genes)
        found = dataclasses.replace(found, champion=champion, archive=archive, rungs=rungs)
        found, (ended, info) = jax.lax.scan(cycle, found, _plans(alike, before, shape))
        last = np.cumsum([stage.cycles for stage in alike]) - 1
        before += int(last[-1]) + 1
        ends += [jax.tree.map(lambda x, at=at: x[at], ended) for at in last]
        infos += _by_stage(info, alike)
    masks, violations = (jnp.stack([getattr(end, name) for end in ends]) for name in ("mask", "violation"))
    archives, rungs = tuple(end.archive for end in ends), tuple(end.rungs for end in ends)
    return Refined(masks, found.champion, violations, found.score, tuple(infos), archives, rungs)


def _size(stage: Stage) -> tuple[int | None, ...]:
    """Stages that share it share a program."""
    return stage.population, stage.genes, stage.num_offspring, stage.inverses


def _plans(stages: Sequence[Stage], before: int, shape: tuple[int, int]) -> Plan:
    """The plans of all cycles of stages of one size, leading axis C, after so many cycles."""
    of_stage = np.repeat(np.arange(len(stages)), [stage.cycles for stage in stages])
    each = lambda values, dtype: jnp.asarray(np.asarray(values, dtype)[of_stage])
    penalty = None
    if any(stage.penalty is not None for stage in stages):
        prices = zip(*[stage.penalty or (jnp.nan, jnp.nan) for stage in stages])
        penalty = tuple(jnp.stack([jnp.asarray(price, jnp.float32) for price in of])[of_stage] for of in prices)
    # Repeated until all have as many, which leaves what is drawn of them as it was.
    radii = [genome.scale_radii(stage.radii, shape) for stage in stages]
    most = math.lcm(*map(len, radii))
    return Plan(
        number=jnp.arange(before, before + len(of_stage)),
        stage=jnp.asarray(of_stage),
        begins=jnp.asarray(np.diff(of_stage, prepend=-1) > 0),
        generations=each([stage.generations for stage in stages], np.int32),
        penalty=penalty,
        radii=each([np.repeat(row, most // len(row)) for row in radii], np.int32),
        least=each([genome.scale_radii((s.least,), shape)[0] if s.least else 0 for s in stages], np.int32),
        confines=each([stage.confines for stage in stages], bool),
    )


def _begun(found: Found, plan: Plan, archive: Archive | None, rungs: Rungs | None) -> Found:
    """What the cycle before left; the first one of a stage begins its own collections."""
    fresh = dataclasses.replace(
        found, champion=genome.resize(found.champion, len(found.champion)), archive=archive, rungs=rungs
    )
    return jax.tree.map(lambda new, old: jnp.where(plan.begins, new, old), fresh, found)


def _cycle(
    key: Key, stages: Sequence[Stage], plan: Plan, found: Found, problem: Problem, operators: Operators
) -> tuple[Found, Info]:
    """Founders and generations of one cycle, and the `Info` of each."""
    key_found, key_run = jax.random.split(key)
    [size, *_] = stages
    found_by = [
        lambda key, space, champion, stage=stage: stage.founders(key, space, size.num_offspring, size.genes, champion)
        for stage in stages
    ]
    founders = jax.lax.switch(plan.stage, found_by, key_found, problem.space, found.champion)
    most = max(stage.generations for stage in stages)
    sizes = {"population": size.population, "generations": plan.generations, "most": most}
    known = {"model": found.model, "archive": found.archive, "rungs": found.rungs}
    state, info = evolve.evolve(key_run, founders, problem, operators, **sizes, **known)
    region = problem.space.region
    mask = region & genome.rasterize(state.champion, problem.space.shape)
    violation = info.violation[plan.generations]
    # Inside a mask that does not hold there is none that does, as a rule: such a cycle leaves the region as it was.
    region = jnp.where(plan.confines & (violation == 0), mask, region)
    learnt = state.model, state.archive, state.rungs
    return Found(region, mask, state.champion, violation, found.score + state.score, *learnt), info


def _by_stage(info: Info, stages: Sequence[Stage]) -> list[Info]:
    """Of each stage the `Info` of its generations in turn, from all its cycles: [C, T, ...] -> [rounds, ...]."""
    ends = np.cumsum([stage.cycles for stage in stages])
    of_stage = lambda x, stage, end: x[end - stage.cycles : end, : stage.generations + 1].reshape(stage.rounds)
    return [jax.tree.map(lambda x, s=stage, e=end: of_stage(x, s, e), info) for stage, end in zip(stages, ends)]
