"""What the generations of a search spend their time on: every phase alone, as often as the search goes through it.

    breed      selection, crossover and mutation of all children that are bred
    screen     choosing the most promising of them (with a screening)
    rasterize  the masks of those
    evaluate   blending, the network on masked and inverse-masked images, and reading its answers
    learn      what the screening learns from them
    score      the share of the generation's best mask in the score matrix

Survival, bookkeeping and the verification of final masks are what is left of the whole.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask import fills
from evomask.search import evolve, genome
from evomask.search.config import Config
from evomask.search.evaluate import evaluate_fills, feature_maps
from evomask.search.evolve import Problem, State
from evomask.search.scoring import Seen
from evomask.search.stages import Stage
from evomask.types import Array, Classifier, Key, Target, record


@record
class Inputs:
    """What the phases of a stage work on: the population that its first generation leaves, and that generation's
    children.
    """

    classifier: Classifier
    config: Config
    target: Target
    blanks: Array
    state: State | None
    children: Array | None  # int32[O, G, 3]


def compile_phases(
    classifier: Classifier, image: np.ndarray, label: int, config: Config
) -> dict[str, Callable[[], Any]]:
    """For every phase a function that goes through it as often as an explanation of f32[H, W, C] does, compiled."""
    config = config.sought
    given, best = [], jnp.full((1, 3), genome.OFF, jnp.int32)
    for stage in config.stages:
        inputs = _inputs(classifier, image, label, config, stage, best)
        given.append((inputs, jax.random.split(jax.random.key(0), stage.rounds)))
        best = inputs.children[0]  # a genome that is not empty, as the champion might be
    names = [name for name in PHASES if config.operators.screening or name not in ("screen", "learn")]
    programs = {
        name: [_repeat.lower(*arguments, stage, name).compile() for stage, arguments in enumerate(given)]
        for name in names
    }
    run = lambda programs: [program(*arguments) for program, arguments in zip(programs, given)]
    return {name: functools.partial(run, programs[name]) for name in names}


@functools.partial(jax.jit, static_argnames=("index", "name"))
def _repeat(inputs: Inputs, keys: Key, index: int, name: str) -> Any:
    """The last result of a phase; as it is carried along, every one of them is computed."""
    stage = inputs.config.stages[index]
    phase = functools.partial(PHASES[name], inputs, _problem(inputs, stage), stage)
    return jax.lax.scan(lambda _, key: (phase(key), None), jax.tree.map(jnp.zeros_like, phase(keys[0])), keys)[0]


def _inputs(classifier: Classifier, image: np.ndarray, label: int, config: Config, stage: Stage, best: Array) -> Inputs:
    """What a stage has after its first generation, in the whole image; `best` is from the stage before."""
    key, image = jax.random.key(1), jnp.asarray(image)
    features = feature_maps(classifier, image) if config.needs(classifier)["features"] else ()
    target = Target(image, jnp.int32(label), jnp.float32(1.0), features, ratio=config.confidence_ratio)
    empty = Inputs(classifier, config, target, fills.blanks(config.fills, key, image), None, None)

    @jax.jit
    def begin(empty: Inputs) -> tuple[State, Array]:
        problem = _problem(empty, stage)
        founders = stage.founders(key, problem.space, stage.num_offspring, stage.genes, best)
        sizes = {"population": stage.population, "generations": 1}
        return evolve.evolve(key, founders, problem, config.operators, **sizes)[0], founders

    state, founders = begin(empty)
    return dataclasses.replace(empty, state=state, children=founders)


def _problem(inputs: Inputs, stage: Stage) -> Problem:
    config, shape = inputs.config, inputs.target.image.shape[:2]
    needs = config.needs(inputs.classifier)
    evaluate = lambda _, masks, hopeful: evaluate_fills(
        inputs.classifier, inputs.target, inputs.blanks, masks, hopeful=hopeful, **needs
    )
    space = genome.space(jnp.ones(shape, bool), genome.scale_radii(stage.radii, shape))
    return Problem(
        inputs.target, space, config.fitness, stage.penalty, evaluate, config.scoring, inverses=stage.inverses
    )


def _breed(inputs: Inputs, problem: Problem, stage: Stage, key: Key) -> Array:
    screening = inputs.config.operators.screening
    num = stage.num_offspring * (screening.candidates if screening else 1)
    return evolve.breed(key, inputs.state, problem, inputs.config.operators, num, jnp.float32(0.5))


def _screen(inputs: Inputs, problem: Problem, stage: Stage, key: Key) -> Array:
    screening = inputs.config.operators.screening
    bred = jnp.repeat(inputs.children, screening.candidates, axis=0)
    return evolve.screen(
        key, inputs.state, _moved(key, bred), problem, screening, stage.num_offspring, jnp.float32(0.5)
    )


def _rasterize(inputs: Inputs, problem: Problem, stage: Stage, key: Key) -> Array:
    return problem.space.region[None] & genome.rasterize(_moved(key, inputs.children), problem.space.shape)


def _evaluate(inputs: Inputs, problem: Problem, stage: Stage, key: Key) -> Any:
    return problem.evaluate(key, _whole_or_none(key, problem, stage), evolve.hopeful(problem, jnp.float32(0.5)))


def _learn(inputs: Inputs, problem: Problem, stage: Stage, key: Key) -> Any:
    return inputs.config.operators.screening.learn(inputs.state.model, *_evaluated(inputs, problem, stage, key))


def _score(inputs: Inputs, problem: Problem, stage: Stage, key: Key) -> Array:
    champion = _moved(key, inputs.state.champion[None])[0]
    evaluation = jax.tree.map(lambda x: x[0], inputs.state.champion_evaluation)
    evaluated = _evaluated(inputs, problem, stage, key)
    return problem.scoring(Seen(champion, evaluation, jnp.bool_(True), problem.space, *evaluated))


def _evaluated(inputs: Inputs, problem: Problem, stage: Stage, key: Key) -> tuple[Array, Any]:
    """As many masks as a generation has, and what was seen of as many survivors: only their shapes cost time."""
    seen = jax.tree.map(lambda x: jnp.resize(x, stage.num_offspring), inputs.state.evaluation)
    return _whole_or_none(key, problem, stage), seen


def _whole_or_none(key: Key, problem: Problem, stage: Stage) -> Array:
    """A mask for each child, the whole region or nothing: what a mask holds does not change what it costs."""
    return jax.random.bernoulli(key, 0.5, (stage.num_offspring, 1, 1)) & problem.space.region[None]


def _moved(key: Key, genomes: Array) -> Array:
    """The same patches elsewhere: something that no compiler can compute in advance."""
    return genomes.at[:, :, :2].add(jax.random.bernoulli(key).astype(jnp.int32))


PHASES = {
    "breed": _breed,
    "screen": _screen,
    "rasterize": _rasterize,
    "evaluate": _evaluate,
    "learn": _learn,
    "score": _score,
}
