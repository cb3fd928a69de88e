"""The score matrix: each rule against NumPy's sums over what was seen, and what is made of the sums in the end."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats

import evomask
from evomask import explaining, presets
from evomask.search import scoring
from evomask.search.scoring import GoodMasks, MainEffects, Seen
from evomask.types import Evaluation, record

SHAPE, NUM = (5, 6), 40
RULE = MainEffects()


def generation(rng):
    """Random masks, confidences of steps of 1/4096 (of which sums are exact), a third of the inverses not asked for."""
    masks = rng.uniform(size=(NUM, *SHAPE)) < 0.5
    confidence, inverse = rng.integers(0, 4097, (2, NUM)).astype(np.float32) / 4096
    inverse[rng.uniform(size=NUM) < 1 / 3] = np.nan
    nothing = np.zeros(NUM, np.float32)
    return masks, Evaluation(masks.mean((1, 2)), confidence, nothing, inverse, nothing, nothing, nothing)


def told(masks, evaluated):
    return Seen(None, None, None, None, jnp.asarray(masks), jax.tree.map(jnp.asarray, evaluated))


def test_main_effects_are_means_of_differences_of_means_with_welchs_error():
    rng, sums, seen = np.random.default_rng(0), RULE.init(SHAPE), ([], [])
    for _ in range(3):
        masks, evaluated = generation(rng)
        sums = jax.tree.map(jnp.add, sums, jax.jit(RULE)(told(masks, evaluated)))
        seen[0].extend(zip(masks, evaluated.confidence))
        seen[1].extend((~mask, y) for mask, y in zip(masks, evaluated.inverse_confidence) if np.isfinite(y))
    effect, error = RULE.effects(sums)
    assert sums.num.tolist() == [len(seen[0]), len(seen[1])]
    for pixel in np.ndindex(SHAPE):
        differences, errors = [], []
        for kind in seen:
            on, off = ([np.float64(y) for picture, y in kind if picture[pixel] == is_on] for is_on in (True, False))
            differences.append(np.mean(on) - np.mean(off))
            errors.append(differences[-1] / stats.ttest_ind(on, off, equal_var=False).statistic)
        assert effect[pixel] == pytest.approx(np.mean(differences), abs=1e-6)
        assert error[pixel] == pytest.approx(np.hypot(*errors) / 2, rel=1e-3)  # squares are summed in steps


@pytest.mark.parametrize("asked", [True, False])
def test_good_masks_are_a_weighted_mean_of_what_was_seen(asked):
    rng, rule, weights, seen = np.random.default_rng(0), GoodMasks(0.1), [], []
    sums = rule.init(SHAPE)
    for spread in (0.2, 1.0, 0.5):  # the best mask is found in the second generation
        masks, evaluated = generation(rng)
        evaluated.confidence[:] *= spread
        if not asked:
            evaluated.inverse_confidence[:] = np.nan
        sums = jax.jit(rule.merge)(sums, jax.jit(rule)(told(masks, evaluated)))
        goodness = evaluated.confidence - (evaluated.inverse_confidence if asked else evaluated.area)
        known = np.isfinite(goodness)
        weights.extend(np.exp2(np.floor(goodness[known] / np.float32(0.1 * np.log(2.0)))))
        seen.extend(masks[known])
    mean = np.average(np.array(seen, float), axis=0, weights=weights)
    np.testing.assert_allclose(rule.contributions(sums), mean, atol=2e-3)  # the least weights are left out


def test_merging_is_in_any_order_and_with_nothing_changes_nothing():
    rule = GoodMasks()
    one, two = (rule(told(*generation(np.random.default_rng(seed)))) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, rule.merge(one, two), rule.merge(two, one))
    jax.tree.map(np.testing.assert_array_equal, rule.merge(rule.init(SHAPE), one), one)
    assert rule.contributions(rule.init(SHAPE)).tolist() == np.zeros(SHAPE).tolist()


@pytest.mark.parametrize("rule", [MainEffects(), GoodMasks()])
def test_sums_do_not_depend_on_the_compiler(rule):
    masks, evaluated = generation(np.random.default_rng(1))
    evaluated.confidence[:] = np.random.default_rng(2).uniform(size=NUM)  # any floats
    eager, compiled = rule(told(masks, evaluated)), jax.jit(rule)(told(masks, evaluated))
    many = jax.vmap(rule)(jax.tree.map(lambda x: jnp.stack([x, x]), told(masks, evaluated)))
    jax.tree.map(np.testing.assert_array_equal, eager, compiled)
    jax.tree.map(lambda one, two: np.testing.assert_array_equal(one, two[1]), eager, many)


def test_what_is_not_known_is_not_a_number_and_counts_as_no_effect():
    masks, evaluated = generation(np.random.default_rng(0))
    masks[:, 0, 0] = True  # no masked picture is without it, and no inverse-masked one with it
    sums = jax.tree.map(np.asarray, RULE(told(masks, evaluated)))
    effect, error = RULE.effects(sums)
    assert np.isnan(effect[0, 0]) and np.isnan(error[0, 0])
    assert np.isfinite(effect).sum() == np.isfinite(error).sum() == 29
    mask = np.zeros((1, *SHAPE), bool)
    made = scoring.scores(RULE, jax.tree.map(lambda x: x[None], sums), mask, np.full(mask.shape, np.nan), False)
    ranks = np.argsort(np.argsort(np.nan_to_num(effect).reshape(-1)))
    np.testing.assert_array_equal(np.argsort(np.argsort(made.score.reshape(-1))), ranks)
    assert made.score.min() == 0 and made.score.max() == np.float32(0.375)  # none is in the mask


def test_an_explanation_has_signed_effects_of_the_pixels_that_count():
    box = (4, 4, 4, 4)
    oracle, image = oracles.BoxOracle(boxes=(box,), threshold=0.5), oracles.lit(box, 16, 16, background=0.2)
    found = evomask.explain(oracle, image[None], key=0, config=presets.smallest(800))[0]
    inside = oracles.box_mask(box, 16, 16)
    assert found.effect.shape == found.effect_error.shape == (16, 16)
    known = np.isfinite(found.effect)
    assert known[inside].all() and found.effect[inside].mean() > 3 * np.abs(found.effect[~inside & known]).mean()
    assert (found.effect[inside] > 0).all()
    assert found.score[inside].mean() > 4 * found.score[~inside].mean()
    assert len(np.unique(found.score)) > 50


@record
class Largest:
    """How many masks were evaluated in the largest of the generations: no sum that can be added up."""

    def init(self, shape):
        return jnp.full(shape, -1.0)

    def __call__(self, seen):
        return jnp.full(seen.space.shape, float(len(seen.masks)))

    def merge(self, sums, others):
        return jnp.maximum(sums, others)


def test_the_sums_of_all_generations_and_stages_are_merged_as_the_rule_says():
    oracle, key = oracles.BoxOracle(boxes=((4, 4, 4, 4),)), jax.random.key(0)
    config = presets.dissertation(600).replace(scoring=Largest())
    options = {"key": key, "config": config, "mesh": None}
    questions = explaining.pose(oracle, np.ones((1, 16, 16, 3)), None, None, **options)
    largest = max(stage.num_offspring for stage in config.sought.stages)
    assert len(config.sought.stages) == 2
    np.testing.assert_array_equal(
        explaining.search(oracle, key, config, questions).score, np.full((1, 16, 16), largest)
    )


def test_rules_that_say_nothing_of_effects_leave_them_out():
    config = presets.smallest(400).replace(scoring=scoring.BestOfGeneration())
    found = evomask.explain(oracles.BoxOracle(boxes=((4, 4, 4, 4),)), np.ones((1, 16, 16, 3)), key=0, config=config)
    assert found.effect is None and found.effect_error is None and found.score.max() == 1
