"""Coarse to fine: a sequence of stages, where the best mask of one is the region of the next.

The dissertation has two, gross and fine; any number works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from evomask import evolve, genome
from evomask.evaluate import Hopeful
from evomask.evolve import Info, Operators, Problem
from evomask.fitness import Fitness
from evomask.front import Archive, Collect
from evomask.operators import Scatter
from evomask.types import Array, Evaluation, Genome, InputError, Key, Mask, Target, record, static

Founding = Callable[[Key, genome.Space, int, int, Genome], Genome]  # see `evomask.operators.founding`


@record
class Stage:
    """One level of the search.

    Radii are pixels (8) or fractions of the shorter side (0.05). `generations` come after the founders, so that a stage
    evaluates (generations + 1) * offspring masks. For `penalty` see `evolve.standing`, for `inverses` `evolve.hopeful`.
    """

    name: str = static()
    population: int = static()
    genes: int = static()
    radii: tuple[float, ...] = static()
    generations: int = static()
    offspring: int | None = static(None)  # None: as many as the population
    inverses: int | None = static(None)  # offspring whose inverse is evaluated, where the fitness asks; None: all
    founders: Founding = Scatter()
    penalty: tuple[float, float] | None = None  # first and last; None: feasible before infeasible throughout

    @property
    def num_offspring(self) -> int:
        return self.population if self.offspring is None else self.offspring

    @property
    def num_inverses(self) -> int:
        return self.num_offspring if self.inverses is None else self.inverses


def check_stages(stages: Sequence[Stage]) -> None:
    """Raises InputError unless there are stages, and their sizes are whole numbers that make sense."""
    if not stages:
        raise InputError("the configuration has no stages: give at least one evomask.Stage")
    for stage in stages:
        for name in ("population", "genes", "num_offspring", "num_inverses", "generations"):
            value = getattr(stage, name)
            if not isinstance(value, int) or value < 1:
                name = name.removeprefix("num_")
                raise InputError(f"stage {stage.name!r}: {name} is {value!r}: give a whole number of 1 or more")
        if stage.num_inverses > stage.num_offspring:
            raise InputError(
                f"stage {stage.name!r}: inverses is {stage.inverses}, but there are {stage.num_offspring} offspring: give at most as many"
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
    infos: tuple[Info, ...]  # one per stage, each with leading axis T_s + 1
    archives: tuple[Archive | None, ...]  # one per stage


def run(
    key: Key,
    stages: Sequence[Stage],
    target: Target,
    fitness: Fitness,
    operators: Operators,
    evaluate: Callable[[Mask, Hopeful | None], Evaluation],
    scoring: Callable[..., Array],
    region: Mask | None = None,
    collect: Collect | None = None,
) -> Refined:
    """Runs the stages in order, each inside the mask that the one before it found, the first in `region` if there is one."""
    shape = target.image.shape[:2]
    region, score = jnp.ones(shape, bool) if region is None else region, jnp.zeros(shape)
    best = jnp.full((1, 3), genome.OFF, jnp.int32)
    masks, violations, infos, archives, model = [], [], [], [], None
    for number, stage in enumerate(stages):
        key_found, key_run = jax.random.split(jax.random.fold_in(key, number))
        space = genome.space(region, genome.scale_radii(stage.radii, shape))
        problem = Problem(target, space, fitness, stage.penalty, evaluate, scoring, collect, stage.inverses)
        founders = stage.founders(key_found, space, stage.num_offspring, stage.genes, best)
        sizes = {"population": stage.population, "generations": stage.generations}
        state, info = evolve.run(key_run, founders, problem, operators, **sizes, model=model)
        best, model = state.champion, state.model
        score = score + state.score
        mask = space.region & genome.rasterize(best, shape)
        # Inside a mask that does not hold there is none that does, as a rule: such a stage leaves the region as it was.
        region = jnp.where(info.violation[-1] == 0, mask, space.region)
        masks.append(mask)
        violations.append(info.violation[-1])
        infos.append(info)
        archives.append(state.archive)
    return Refined(jnp.stack(masks), best, jnp.stack(violations), score, tuple(infos), tuple(archives))

