"""The compiled programs of a search, and the host that calls them: the one jit boundary of the library.

`ask` what the search must know, `begin` a cycle, `advance` it by some generations, and `end` it. `advance` is where all
the time goes: a loop over generations with the classifier in the middle of it. What a budget decides (generations,
cycles, penalties, radii) are arguments: another budget compiles nothing. No program calls back, so that JAX's
persistent cache can keep it, and no bit depends on how many generations the host lets run at a time.

All work on the rows that are searched side by side, `Config.together` of them on each device; everything that belongs
to a row has a leading axis. Each row gets the bits that it gets in any other company.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from evomask.executables import Ready, keepable
from evomask.search import evolve, refine, sharding
from evomask.search.config import Config
from evomask.search.evaluate import Hopeful, evaluate_fills, feature_maps
from evomask.search.evolve import Info
from evomask.search.ladder import Ladder
from evomask.search.refine import Cycle, Found, Parts, Refined, Steps
from evomask.search.showings import Bank, evaluate_shown, fill_bank
from evomask.search.stages import Founding, Plan, Size, Stage, planned, size_of
from evomask.types import Array, Classifier, Evaluation, Key, Mask, Niche, Rows, Target, record


@record
class Known:
    """What a search knows of its question before it begins."""

    features: tuple[Array, ...]  # of the whole image, where the fitness compares them
    bank: Bank | None  # where showings are drawn


@keepable("size", "mesh")
def ask(
    classifier: Classifier, key: Key, config: Config, size: Size, rows: Rows, mesh: Mesh | None
) -> tuple[Known, Found]:
    """What has to be known of the questions, and what their first cycle begins from, in a stage of this size."""

    def of_row(classifier: Classifier, key: Key, config: Config, row: Rows) -> tuple[Known, Found]:
        needs, bank = config.needs(classifier), None
        known = Known(feature_maps(classifier, row.image) if needs["features"] else (), None)
        if config.perturbation is not None:
            sizes = {"size": config.showings, "batch_size": needs["batch_size"]}
            options = {"counterfactual": row.counterfactual, "axis": sharding.population_axis(mesh)}
            target = _target(config, row, known)
            bank = fill_bank(key, classifier, target, row.blanks, config.perturbation, **sizes, **options)
        region = jnp.ones(row.image.shape[:2], bool) if row.niche is None else row.niche.region
        found = refine.start(region, size, config.operators, config.scoring, config.front, _ladder(config))
        return dataclasses.replace(known, bank=bank), found

    return _for_rows(of_row, mesh)(classifier, key, config, (rows,))


@keepable("size", "mesh")
def begin(
    key: Key,
    config: Config,
    size: Size,
    founding: tuple[Founding, ...],
    plan: Plan,
    found: Found,
    mesh: Mesh | None,
) -> Cycle:
    """See `refine.begin`."""

    def of_row(key: Key, config: Config, founding: tuple[Founding, ...], plan: Plan, found: Found) -> Cycle:
        return refine.begin(key, size, founding, plan, found, config.front, _ladder(config))

    return _for_rows(of_row, mesh)(key, config, founding, plan, (found,))


@keepable("size", "mesh")
def advance(
    classifier: Classifier,
    key: Key,
    config: Config,
    size: Size,
    plan: Plan,
    first: Array,
    stop: Array,
    rows: Rows,
    known: Known,
    cycle: Cycle,
    mesh: Mesh | None,
) -> tuple[Cycle, Info]:
    """See `refine.advance`."""

    def of_row(
        classifier: Classifier,
        key: Key,
        config: Config,
        plan: Plan,
        first: Array,
        stop: Array,
        row: Rows,
        known: Known,
        cycle: Cycle,
    ) -> tuple[Cycle, Info]:
        target = _target(config, row, known)
        evaluate = _evaluate(classifier, config, row, target, known.bank, sharding.population_axis(mesh))
        kept = config.front, _ladder(config), config.film
        parts = Parts(target, config.fitness, config.operators, evaluate, config.scoring, *kept)
        return refine.advance(key, size, plan, cycle, parts, first, stop)

    return _for_rows(of_row, mesh)(classifier, key, config, plan, first, stop, (rows, known, cycle))


@keepable("mesh")
def end(plan: Plan, cycle: Cycle, violation: Array, mesh: Mesh | None) -> Found:
    """See `refine.end`."""
    return _for_rows(refine.end, mesh)(plan, (cycle, violation))


PROGRAMS = ask, begin, advance, end


def search(
    classifier: Classifier,
    key: Key,
    config: Config,
    rows: Rows,
    told: Callable[[Stage, int], None] | None = None,
    mesh: Mesh | None = None,
) -> Refined:
    """Searches for rows B, as many as go side by side: what the stages found, NumPy, leading axis B.

    `told` is called with a stage and how many generations have just gone by.
    """
    stages, config = config.sought.stages, config.compiled
    known, found = ask(classifier, key, config, size_of(stages[0]), rows, mesh)
    steps = Steps(
        lambda size, founding, plan, found: begin(key, config, size, founding, plan, found, mesh),
        lambda size, plan, cycle, first, stop: advance(
            classifier, key, config, size, plan, first, stop, rows, known, cycle, mesh
        ),
        lambda plan, cycle, violation: end(plan, cycle, sharding.split(violation, mesh), mesh),
    )
    refined = refine.refine(stages, found, steps, told)
    if known.bank is not None:
        refined = dataclasses.replace(refined, breaks=jax.device_get(known.bank.breaks))
    return refined


def prepared(classifier: Classifier, key: Key, config: Config, rows: Rows, mesh: Mesh | None = None) -> Iterator[Ready]:
    """The programs that `search` calls for such rows; nothing is computed."""
    stages, config = config.sought.stages, config.compiled
    asked = ask.prepare(classifier, key, config, size_of(stages[0]), rows, mesh)
    yield asked
    known, found = _promised(asked, mesh)
    number = np.int32(0)
    for group, (size, alike, plans) in enumerate(planned(stages, rows.image.shape[1:3])):
        founding, plan = tuple(stage.founders for stage in alike), plans[0][0]
        if group:  # a first cycle comes from another size, the next one from its own
            found = dataclasses.replace(found, archive=None, rungs=None)
        for _ in range(min(sum(map(len, plans)), 2) if group else 1):
            begun = begin.prepare(key, config, size, founding, plan, found, mesh)
            cycle = _promised(begun, mesh)
            steps = plan, number, number, rows, known, cycle
            advanced = advance.prepare(classifier, key, config, size, *steps, mesh)
            violation = _shape(rows.label.shape, np.float32, mesh)
            ended = end.prepare(plan, _promised(advanced, mesh)[0], violation, mesh)
            found = _promised(ended, mesh)
            yield from (begun, advanced, ended)


def _promised(ready: Ready, mesh: Mesh | None) -> Any:
    """What a program will return, as shapes."""
    return jax.tree.map(lambda x: _shape(x.shape, x.dtype, mesh), ready.out_info)


def _shape(shape: tuple[int, ...], dtype: Any, mesh: Mesh | None) -> jax.ShapeDtypeStruct:
    """An array with a row for each image, as the programs get it and return it."""
    where = None if mesh is None else NamedSharding(mesh, P(sharding.IMAGES))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)


def _for_rows(function: Callable, mesh: Mesh | None) -> Callable:
    """`function(*parameters, *row)` for the rows of all devices: called as `function(*parameters, rows)`."""

    def of_a_device(*args: Any) -> Any:
        *parameters, rows = args
        of_row = functools.partial(function, *parameters)
        if len(jax.tree.leaves(rows)[0]) == 1:  # as one image alone, without a batch
            found = jax.tree.map(lambda x: x[None], of_row(*jax.tree.map(lambda x: x[0], rows)))
        else:
            found = jax.vmap(of_row)(*rows)
        # What one program returns another takes, which would be compiled once for weak types and once for others.
        return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), found)

    return sharding.over_images(of_a_device, mesh)


def _target(config: Config, row: Rows, known: Known) -> Target:
    said = row.label, row.confidence, known.features, row.contrast
    return Target(row.image, *said, config.confidence_ratio, config.slack)


def _ladder(config: Config) -> Ladder | None:
    return Ladder(config.demand) if evolve.is_cautious(config.operators) else None


def _evaluate(
    classifier: Classifier, config: Config, row: Rows, target: Target, bank: Bank | None, axis: str | None
) -> Callable[[Key, Mask, Hopeful | None], Evaluation]:
    """How the masks of a generation are evaluated."""
    needs, niche = config.needs(classifier), row.niche

    def evaluate(key: Key, masks: Mask, hopeful: Hopeful | None) -> Evaluation:
        price = lambda seen: priced(seen, masks, niche)
        hopeful = hopeful and hopeful._replace(rank=lambda seen, rank=hopeful.rank: rank(price(seen)))
        if bank is None:
            seen = evaluate_fills(classifier, target, row.blanks, masks, **needs, hopeful=hopeful, axis=axis)
        else:
            few = {"inverse": needs["inverse"], "batch_size": needs["batch_size"], "hopeful": hopeful}
            seen = evaluate_shown(key, classifier, target, bank, masks, **few, axis=axis)
        return price(seen)

    return evaluate


def priced(evaluation: Evaluation, masks: Mask, niche: Niche | None) -> Evaluation:
    """The evaluation of bool[P, H, W], whose area counts pixels that are taken 1 + weight times."""
    if niche is None:
        return evaluation
    shared = jnp.mean(masks & niche.taken[None], axis=(1, 2), dtype=jnp.float32)
    return dataclasses.replace(evaluation, area=evaluation.area + niche.weight * shared)
