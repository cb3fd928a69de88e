"""The compiled search against the plain loop: the preset `dissertation` is the published algorithm, mask for mask."""

import collections
import dataclasses

import jax
import numpy as np
import oracles
import pytest

import evomask
from evomask import operators, presets
from evomask.types import InputError
from experiments.timing import sequential

SIDE = 16
BOXES = ((2, 2, 4, 4), (8, 10, 4, 4))
ORACLE = oracles.BoxOracle(boxes=BOXES, sharpness=8.0)
# Multiples of an eighth: every sum is exact, so it does not matter in which order who adds.
IMAGE = (np.random.default_rng(0).integers(0, 4, (SIDE, SIDE, 1)) / 8).astype(np.float32)
IMAGE = np.maximum(IMAGE, oracles.lit(BOXES, SIDE, SIDE, 1))


def config(population=10, genes=(4, 6), generations=(8, 10)):
    published = presets.dissertation()
    sizes = zip(published.stages, genes, generations, ((3, 4, 5), (1, 2)))
    stages = [
        dataclasses.replace(stage, population=population, genes=num, generations=rounds, radii=radii)
        for stage, num, rounds, radii in sizes
    ]
    return dataclasses.replace(published, stages=tuple(stages))


@pytest.mark.parametrize(("settings", "seeds"), [(config(), 3), (config(population=7), 1)], ids=["even", "odd"])
def test_same_key_same_masks(settings, seeds):
    feasible = 0
    for seed in range(seeds):
        key = jax.random.key(seed)
        plain = sequential.explain(ORACLE, IMAGE, 1, key=key, config=settings)
        compiled = evomask.explain(ORACLE, IMAGE[None], key=key, labels=[1], config=settings)
        np.testing.assert_array_equal(compiled.genome[0], plain.genome)
        np.testing.assert_array_equal(compiled.stage_masks[0], plain.masks)
        np.testing.assert_allclose(compiled.score[0], plain.score, atol=1e-5)
        history = {name: [getattr(seen, name) for seen in plain.history] for name in sequential.Seen._fields}
        np.testing.assert_allclose(compiled.history.fitness[0], history["objective"], rtol=1e-5)
        np.testing.assert_allclose(compiled.history.confidence[0], history["confidence"], rtol=1e-5)
        np.testing.assert_allclose(compiled.history.area[0], history["area"], rtol=1e-6)
        np.testing.assert_array_equal(compiled.history.feasible[0], np.array(history["violation"]) == 0)
        assert compiled.evaluations[0] == plain.evaluations == settings.evaluations
        feasible += compiled.history.feasible[0].sum()
    assert 2 * seeds <= feasible < seeds * len(plain.history)  # both kinds of comparison were needed


def test_the_calls_of_the_published_code_find_the_same():
    plain = sequential.explain(ORACLE, IMAGE, 1, key=jax.random.key(0), config=config())
    again = sequential.explain(ORACLE, IMAGE, 1, key=jax.random.key(0), config=config(), as_published=True)
    np.testing.assert_array_equal(again.masks, plain.masks)
    np.testing.assert_allclose(again.score, plain.score, atol=1e-5)
    assert again.evaluations == plain.evaluations
    for seen, known in zip(again.history, plain.history, strict=True):
        np.testing.assert_allclose(seen, known, rtol=1e-5)


def test_a_mask_costs_nine_calls_as_published(monkeypatch):
    calls = collections.Counter()
    for name in ("_features", "_to_depth", "_logits"):
        original = getattr(sequential, name)
        monkeypatch.setattr(
            sequential, name, lambda *a, name=name, original=original: calls.update([name]) or original(*a)
        )
    found = sequential.explain(ORACLE, IMAGE, 1, key=jax.random.key(0), config=config(), as_published=True)
    masks = found.evaluations // 2
    assert calls == {"_features": 1, "_to_depth": 6 * masks, "_logits": 3 * masks}


def test_the_loop_stays_in_the_region_and_gets_better():
    plain = sequential.explain(ORACLE, IMAGE, 1, key=jax.random.key(0), config=config())
    assert (plain.masks[1] <= plain.masks[0]).all() or plain.history[8].violation > 0
    for stage in (plain.history[:9], plain.history[9:]):
        ranks = [(seen.violation, -seen.objective) for seen in stage]
        assert ranks == sorted(ranks, reverse=True)
    assert plain.score.max() == 1 and plain.score.min() == 0 and not plain.score[~plain.masks[1]].any()


def test_other_algorithms_are_refused():
    settings = config()
    other = dataclasses.replace(settings.operators, crossover=operators.Uniform(0.5))
    with pytest.raises(InputError, match="the sequential loop is the preset dissertation; its operators cannot be"):
        sequential.explain(
            ORACLE, IMAGE, 1, key=jax.random.key(0), config=dataclasses.replace(settings, operators=other)
        )
