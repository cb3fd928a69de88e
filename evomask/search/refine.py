"""Coarse to fine: a sequence of stages, where the best mask of one is the region of the next.

The dissertation has two, gross and fine; any number works. What is computed stands in three pure functions: `begin` a
cycle, `advance` it by some generations, `end` it. `refine` calls them in turn, on the host, which so has a word between
generations: it tells how far the search has come, and can be interrupted.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evomask.search import evolve, genome, scoring
from evomask.search.evaluate import Hopeful
from evomask.search.evolve import Info, Operators, Problem, State
from evomask.search.fitness import Fitness
from evomask.search.front import Archive, Collect
from evomask.search.ladder import Ladder, Rungs
from evomask.search.scoring import Seen
from evomask.search.stages import Founding, Plan, Size, Stage, planned, size_of
from evomask.search.surrogate import Model
from evomask.types import Array, Evaluation, Genome, Key, Mask, Target, record

PAUSE = 0.25  # seconds for which the host lets generations run, where one does not take longer
LONGEST = 32  # generations at most that it lets run at a time
GAIN = 0.02  # of a champion's area: what it must lose for a stage with patience to go on
FAR = 0.5  # of the image: while a champion is larger, its stage goes on in any case


@record
class Refined:
    """What the stages found, with the leading axes of what they were given."""

    masks: Array  # bool[..., S, H, W], the best mask of every stage
    genome: Array  # int32[..., G, 3], of the last stage
    violation: Array  # f32[..., S]
    score: Any  # running sum of the scoring rule over all stages
    infos: tuple[Info, ...]  # one per stage, each with last axis `Stage.rounds`; the last one that ran is repeated
    rounds: Array  # int32[..., S], generations that each stage ran, founders included; see `Stage.patience`
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
    score: Any  # running sum of the scoring rule
    model: Model | None
    archive: Archive | None = None  # of this stage
    rungs: Rungs | None = None  # of this stage


class Parts(NamedTuple):
    """What all stages have in common."""

    target: Target
    fitness: Fitness
    operators: Operators
    evaluate: Callable[[Key, Mask, Hopeful | None], Evaluation]
    scoring: Callable[[Seen], Any]
    collect: Collect | None = None
    ladder: Ladder | None = None
    film: bool = False  # see `evolve.Problem`


@record
class Cycle:
    """A cycle under way."""

    space: genome.Space  # where it searches
    founders: Genome  # int32[O, G, 3]
    state: State


def start(
    region: Mask,
    size: Size,
    operators: Operators,
    rule: Callable[[Seen], Any],
    collect: Collect | None = None,
    ladder: Ladder | None = None,
) -> Found:
    """What the first cycle, whose stage is of this size, begins from, in a region bool[H, W]."""
    nothing = jnp.full((size.genes, 3), genome.OFF, jnp.int32)
    model = operators.screening and operators.screening.init(region.shape)
    empty = evolve.collections(region.shape, size.genes, collect, ladder)
    return Found(region, region, nothing, jnp.float32(0.0), scoring.begin(rule, region.shape), model, *empty)


def begin(
    key: Key,
    size: Size,
    founding: Sequence[Founding],
    plan: Plan,
    found: Found,
    collect: Collect | None = None,
    ladder: Ladder | None = None,
) -> Cycle:
    """The founders of a cycle, by the rule of its stage; the first one of a stage begins collections of its own."""
    shape, champion = found.region.shape, genome.resize(found.champion, size.genes)
    if len(found.champion) == size.genes:
        champion = jnp.where(plan.begins, champion, found.champion)
    empty = evolve.collections(shape, size.genes, collect, ladder)
    archive, rungs = (_renewed(plan.begins, new, old) for new, old in zip(empty, (found.archive, found.rungs)))
    space = genome.space(found.region, plan.radii, least=plan.least)
    rules = [
        lambda key, space, champion, rule=rule: rule(key, space, size.offspring, size.genes, champion)
        for rule in founding
    ]
    founders = jax.lax.switch(plan.stage, rules, _keys(key, plan)[0], space, champion)
    state = evolve.init(space.shape, size.population, size.genes, found.model, archive, rungs, found.score)
    return Cycle(space, founders, state)


def _renewed(begins: Array, fresh: Any, old: Any) -> Any:
    """A collection that is fresh where a stage begins."""
    return fresh if old is None else jax.tree.map(lambda new, before: jnp.where(begins, new, before), fresh, old)


def advance(
    key: Key, size: Size, plan: Plan, cycle: Cycle, parts: Parts, first: Array, stop: Array
) -> tuple[Cycle, Info]:
    """Generations `first` to `stop` - 1 of a cycle, `LONGEST` at most; `Info` is filled up with NaN to as many."""
    target, fitness, operators, evaluate, rule, collect, ladder, film = parts
    problem = Problem(target, cycle.space, fitness, plan.penalty, evaluate, rule, collect, size.inverses, ladder, film)
    turns = {"first": first, "stop": stop, "generations": plan.generations, "most": LONGEST}
    state, info = evolve.advance(_keys(key, plan)[1], cycle.state, cycle.founders, problem, operators, **turns)
    return dataclasses.replace(cycle, state=state), info


def end(plan: Plan, cycle: Cycle, violation: Array) -> Found:
    """What a cycle leaves whose champion lacks so much after its last generation, f32[]."""
    state, region = cycle.state, cycle.space.region
    mask = region & genome.rasterize(state.champion, region.shape)
    # Inside a mask that does not hold there is none that does, as a rule: such a cycle leaves the region as it was.
    region = jnp.where(plan.confines & (violation == 0), mask, region)
    return Found(region, mask, state.champion, violation, state.score, state.model, state.archive, state.rungs)


class Steps(NamedTuple):
    """`begin`, `advance` and `end` as `refine` calls them, of one image or of many: compiled, as a rule."""

    begin: Callable[[Size, tuple[Founding, ...], Plan, Found], Cycle]
    advance: Callable[[Size, Plan, Cycle, np.ndarray, np.ndarray], tuple[Cycle, Info]]
    end: Callable[[Plan, Cycle, np.ndarray], Found]


def refine(
    stages: Sequence[Stage], found: Found, steps: Steps, told: Callable[[Stage, int], None] | None = None
) -> Refined:
    """Runs the stages in order, each inside the mask that the one before it found; NumPy arrays.

    Args:
      stages: what to run; those of one size that follow one another, and their cycles, share a program.
      found: what they begin from, see `start`; its arrays may have leading axes, if the steps do.
      steps: what is computed.
      told: called with a stage and a number of generations that it has just gone through.
    """
    shape, ends, infos, rounds, turns = found.region.shape[-2:], [], [], [], Turns()
    for _, alike, plans in planned(stages, shape):
        if infos:  # the stage before was of another size
            found = dataclasses.replace(found, archive=None, rungs=None)
        for stage, own in zip(alike, plans):
            found, info, ran = _evolved(alike, stage, own, found, steps, turns, told)
            ends.append(jax.device_get(dataclasses.replace(found, score=None, model=None)))
            infos.append(info)
            rounds.append(ran)
    masks = np.stack([one.mask for one in ends], axis=-3)
    violations = np.stack([one.violation for one in ends], axis=-1)
    kept = tuple(one.archive for one in ends), tuple(one.rungs for one in ends)
    score, ran = jax.device_get(found.score), np.stack(rounds, axis=-1)
    return Refined(masks, ends[-1].champion, violations, score, tuple(infos), ran, *kept)


def _evolved(
    alike: tuple[Stage, ...],
    stage: Stage,
    plans: Sequence[Plan],
    found: Found,
    steps: Steps,
    turns: Turns,
    told: Callable[[Stage, int], None] | None,
) -> tuple[Found, Info, np.ndarray]:
    """What one of the stages of a size leaves, its champions, and how many generations it ran: int32[...], as `found`.

    A row that has converged is left as it is while others go on, so that no row depends on its company.
    """
    size, founding = size_of(stage), tuple(stage.founders for stage in alike)
    every = stage.patience or stage.rounds
    seen, over, ran = [], np.zeros(found.mask.shape[:-2], bool), np.zeros(found.mask.shape[:-2], np.int32)
    for plan in plans:
        if over.all():
            break
        before, was_over, cycle, own = found, over, steps.begin(size, founding, plan, found), []
        for first, stop in turns.of(stage.generations + 1, every):
            after, info = steps.advance(size, plan, cycle, np.int32(first), np.int32(stop))
            info = jax.device_get(info)  # waits until it is there
            info = jax.tree.map(lambda x, num=stop - first: x[..., :num], info)
            if over.any():
                after, info = _where(over, cycle, after), _where(over, _repeated(seen[-1], stop - first), info)
            cycle, ran = after, ran + np.where(over, 0, stop - first).astype(np.int32)
            own.append(info)
            seen.append(info)
            if told is not None:
                told(stage, stop - first)
            if stop % every == 0 or stop > stage.generations:  # wherever else a turn ends, which depends on the clock
                over = over | converged(own, stage.patience)
            if over.all():
                break
        found = steps.end(plan, cycle, seen[-1].violation[..., -1])
        found = _where(was_over, before, found) if was_over.any() else found
    left = stage.rounds - sum(one.violation.shape[-1] for one in seen)
    if left:
        seen.append(_repeated(seen[-1], left))
        if told is not None:
            told(stage, left)
    return found, jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *seen), ran


def converged(infos: Sequence[Info], patience: int | None) -> np.ndarray:
    """bool[...], whether the champion has lost hardly any area in the last `patience` generations of a cycle.

    One of more than half of the image is no end: what has stopped there has not found where to begin.

    Args:
      infos: of the generations of the cycle so far, in parts.
      patience: None: never. While the champion is not feasible, or in a cycle that is shorter, it has not.

    >>> area, zeros = jnp.array([0.50, 0.30, 0.30, 0.299]), jnp.zeros(4)
    >>> info = lambda area: Info(-area, zeros, Evaluation(area, *[zeros] * 6))
    >>> [bool(converged([info(area)], patience)) for patience in (None, 1, 2, 3, 4)]
    [False, True, True, False, False]
    >>> bool(converged([info(3 * area)], 1))
    False
    """
    area = np.concatenate([one.evaluation.area for one in infos], axis=-1)
    violation = np.concatenate([one.violation for one in infos], axis=-1)
    if patience is None or area.shape[-1] <= patience:
        return np.zeros(area.shape[:-1], bool)
    then, now = -1 - patience, -1
    feasible = (violation[..., then] == 0) & (violation[..., now] == 0)
    return feasible & (area[..., now] <= FAR) & (area[..., now] > (1 - GAIN) * area[..., then])


def _repeated(info: Info, num: int) -> Info:
    """The last generation of an `Info`, `num` times."""
    return jax.tree.map(lambda x: np.repeat(x[..., -1:], num, axis=-1), info)


def _where(flags: np.ndarray, first: Any, second: Any) -> Any:
    """Of two trees whose arrays begin with the axes of `flags`, bool[...], the rows of the first where they are set."""

    def chosen(one: Any, other: Any) -> Any:
        choose = np.where if isinstance(one, np.ndarray) else jnp.where
        return choose(flags.reshape(flags.shape + (1,) * (one.ndim - flags.ndim)), one, other)

    return jax.tree.map(chosen, first, second)


class Turns:
    """How many generations to let run at a time, so that each turn takes about `PAUSE` seconds.

    A turn ends `every` so many generations, whatever time it takes.

    >>> [stop - first for first, stop in Turns().of(100)]  # of generations that take no time
    [1, 2, 4, 8, 16, 32, 32, 5]
    >>> [stop - first for first, stop in Turns().of(30, every=8)]
    [1, 2, 4, 1, 8, 8, 6]
    """

    def __init__(self):
        self.num = 1

    def of(self, generations: int, every: int | None = None) -> Iterator[tuple[int, int]]:
        """The first generation of each turn and the one after its last; a turn lasts until the next is asked for."""
        first, every = 0, every or generations
        while first < generations:
            stop, began = min(first + self.num, (first // every + 1) * every, generations), time.perf_counter()
            yield first, stop
            fitting = (stop - first) * PAUSE / max(time.perf_counter() - began, 1e-9)
            self.num = max(1, int(min(fitting, 2 * self.num, LONGEST)))
            first = stop


def _keys(key: Key, plan: Plan) -> Key:
    """Of a cycle, one for its founders and one for its generations."""
    return jax.random.split(jax.random.fold_in(key, plan.number))
