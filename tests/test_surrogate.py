"""The Gaussian process is the one of the book, and the screening sends the right children to the classifier."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evomask import operators as ops
from evomask import presets, validate
from evomask.search import evolve, fitness, genome
from evomask.search.evolve import Operators, Problem
from evomask.search.sketches import sketch
from evomask.search.surrogate import Screening, check_screening, decode, encode, improvement
from evomask.types import Evaluation, InputError, Target

SHAPE, CELLS = (12, 20), 4
KEY = jax.random.key(0)
SCREENING = Screening(grid=20, reach=0.5)
TARGET = Target(jnp.zeros((*SHAPE, 1)), jnp.int32(0), jnp.float32(0.9))
GAIN = np.linspace(-1.5, 2.0, CELLS * CELLS, dtype=np.float32)  # nats that each cell is worth


def random_masks(key, num):
    return jax.random.bernoulli(key, 0.5, (num, *SHAPE))


def coarse_masks(key, num):
    """Masks that keep all of a cell or nothing of it."""
    cells = jax.random.bernoulli(key, 0.5, (num, CELLS, CELLS))
    return cells.repeat(SHAPE[0] // CELLS, axis=1).repeat(SHAPE[1] // CELLS, axis=2)


def linear_evaluation(masks):
    """A classifier whose margin is linear in the cells that are kept; the inverse-masked image sees the other cells."""
    cells = masks.reshape(-1, CELLS, SHAPE[0] // CELLS, CELLS, SHAPE[1] // CELLS)
    kept = cells.mean((2, 4)).reshape(-1, CELLS * CELLS)
    margin, inverse = kept @ GAIN - 1.0, (1.0 - kept) @ GAIN - 3.0
    return Evaluation(
        genome.area(masks),
        jax.nn.sigmoid(margin),
        margin,
        jax.nn.sigmoid(inverse),
        inverse,
        jnp.full(len(masks), jnp.nan),
        genome.boundary(masks),
    )


def learnt(generations, screening=SCREENING):
    model = screening.init(SHAPE)
    for key in jax.random.split(KEY, generations):
        masks = coarse_masks(key, 20)
        model = screening.learn(model, masks, linear_evaluation(masks))
    return model


def by_the_book(screening, samples, targets, masks):
    """Universal kriging in float64 (Rasmussen & Williams 2006, sections 2.2 and 2.7), with nothing of the library."""
    near = lambda a, b: np.exp(-(np.asarray(a)[:, None] != np.asarray(b)[None]).mean((2, 3)) / screening.reach)
    inverse = np.linalg.inv(near(samples, samples) + screening.noise * np.eye(len(samples)))
    mean = inverse.sum(0) @ targets / inverse.sum()
    variance = (targets - mean) @ inverse @ (targets - mean) / len(samples)
    across = near(masks, samples)
    left = 1.0 + screening.noise - np.einsum("pn,nm,pm->p", across, inverse, across)
    return mean + across @ inverse @ (targets - mean), np.sqrt(left * variance)


def test_predictions_are_those_of_the_book():
    """With a sketch as large as the image the distance of two masks is the share of pixels in which they differ."""
    masks, fresh = random_masks(KEY, 40), random_masks(jax.random.key(1), 7)
    targets = np.asarray(encode(linear_evaluation(masks)), np.float64)
    model = SCREENING.learn(SCREENING.init(SHAPE), masks, linear_evaluation(masks))
    mean, deviation = SCREENING.posterior(model, fresh)
    for target in range(4):
        expected = by_the_book(SCREENING, masks, targets[:, target], fresh)
        np.testing.assert_allclose(mean[:, target], expected[0], atol=1e-3)
        np.testing.assert_allclose(deviation[:, target], expected[1], rtol=1e-3)
    np.testing.assert_array_equal(mean[:, 4], 0.0)  # the distance that nobody asked for


def test_what_was_seen_is_predicted_and_certain():
    masks = random_masks(KEY, 20)
    model = SCREENING.learn(SCREENING.init(SHAPE), masks, linear_evaluation(masks))
    mean, deviation = SCREENING.posterior(model, masks)
    unseen = SCREENING.posterior(model, random_masks(jax.random.key(1), 20))[1]
    np.testing.assert_allclose(mean[:, 1], linear_evaluation(masks).margin, atol=0.1)
    assert deviation[:, 1].max() < 0.2 * unseen[:, 1].min()


def test_large_masks_are_predicted_by_their_sketches():
    """Masks that differ in a corner as large as a sketch only: it tells them apart as exactly as all pixels do."""
    corner = jnp.zeros(SHAPE, bool).at[:5, :5].set(True)
    masks, fresh = (random_masks(jax.random.key(n), 30) & corner[None] for n in (1, 2))
    answers = []
    for grid in (5, 20):
        screening = dataclasses.replace(SCREENING, grid=grid)
        model = screening.learn(screening.init(SHAPE), masks, linear_evaluation(masks))
        assert model.sketches.dtype == (jnp.float32 if grid == 5 else jnp.uint32)
        answers.append(screening.posterior(model, fresh))
    for sketched, exact in zip(*answers, strict=True):
        np.testing.assert_allclose(sketched, exact, rtol=1e-3, atol=1e-3)


def test_a_linear_classifier_is_learnt():
    fresh = coarse_masks(jax.random.key(1), 500)
    mean, _ = SCREENING.posterior(learnt(10), fresh)
    for target, truth in ((1, linear_evaluation(fresh).margin), (3, linear_evaluation(fresh).inverse_margin)):
        assert (mean[:, target] - truth).std() < 0.1 * truth.std()


def test_errors_are_as_large_as_is_said():
    """Of functions that are drawn from the process, with a scale and a mean of their own, standard errors have variance
    1.
    """
    masks = random_masks(KEY, 300)
    sketches = sketch(masks, SCREENING.grid)
    covariance = SCREENING.correlation(sketches, sketches, masks[0].size) + SCREENING.noise * jnp.eye(300)
    drawn = 1.0 + 0.5 * jnp.linalg.cholesky(covariance) @ jax.random.normal(jax.random.key(1), (300, 2))
    seen = dataclasses.replace(linear_evaluation(masks), margin=drawn[:, 0], inverse_margin=drawn[:, 1])
    part = lambda rows: jax.tree.map(lambda field: field[rows], (masks, seen))
    mean, deviation = SCREENING.posterior(SCREENING.learn(SCREENING.init(SHAPE), *part(slice(200))), masks[200:])
    errors = ((drawn[200:] - mean[:, jnp.array([1, 3])]) / deviation[:, jnp.array([1, 3])]).reshape(-1)
    assert abs(float(jnp.square(errors).mean()) - 1.0) < 4 * (2 / errors.size) ** 0.5


def test_a_model_that_knows_nothing_says_so():
    model, masks = SCREENING.init(SHAPE), random_masks(KEY, 3)
    for figures in SCREENING.posterior(model, masks):
        np.testing.assert_array_equal(figures, 0.0)
    assert np.isfinite(jax.tree.leaves(SCREENING.predict(KEY, model, masks))).all()


def test_masks_whose_inverse_was_not_seen_tell_nothing_about_inverses():
    """Half of the masks have no inverse: what is said of masks comes from all, of inverses from the other half."""
    masks, fresh = random_masks(KEY, 40), random_masks(jax.random.key(1), 9)
    seen = linear_evaluation(masks)
    blind = {name: getattr(seen, name).at[20:].set(jnp.nan) for name in ("inverse_confidence", "inverse_margin")}
    every, half = (SCREENING.learn(SCREENING.init(SHAPE), masks[:n], linear_evaluation(masks[:n])) for n in (40, 20))
    mixed = SCREENING.learn(SCREENING.init(SHAPE), masks, dataclasses.replace(seen, **blind))
    found = SCREENING.posterior(mixed, fresh)
    for targets, model in (([0, 1, 4], every), ([2, 3], half)):
        for values, expected in zip(found, SCREENING.posterior(model, fresh), strict=True):
            np.testing.assert_allclose(values[:, targets], expected[:, targets], rtol=1e-4, atol=1e-5)


def test_the_oldest_masks_are_forgotten():
    screening = dataclasses.replace(SCREENING, memory=20)
    first, last, fresh = random_masks(KEY, 20), random_masks(jax.random.key(1), 20), random_masks(jax.random.key(2), 5)
    only = screening.learn(screening.init(SHAPE), last, linear_evaluation(last))
    both = screening.learn(
        screening.learn(screening.init(SHAPE), first, linear_evaluation(first)), last, linear_evaluation(last)
    )
    for values, expected in zip(screening.posterior(both, fresh), screening.posterior(only, fresh), strict=True):
        np.testing.assert_array_equal(values, expected)


def test_draws_are_as_uncertain_as_the_posterior():
    model, fresh = learnt(2), random_masks(jax.random.key(1), 3)
    drawn = dataclasses.replace(SCREENING, draws=4000).predict(KEY, model, fresh)
    mean, deviation = SCREENING.posterior(model, fresh)
    for target, values in ((1, drawn.margin), (3, drawn.inverse_margin)):
        np.testing.assert_allclose(values.std(0), deviation[:, target], rtol=5 * (2 * 4000) ** -0.5)
        np.testing.assert_allclose(
            values.mean(0), mean[:, target], atol=5 * float(deviation[:, target].max()) / 4000**0.5
        )
    together = lambda a, b: float(jnp.corrcoef(a[:, 0], b[:, 0])[0, 1])
    assert together(jax.scipy.special.logit(drawn.confidence), drawn.margin) == pytest.approx(1.0, abs=1e-3)
    assert abs(together(drawn.margin, drawn.inverse_margin)) < 5 / 4000**0.5


def test_encoded_and_decoded_is_the_same():
    evaluation = linear_evaluation(random_masks(KEY, 6))
    again = decode(encode(evaluation), evaluation.area, evaluation.boundary)
    for name in ("area", "boundary", "confidence", "margin", "inverse_confidence", "inverse_margin"):
        np.testing.assert_allclose(getattr(again, name), getattr(evaluation, name), rtol=1e-4, err_msg=name)
    assert np.isfinite(jax.tree.leaves(again)).all()


def test_what_was_not_asked_for_and_what_is_certain_stay_finite():
    wild = Evaluation(*(jnp.array([x]) for x in (0.5, 0.0, jnp.inf, jnp.nan, -jnp.inf, jnp.nan, 0.5)))
    assert encode(wild).tolist() == [[-8.0, 8.0, 0.0, -8.0, 0.0]]


def test_expected_improvement_prefers_a_chance_to_a_certainty():
    values = jnp.array([[0.5, 2.0, 0.9], [0.5, -9.0, 0.9]])  # draws of three children
    assert jnp.argmax(improvement(values, jnp.float32(1.0))) == 1
    assert jnp.argmax(improvement(values, jnp.float32(5.0))) == 2  # nothing can improve: the best mean


@pytest.mark.parametrize("shape", [(12, 20), (13, 17)])
@pytest.mark.parametrize("samples", [6, 100])
def test_candidates_are_looked_at_on_a_coarse_raster(shape, samples):
    screening = dataclasses.replace(SCREENING, samples=samples)
    region = jnp.zeros(shape, bool).at[:9].set(True)
    genomes = jnp.array([[[3, 4, 2], [8, 11, 3]], [[1, 1, 1], [0, 0, -1]]])
    coarse = screening.rasterize(genomes, region)
    assert max(coarse.shape[1:]) <= samples
    step = -(-max(shape) // samples)
    whole = region[None] & genome.rasterize(genomes, shape)
    np.testing.assert_array_equal(coarse, whole[:, step // 2 :: step, step // 2 :: step])


def test_masks_that_were_seen_lately_are_known():
    screening, masks = dataclasses.replace(SCREENING, recent=12), random_masks(KEY, 20)
    model = screening.learn(screening.init(SHAPE), masks[:8], linear_evaluation(masks[:8]))
    model = screening.learn(model, masks[8:16], linear_evaluation(masks[8:16]))
    known = screening.is_known(model, masks)
    np.testing.assert_array_equal(known, np.isin(np.arange(20), [0, 1, 2, 3, *range(8, 16)]))  # 12 are remembered
    assert screening.is_known(screening.init(SHAPE), jnp.zeros((1, *SHAPE), bool)).all()  # the empty one always is


def test_of_equal_candidates_the_first_is_not_known():
    masks = random_masks(KEY, 3)[jnp.array([0, 1, 0, 2, 1, 1])]
    known = SCREENING.is_known(SCREENING.init(SHAPE), masks)
    np.testing.assert_array_equal(known, [False, False, True, False, True, True])


def problem(penalty=(0.5, 0.5)):
    space = genome.space(jnp.ones(SHAPE, bool), jnp.array([1, 2, 3]))
    evaluate = lambda key, masks, hopeful: linear_evaluation(masks)
    return Problem(TARGET, space, fitness.smallest_complete(), penalty, evaluate, lambda *_: jnp.zeros(SHAPE))


@pytest.mark.parametrize("penalty", [(0.5, 0.5), None])
def test_the_most_promising_children_are_chosen(penalty):
    """Where the model is certain, those are the children of the largest value."""
    task, screening = problem(penalty), dataclasses.replace(SCREENING, noise=1e-5)
    children = genome.sample(KEY, task.space, 30 * 6).reshape(30, 6, 3)
    masks = genome.rasterize(children, SHAPE)
    certain = SCREENING.learn(SCREENING.init(SHAPE), masks, linear_evaluation(masks))
    certain = dataclasses.replace(certain, seen=jnp.zeros_like(certain.seen))  # and yet all children are new
    state = dataclasses.replace(evolve.init(SHAPE, 2, 6, certain), evaluation=linear_evaluation(random_masks(KEY, 2)))
    chosen = evolve.screen(KEY, state, children, task, screening, 5, jnp.float32(0.5))
    objective, violation = task.fitness.weigh(linear_evaluation(masks), TARGET)
    value = objective - (evolve.STRICT_PRICE if penalty is None else 0.5) * violation
    best = children[jnp.argsort(-value)[:5]]
    np.testing.assert_array_equal(np.unique(chosen, axis=0), np.unique(best, axis=0))


def test_a_screened_search_evaluates_no_more_masks_and_ends_feasible():
    task, seen = problem((0.1, 5.0)), []

    def evaluate(key, masks, hopeful):
        seen.append(len(masks))
        return linear_evaluation(masks)

    task = task._replace(evaluate=evaluate)
    moves = ops.Mixture((ops.Move(), ops.Resize(), ops.Drop()), (1.0, 1.0, 1.0))

    @jax.jit
    def last(operators, key):
        founders = genome.sample(key, task.space, 8 * 6).reshape(8, 6, 3)
        state, info = evolve.evolve(key, founders, task, operators, population=8, generations=15)
        return state, info.violation[-1]

    for screening in (SCREENING, None):
        state, violation = last(Operators(ops.Tournament(2), ops.Uniform(0.5), moves, ops.Plus(), screening), KEY)
        assert violation == 0
        assert (state.model is None) == (screening is None)
        if screening is not None:  # no mask was evaluated twice in 16 generations
            assert len(np.unique(state.model.seen[: 16 * 8])) == 16 * 8
    assert seen == [8, 8]  # one trace of each program, of eight masks a generation
    last(
        Operators(ops.Tournament(2), ops.Uniform(0.5), moves, ops.Plus(), dataclasses.replace(SCREENING, reach=0.3)),
        KEY,
    )
    assert seen == [8, 8]  # a float of the screening compiles nothing again


def test_without_a_screening_nothing_is_learnt():
    assert presets.dissertation().operators.screening is None
    assert evolve.init(SHAPE, 2, 6).model is None


@pytest.mark.parametrize(
    "wrong",
    [{"candidates": 0}, {"grid": 2.5}, {"draws": -1}, {"samples": 0}, {"memory": 0}, {"reach": 0.0}, {"noise": -0.1}],
)
def test_bad_values_are_named(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"screening: {name} is"):
        check_screening(Screening(**wrong))
    config = presets.smallest()
    config = dataclasses.replace(config, operators=dataclasses.replace(config.operators, screening=Screening(**wrong)))
    with pytest.raises(InputError, match=name):
        validate.configuration(config, (32, 32))
