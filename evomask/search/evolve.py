"""The engine of one stage: a population of genomes under selection, crossover, mutation and survival, as a scan.

Nothing here is jitted: `evomask.explain` compiles the whole of it. The engine takes callables (see `evomask.operators`)
and knows nothing of classifiers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evomask.search import genome as genes
from evomask.search import scoring
from evomask.search.evaluate import Hopeful
from evomask.search.fitness import Fitness, penalized, ranks
from evomask.search.front import Archive, Collect
from evomask.search.genome import Space
from evomask.search.ladder import Ladder, Rungs
from evomask.search.operators import plus
from evomask.search.scoring import Seen
from evomask.search.surrogate import Caution, Model, Screening, believed, improvement
from evomask.types import SLACK, Array, Evaluation, Genome, Key, Mask, Target, record

SHOWN = int.from_bytes(b"shown", "little") % 2**31  # the stream of keys that a generation's showings are drawn from
STRICT_PRICE = 50.0  # of a nat of violation, where a screening must weigh what the feasibility rule only compares


@record
class Operators:
    """The moving parts of the evolution; see `evomask.operators` for their signatures."""

    selection: Callable[[Key, Array, int], Array]
    crossover: Callable[[Key, Genome, Genome], Genome]
    mutation: Callable[[Key, Genome, Space], Genome]
    survival: Callable[[Array, int], Array]
    screening: Screening | None = None  # None: every child that is bred is evaluated


class Problem(NamedTuple):
    """What one stage optimises and where."""

    target: Target
    space: Space
    fitness: Fitness
    penalty: tuple[Array | float, Array | float] | None  # first and last; NaN or None: the strict rule, see `standing`
    evaluate: Callable[[Key, Mask, Hopeful | None], Evaluation]  # bool[P, H, W] -> evaluation of P masks
    scoring: Callable[[Seen], Any]  # see `evomask.search.scoring`
    collect: Collect | None = None  # see `evomask.search.front`
    inverses: int | None = None  # see `hopeful`; None: all
    ladder: Ladder | None = None  # what a cautious search believes in, of every size
    film: bool = False  # whether the champion's mask is kept of every generation


@record
class State:
    """The survivors of a generation, unordered. A place that was never filled holds NaN and ranks last."""

    genomes: Array  # int32[P, G, 3]
    evaluation: Evaluation  # of P individuals
    champion: Genome  # int32[G, 3], the best so far: feasible before infeasible, whatever selection prefers
    champion_evaluation: Evaluation  # of one individual, fields f32[1]
    score: Any  # running sum of the scoring rule
    model: Model | None  # what the screening has learnt
    archive: Archive | None = None  # of all masks evaluated
    rungs: Rungs | None = None


@record
class Info:
    """The champion after one generation."""

    objective: Array  # f32[]
    violation: Array  # f32[], zero where every constraint holds
    evaluation: Evaluation  # fields f32[]
    film: Array | None = None  # uint8[H, ceil(W / 8)], its mask, eight pixels to a byte, where it is asked for


def collections(
    shape: tuple[int, int], num_genes: int, collect: Collect | None, ladder: Ladder | None
) -> tuple[Archive | None, Rungs | None]:
    """What a stage collects of masks of H x W pixels, empty; None where it does not."""
    archive = None if collect is None else collect.init(shape)
    return archive, None if ladder is None else ladder.init(shape, num_genes)


def init(
    shape: tuple[int, int],
    population: int,
    num_genes: int,
    model: Model | None = None,
    archive: Archive | None = None,
    rungs: Rungs | None = None,
    score: Any = None,
) -> State:
    """A state for masks of H x W pixels, whose places are still to be filled by the first `step`."""
    return State(
        genomes=jnp.full((population, num_genes, 3), genes.OFF, jnp.int32),
        evaluation=Evaluation(*[jnp.full(population, jnp.nan)] * 7),
        champion=jnp.full((num_genes, 3), genes.OFF, jnp.int32),
        champion_evaluation=Evaluation(*[jnp.full(1, jnp.nan)] * 7),
        score=jnp.zeros(shape) if score is None else score,
        model=model,
        archive=archive,
        rungs=rungs,
    )


def standing(evaluation: Evaluation, problem: Problem, progress: Array) -> Array:
    """f32[P], what selection and survival go by, at `progress` from 0 to 1 through the stage.

    The feasibility rule where the problem has no penalty, or one of NaN; otherwise the objective less a penalty for
    violations that rises geometrically from its first to its last value.
    """
    objective, violation = problem.fitness.weigh(evaluation, problem.target)
    if problem.penalty is None:
        return ranks(objective, violation)
    price = _price(problem.penalty, progress)
    return jnp.where(jnp.isnan(price), ranks(objective, violation), penalized(objective, violation, price))


def breed(key: Key, state: State, problem: Problem, operators: Operators, num: int, progress: Array) -> Genome:
    """Selection, crossover and mutation: int32[num, G, 3].

    Both parents of a pair are draws of their own. (The published code looks the second parent up with the first one's
    index, so that every crossover is with oneself.)
    """
    key_selection, key_crossover, key_mutation = jax.random.split(key, 3)
    pairs = -(-num // 2)
    fitness = standing(state.evaluation, problem, progress)
    parents = state.genomes[operators.selection(key_selection, fitness, 2 * pairs)]
    children = jax.vmap(operators.crossover)(jax.random.split(key_crossover, pairs), parents[::2], parents[1::2])
    children = children.reshape(2 * pairs, *parents.shape[1:])[:num]
    mutate = jax.vmap(operators.mutation, in_axes=(0, 0, None))
    return mutate(jax.random.split(key_mutation, num), children, problem.space)


def screen(
    key: Key, state: State, children: Genome, problem: Problem, screening: Screening, num: int, progress: Array
) -> Genome:
    """The `num` children that promise the largest improvement over the best of the population: int32[num, G, 3].

    A child whose mask was evaluated before comes after all new ones, so that it is chosen only for want of these.
    """
    price = STRICT_PRICE if problem.penalty is None else _price(problem.penalty, progress)
    price = jnp.where(jnp.isnan(price), STRICT_PRICE, price)

    def value(evaluation: Evaluation) -> Array:
        objective, violation = problem.fitness.weigh(evaluation, problem.target)
        return objective - price * violation

    masks = screening.rasterize(children, problem.space.region)
    best = jnp.nanmax(value(state.evaluation))
    promise = improvement(value(screening.predict(key, state.model, masks)), best)
    promise = jnp.where(screening.is_known(state.model, masks), -jnp.inf, promise)
    return children[jax.lax.top_k(promise, num)[1]]


def offspring(key: Key, state: State, problem: Problem, operators: Operators, num: int, progress: Array) -> Genome:
    """The children to evaluate: all that are bred, or with a screening the most promising ones. int32[num, G, 3]."""
    screening = operators.screening
    if screening is None:
        return breed(key, state, problem, operators, num, progress)
    key_breed, key_screen = jax.random.split(key)
    bred = breed(key_breed, state, problem, operators, num * screening.candidates, progress)
    return screen(key_screen, state, bred, problem, screening, num, progress)


def is_cautious(operators: Operators) -> bool:
    """Whether masks compete by what is believed of them, see `cautious_step`."""
    return operators.screening is not None and operators.screening.caution is not None


def hopeful(problem: Problem, progress: Array) -> Hopeful | None:
    """Which inverses to evaluate: of the masks that would stand best if their inverse lost the class.

    Most children do not live, and of most of those the masked image alone shows it. A mask whose inverse was not looked
    at has no known violation, and ranks last.
    """
    if problem.inverses is None:
        return None

    def rank(seen: Evaluation) -> Array:
        lost = {"inverse_confidence": jnp.zeros_like(seen.area), "inverse_margin": jnp.full_like(seen.area, -jnp.inf)}
        return standing(dataclasses.replace(seen, **lost), problem, progress)

    return Hopeful(problem.inverses, rank)


def step(
    key: Key, state: State, children: Genome, problem: Problem, operators: Operators, progress: Array
) -> tuple[State, Info]:
    """Evaluates the children, lets them compete with their parents, and adds the champion to the score."""
    masks = problem.space.region[None] & genes.rasterize(children, problem.space.shape)
    evaluated = problem.evaluate(key, masks, hopeful(problem, progress))
    genomes, evaluation = _join((state.genomes, state.evaluation), (children, evaluated))
    keep = operators.survival(standing(evaluation, problem, progress), state.genomes.shape[0])

    rivals = _join((state.champion[None], state.champion_evaluation), (children, evaluated))
    objective, violation = problem.fitness.weigh(rivals[1], problem.target)
    best = jnp.argmax(ranks(objective, violation))
    champion, champion_evaluation = _at(rivals, best)
    added = Seen(champion, champion_evaluation, violation[best] == 0, problem.space, masks, evaluated)
    score = scoring.merge(problem.scoring, state.score, problem.scoring(added))

    info = Info(objective[best], violation[best], champion_evaluation)
    champion_evaluation = jax.tree.map(lambda x: x[None], champion_evaluation)
    model = None if operators.screening is None else operators.screening.learn(state.model, masks, evaluated)
    archive = None if problem.collect is None else problem.collect.add(state.archive, masks, evaluated)
    survivors = genomes[keep], _at(evaluation, keep)
    return State(*survivors, champion, champion_evaluation, score, model, archive, state.rungs), info


def cautious_step(
    key: Key, state: State, children: Genome, problem: Problem, operators: Operators, progress: Array, is_first: Array
) -> tuple[State, Info]:
    """`step` where each mask is seen in one showing, drawn for it: everybody competes by what the model believes.

    One lucky showing makes no champion then. A champion is chosen among all who live, for a belief about it changes
    with what is seen of others. In place of the first children it is shown anew, and caution follows how it fares, once
    the search goes by the strict rule; as one child of many it would crowd out the others, so its copies do not live.
    """
    screening: Screening = operators.screening  # pyright: ignore[reportAssignmentType]
    caution: Caution = screening.caution  # pyright: ignore[reportAssignmentType]
    size, again = len(state.genomes), jnp.arange(len(children)) < jnp.where(is_first, 0, caution.again)
    children = jnp.where(again[:, None, None], state.champion[None], children)
    masks = problem.space.region[None] & genes.rasterize(children, problem.space.shape)
    look = hopeful(problem, progress)
    if look is not None:  # the champion's inverse is always seen
        look = look._replace(rank=lambda seen, rank=look.rank: jnp.where(again, jnp.inf, rank(seen)))
    evaluated = problem.evaluate(key, masks, look)
    model = screening.learn(state.model, masks, evaluated)
    as_it_must = dataclasses.replace(problem.target, slack=SLACK)
    wary = screening.surprised(model, problem.fitness.violation(evaluated, as_it_must) == 0, again)
    is_strict = True if problem.penalty is None else jnp.isnan(problem.penalty[0])
    model = dataclasses.replace(model, caution=jnp.where(is_strict, wary.caution, model.caution))

    genomes, seen = _join((state.genomes, state.evaluation), (children, evaluated))
    genomes, seen = _join((genomes, seen), (state.champion[None], state.champion_evaluation))
    sampled = screening.rasterize(genomes, problem.space.region)
    counts = jnp.concatenate([jnp.ones(size, bool), ~again, jnp.ones(1, bool)])
    posterior = screening.posterior(model, sampled)
    beliefs = believed(posterior, seen, model.caution)
    beliefs = jax.tree.map(lambda figure: jnp.where(counts, figure, jnp.nan), beliefs)
    objective, violation = problem.fitness.weigh(beliefs, problem.target)
    best = jnp.argmax(ranks(objective, violation))
    champion, its_evaluation = genomes[best], _at(beliefs, best)
    added = Seen(champion, its_evaluation, violation[best] == 0, problem.space, masks, evaluated)
    score = scoring.merge(problem.scoring, state.score, problem.scoring(added))

    living = _at(beliefs, slice(-1))  # the champion has a place of its own
    keep = operators.survival(standing(living, problem, progress), size)
    rungs = state.rungs
    if problem.ladder is not None:
        # With one and the same caution in every generation: a rung compares what was believed at different times.
        plain = believed(_at(posterior, slice(size, size + len(children))), evaluated, 1.0)
        rungs = problem.ladder.add(rungs, children, masks, plain, problem.target)
    archive = None if problem.collect is None else problem.collect.add(state.archive, masks, evaluated)
    survivors = genomes[keep], _at(living, keep)
    state = State(*survivors, champion, jax.tree.map(lambda x: x[None], its_evaluation), score, model, archive, rungs)
    return state, Info(objective[best], violation[best], its_evaluation)


def evolve(
    key: Key, founders: Genome, problem: Problem, operators: Operators, *, population: int, generations: int
) -> tuple[State, Info]:
    """Evolves `founders` (int32[O, G, 3]) for `generations` generations of O children each.

    Generation 0 evaluates the founders, and the best `population` of them survive, so the classifier is asked
    (generations + 1) * O times.

    Returns:
      The last state, and the `Info` of generations 0 .. T stacked along the last axis.
    """
    num_genes, shape = founders.shape[1], problem.space.shape
    model = operators.screening and operators.screening.init(shape)
    kept = collections(shape, num_genes, problem.collect, problem.ladder)
    state = init(shape, population, num_genes, model, *kept, scoring.begin(problem.scoring, shape))
    turns = {"first": 0, "stop": generations + 1, "generations": generations, "most": generations + 1}
    return advance(key, state, founders, problem, operators, **turns)


def advance(
    key: Key,
    state: State,
    founders: Genome,
    problem: Problem,
    operators: Operators,
    *,
    first: Array | int,
    stop: Array | int,
    generations: Array | int,
    most: int,
) -> tuple[State, Info]:
    """Generations `first` to `stop` - 1 of `evolve`, of whose `generations` only how far they have come is of account.

    The loop has a single call of the classifier, which keeps the compiled program small. How often it turns may be
    known at run time only: `most` says how often at most.

    Returns:
      The last state, and the `Info` of these generations, filled up with NaN to `most` along the last axis.
    """
    num = len(founders)

    def body(generation: Array, carried: tuple[State, Info]) -> tuple[State, Info]:
        state, infos = carried
        is_first = generation == 0
        progress = generation / jnp.maximum(generations, 1)
        now = jax.random.fold_in(key, generation)
        bred = offspring(now, state, problem, operators, num, progress)
        children = jnp.where(is_first, founders, bred)
        # In generation 0 there are no parents that a survival rule might want to keep.
        survival = lambda fitness, size: jnp.where(is_first, plus(fitness, size), operators.survival(fitness, size))
        own = dataclasses.replace(operators, survival=survival)
        if is_cautious(operators):
            shown = jax.random.fold_in(now, SHOWN)
            state, info = cautious_step(shown, state, children, problem, own, progress, is_first)
        else:
            state, info = step(now, state, children, problem, own, progress)
        if problem.film:
            mask = problem.space.region & genes.rasterize(state.champion, problem.space.shape)
            info = dataclasses.replace(info, film=jnp.packbits(mask, axis=-1))
        return state, jax.tree.map(lambda all, one: all.at[..., generation - first].set(one), infos, info)

    nothing, (height, width) = jnp.full(most, jnp.nan), problem.space.shape
    film = jnp.zeros((height, -(-width // 8), most), jnp.uint8) if problem.film else None
    infos = Info(nothing, nothing, Evaluation(*[nothing] * 7), film)
    return jax.lax.fori_loop(first, stop, body, (state, infos))


def _price(penalty: tuple[Array | float, Array | float], progress: Array) -> Array:
    first, last = penalty
    return first * (last / first) ** progress


def _join(first: Any, second: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def _at(tree: Any, index: Array) -> Any:
    return jax.tree.map(lambda x: x[index], tree)
