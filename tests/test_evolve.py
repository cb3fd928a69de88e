"""One stage and several, on a problem that needs no classifier: cover a box with little else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evomask import operators as ops
from evomask.search import evolve, fitness, genome, refine, scoring
from evomask.search.evolve import Operators, Problem
from evomask.search.front import Collect
from evomask.search.stages import Stage, size_of
from evomask.types import Evaluation, Target

KEY = jax.random.key(0)
SHAPE, GENES, POPULATION, OFFSPRING, GENERATIONS = (10, 10), 3, 6, 7, 8
BOX = np.zeros(SHAPE, bool)
BOX[2:7, 3:8] = True
PIXELS = 25.0
TARGET = Target(jnp.zeros((*SHAPE, 1)), jnp.int32(0), jnp.float32(1.0))
FITNESS = fitness.Fitness((fitness.Area(),), (1.0,), (fitness.KeepsClass(), fitness.LosesClass()))
COPY = ops.Uniform(0.0)
MIXTURE = ops.Mixture((ops.Move(), ops.Replace()), (1.0, 1.0), 0.0)


def evaluate(masks, threshold=0.7):
    """Sufficient and necessary where more than `threshold` of the box is kept."""
    kept = (masks & BOX[None]).sum((1, 2)).astype(jnp.float32) / PIXELS
    margin = kept - threshold
    return Evaluation(genome.area(masks), kept, margin, 1.0 - kept, -margin, 1.0 - kept, genome.boundary(masks))


def asked(key, masks, hopeful=None, threshold=0.7):
    """`evaluate` as the engine calls it; nothing is drawn here."""
    return evaluate(masks, threshold)


def problem(radii=(1, 2), region=None, penalty=None, evaluate=asked, scoring=scoring.BestOfGeneration()):
    region = jnp.ones(SHAPE, bool) if region is None else region
    return Problem(TARGET, genome.space(region, jnp.array(radii)), FITNESS, penalty, evaluate, scoring)


@functools.partial(jax.jit, static_argnames=("population", "generations"))
def run(key, founders, operators, penalty, *, population=POPULATION, generations=GENERATIONS):
    return evolve.evolve(
        key, founders, problem(penalty=penalty), operators, population=population, generations=generations
    )


def founders(num=OFFSPRING, seed=5):
    rng = np.random.default_rng(seed)
    return rng.integers([0, 0, 1], [10, 10, 3], (num, GENES, 3)).astype(np.int32)


def operators(survival, mutation=MIXTURE, crossover=ops.Uniform(0.5)):
    return Operators(ops.Tournament(2), crossover, mutation, survival)


def judged(genomes):
    """Objective and violation of genomes, each f32[N]."""
    return FITNESS.weigh(evaluate(genome.rasterize(genomes, SHAPE)), TARGET)


@functools.cache
def evolved(survival, penalty=None):
    return run(KEY, founders(), operators(survival), penalty)


every_survival = pytest.mark.parametrize(
    "survival, penalty",
    [(ops.Plus(), None), (ops.Elitism(1), None), (ops.Elitism(0), None), (ops.Plus(), (0.01, 1.0))],
    ids=["plus", "elitism", "no elite", "penalty"],
)


@every_survival
def test_the_champion_never_gets_worse(survival, penalty):
    _, info = evolved(survival, penalty)
    assert info.objective.shape == (GENERATIONS + 1,)
    merits = list(zip((-np.asarray(info.violation)).tolist(), np.asarray(info.objective).tolist()))
    assert merits == sorted(merits)
    assert merits[-1] > merits[0]


@every_survival
def test_the_record_of_a_champion_is_its_own_evaluation(survival, penalty):
    state, info = evolved(survival, penalty)
    objective, violation = judged(state.champion[None])
    np.testing.assert_allclose(info.objective[-1], objective[0], rtol=1e-6)
    np.testing.assert_allclose(info.violation[-1], violation[0], atol=1e-6)
    np.testing.assert_allclose(-info.objective, info.evaluation.area, rtol=1e-6)
    expected = evaluate(genome.rasterize(state.champion[None], SHAPE))
    np.testing.assert_allclose(state.champion_evaluation.confidence, expected.confidence, rtol=1e-6)


@every_survival
def test_survivors_come_with_their_own_evaluations(survival, penalty):
    state, _ = evolved(survival, penalty)
    assert state.genomes.shape == (POPULATION, GENES, 3) and state.genomes.dtype == jnp.int32
    expected = evaluate(genome.rasterize(state.genomes, SHAPE))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), state.evaluation, expected)


@pytest.mark.parametrize("survival", [ops.Plus(), ops.Elitism(1)], ids=repr)
def test_the_best_survives(survival):
    state, _ = evolved(survival)
    assert state.champion.tolist() in state.genomes.tolist()


def test_the_champion_is_the_best_founder_where_nothing_varies():
    state, info = run(
        KEY, founders(), operators(ops.Plus(), ops.Mixture((ops.Drop(),), (1.0,), 0.0)), None, generations=0
    )
    best = int(np.argmax(fitness.ranks(*judged(founders()))))
    assert state.champion.tolist() == founders()[best].tolist()
    assert info.evaluation.area.shape == (1,)


def test_children_have_two_different_parents():
    """The published code looked the second parent up with the first one's index, so nothing was ever mixed."""
    single = founders()
    single[:, :, 0] = np.arange(OFFSPRING)[:, None]  # the row names the founder
    keep = lambda fitness, num: num + jnp.arange(num)  # children only
    mixing = Operators(ops.Tournament(1), ops.OnePoint(), lambda key, genome, space: genome, keep)
    state, _ = jax.jit(
        lambda key, founders: evolve.evolve(key, founders, problem(), mixing, population=POPULATION, generations=1)
    )(KEY, single)
    parents = [len(set(rows)) for rows in state.genomes[..., 0].tolist()]
    assert max(parents) == 2 and np.mean(parents) > 1.5


def test_every_generation_evaluates_its_offspring_once_and_scores_once():
    seen = []

    def counting(key, masks, hopeful):
        jax.debug.callback(lambda _: seen.append(len(masks)), masks[0, 0, 0])
        return evaluate(masks)

    task = problem(evaluate=counting, scoring=lambda *_: jnp.ones(SHAPE))
    sizes = {"population": POPULATION, "generations": 4}
    state, _ = jax.jit(lambda key, founders: evolve.evolve(key, founders, task, operators(ops.Plus()), **sizes))(
        KEY, founders()
    )
    np.testing.assert_array_equal(state.score, np.full(SHAPE, 5.0))
    jax.effects_barrier()
    assert seen == [OFFSPRING] * 5


@pytest.mark.parametrize("penalty", [None, (0.1, 10.0)])
def test_hopeful_are_those_that_would_stand_best_if_their_inverse_lost_the_class(penalty):
    """Of four masks: the smallest that keeps the class, a larger one, one that nearly keeps it, and one far from it."""
    seen = Evaluation(
        *(jnp.array(x) for x in ([0.5, 0.8, 0.1, 0.05], [0.9] * 4, [1.0, 1.0, -0.01, -9.0])),
        *[jnp.full(4, jnp.nan)] * 4,
    )
    task = problem(penalty=penalty)
    assert evolve.hopeful(task, jnp.float32(0.0)) is None
    num, rank = evolve.hopeful(task._replace(inverses=2), jnp.float32(0.0))
    best = [0, 1, 2, 3] if penalty is None else [2, 0, 1, 3]  # at a low price what nearly holds is worth a look
    assert num == 2 and np.argsort(-rank(seen)).tolist() == best
    dear = evolve.hopeful(task._replace(inverses=2, penalty=(100.0, 100.0)), jnp.float32(1.0))
    assert np.argsort(-dear.rank(seen)).tolist() == [0, 1, 2, 3]


def test_a_mask_whose_inverse_was_not_seen_is_never_champion():
    """All but one child are blind in their inverse; the one is the worst of them in area, and wins."""

    def half_blind(key, masks, hopeful):
        evaluation = evaluate(masks)
        hidden = jnp.arange(len(masks)) != len(masks) - 1
        return Evaluation(
            **{**vars(evaluation), "inverse_margin": jnp.where(hidden, jnp.nan, evaluation.inverse_margin)}
        )

    crowd = jnp.tile(jnp.array([[[4, 5, 2]]], jnp.int32), (OFFSPRING, GENES, 1)).at[-1, 0].set(jnp.array([4, 5, 4]))
    task = problem(evaluate=half_blind)
    state = evolve.init(SHAPE, POPULATION, GENES)
    state, info = evolve.step(KEY, state, crowd, task, operators(ops.Plus()), jnp.float32(0.0))
    assert info.violation == 0
    np.testing.assert_array_equal(state.champion, crowd[-1])


def test_a_run_is_the_same_again_and_another_with_another_key():
    first, again = (run(KEY, founders(), operators(ops.Plus()), None)[0] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other, _ = run(jax.random.key(1), founders(), operators(ops.Plus()), None)
    assert other.genomes.tolist() != first.genomes.tolist()


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_penalty_rises_geometrically_over_a_stage(progress):
    """Two masks that tie at exactly the expected penalty change places beside it."""
    penalty = 0.1 * 100.0**progress
    for violation, order in [(0.99 * 0.25 / penalty, [1, 0]), (1.01 * 0.25 / penalty, [0, 1])]:
        margin = jnp.array([fitness.SLACK - violation, 1.0])
        blind = jnp.full(2, -jnp.inf)  # the inverse loses the class for certain
        evaluation = Evaluation(jnp.array([0.25, 0.5]), margin, margin, margin, blind, margin, margin)
        task = problem(penalty=(0.1, 10.0))
        assert evolve.standing(evaluation, task, jnp.float32(progress)).tolist() == order
    # Without a penalty, feasible comes first.
    assert evolve.standing(evaluation, problem(), jnp.float32(progress)).tolist() == [0, 1]


def test_places_that_were_never_filled_rank_last():
    state = evolve.init(SHAPE, POPULATION, GENES)
    evaluation = jax.tree.map(lambda x: x.at[3].set(0.5), state.evaluation)
    assert int(jnp.argmax(evolve.standing(evaluation, problem(), jnp.float32(0)))) == 3


# -------------------------------------------------------------------------------------------------------- refining


def refined(key, stages, threshold=0.7, collect=None, told=None):
    judge, moves = functools.partial(asked, threshold=threshold), operators(ops.Plus())
    parts = refine.Parts(TARGET, FITNESS, moves, judge, scoring.BestOfGeneration(), collect)
    begin = jax.jit(functools.partial(refine.begin, collect=collect), static_argnames="size")
    advance = jax.jit(
        lambda size, plan, cycle, first, stop: refine.advance(key, size, plan, cycle, parts, first, stop),
        static_argnames="size",
    )
    steps = refine.Steps(
        lambda size, founding, plan, found: begin(key, size, founding, plan, found),
        advance,
        jax.jit(refine.end),
    )
    start = refine.start(jnp.ones(SHAPE, bool), size_of(stages[0]), moves, scoring.BestOfGeneration(), collect)
    return refine.refine(stages, start, steps, told)


STAGES = (
    Stage("gross", population=POPULATION, genes=GENES, radii=(3, 4), generations=6, offspring=OFFSPRING),
    Stage("fine", population=POPULATION, genes=5, radii=(1, 2), generations=12, offspring=OFFSPRING),
)


def test_stages_search_inside_the_mask_before_and_improve_on_it():
    found = refined(KEY, STAGES)
    gross, fine = np.asarray(found.masks)
    assert found.violation.tolist() == [0, 0]
    assert not (fine & ~gross).any() and fine.sum() < gross.sum()
    np.testing.assert_array_equal(fine, gross & np.asarray(genome.rasterize(found.genome, SHAPE)))
    assert [info.evaluation.area.shape for info in found.infos] == [(7,), (13,)]
    for info, mask in zip(found.infos, (gross, fine)):
        assert float(info.evaluation.area[-1]) == pytest.approx(mask.mean(), rel=1e-6)
    assert (fine & BOX).sum() > 0.7 * BOX.sum()


def test_the_score_lies_where_patches_were():
    found = refined(KEY, STAGES)
    # Of a feasible champion every patch adds confidence / pixels: the mask's own pixels get more than none.
    assert float(found.score.max()) > 0
    assert (np.asarray(found.score)[np.asarray(found.masks[-1])] != 0).all()


def test_a_stage_that_fails_does_not_confine_the_next():
    found = refined(KEY, STAGES, threshold=2.0)  # more than all of the box
    gross, fine = np.asarray(found.masks)
    assert (np.asarray(found.violation) > 0).all()
    np.testing.assert_array_equal(fine, np.asarray(genome.rasterize(found.genome, SHAPE)))
    assert gross.any()


def test_cycles_are_what_as_many_stages_of_their_own_are():
    gross, fine = STAGES
    fine = dataclasses.replace(fine, generations=4, founders=ops.Bracket(0.6), penalty=(0.5, 2.0))
    cyclic = refined(KEY, (gross, dataclasses.replace(fine, cycles=3)))
    apart = refined(KEY, (gross, fine, fine, fine))
    np.testing.assert_array_equal(cyclic.masks, np.asarray(apart.masks)[[0, -1]])
    np.testing.assert_array_equal(cyclic.genome, apart.genome)
    np.testing.assert_array_equal(cyclic.score, apart.score)
    joined = jax.tree.map(lambda *infos: np.concatenate(infos), *apart.infos[1:])
    jax.tree.map(np.testing.assert_array_equal, cyclic.infos[1], joined)
    assert cyclic.infos[1].objective.shape == (15,)
    assert (np.diff(joined.evaluation.area[joined.violation == 0]) <= 0).all()  # the champion is handed on


def test_the_front_is_of_all_cycles():
    fine = dataclasses.replace(STAGES[1], generations=4, founders=ops.Bracket(0.6))
    collected = functools.partial(refined, collect=Collect(6))
    cyclic = collected(KEY, (dataclasses.replace(fine, cycles=3),)).archives[0]
    apart = [archive.evaluation.confidence for archive in collected(KEY, (fine, fine, fine)).archives]
    np.testing.assert_array_equal(cyclic.evaluation.confidence, np.max(apart, axis=0))
    assert np.isfinite(cyclic.evaluation.confidence).sum() > 1
