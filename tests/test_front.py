"""The archive of the area-confidence front against brute force, and the front of a whole search."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import evomask
from evomask import operators
from evomask.search import fitness
from evomask.search.config import Config
from evomask.search.front import Archive, Collect, front
from evomask.types import Evaluation

SIDE, BINS, NUM = 8, 6, 9
COLLECT = jax.jit(Collect.add)


def generation(rng):
    """Masks of all sizes, some of which lose the class or are not necessary, with made-up figures."""
    masks = rng.uniform(size=(NUM, SIDE, SIDE)) < rng.uniform(size=(NUM, 1, 1))
    confidence, margin, inverse, inverse_margin, distance = rng.uniform(-0.3, 1, (5, NUM)).astype(np.float32)
    return masks, Evaluation(
        masks.mean((1, 2), dtype=np.float32), confidence, margin, inverse, inverse_margin, distance, distance
    )


@pytest.mark.parametrize("necessary", [False, True])
def test_the_archive_holds_the_most_confident_mask_of_every_bin(necessary):
    rng = np.random.default_rng(0)
    collect = Collect(BINS, necessary)
    archive, best = collect.init((SIDE, SIDE)), {}
    for _ in range(6):
        masks, seen = generation(rng)
        archive = COLLECT(collect, archive, masks, jax.tree.map(jnp.asarray, seen))
        for i in range(NUM):
            counts = seen.margin[i] > 0 and (seen.inverse_margin[i] < 0 or not necessary)
            slot = min(int(np.sqrt(seen.area[i]) * BINS), BINS - 1)
            if counts and seen.confidence[i] > best.get(slot, (-np.inf,))[0]:
                best[slot] = seen.confidence[i], seen.area[i], seen.inverse_confidence[i], masks[i]
    assert len(best) >= 3
    for slot in range(BINS):
        held = archive.evaluation
        if slot not in best:
            assert held.confidence[slot] == -np.inf and not archive.mask[slot].any()
            continue
        confidence, area, inverse, mask = best[slot]
        assert (held.confidence[slot], held.area[slot], held.inverse_confidence[slot]) == (confidence, area, inverse)
        np.testing.assert_array_equal(archive.mask[slot], mask)


def test_the_front_is_what_nothing_smaller_equals_over_all_stages():
    nothing = -np.inf
    fields = lambda confidence, area: Evaluation(
        *(np.array([x], np.float32) for x in (area, confidence, [1] * 4, [0.5] * 4, [-1, 1, -1, 1], [0] * 4, [0] * 4))
    )
    masks = lambda index: np.broadcast_to(np.arange(4)[None, :, None, None] + 10 * index, (1, 4, 1, 1)) >= 0
    first = Archive(fields([0.2, 0.9, nothing, 0.4], [0.01, 0.1, nothing, 0.7]), masks(0))
    second = Archive(fields([0.3, 0.8, 0.9, 1.0], [0.02, 0.12, 0.4, 0.8]), masks(1))
    found = front([first, second])
    np.testing.assert_array_equal(found.confidence, np.array([[0.3, 0.9, np.nan, 1.0]], np.float32))
    np.testing.assert_array_equal(found.area, np.array([[0.02, 0.1, np.nan, 0.8]], np.float32))
    assert found.necessary.tolist() == [[True, False, False, False]]
    assert found.mask[0, :, 0, 0].tolist() == [True, True, False, True]


BOX = (2, 2, 4, 2)
ORACLE = oracles.BoxOracle(boxes=(BOX,), threshold=0.25, sharpness=6.0)
IMAGE = oracles.lit(BOX, SIDE, SIDE, 1)[None]
CONFIG = Config(
    stages=(
        evomask.Stage("gross", population=8, genes=3, radii=(1, 2), generations=15),
        evomask.Stage("fine", population=8, genes=4, radii=(0.05, 1), generations=15),
    ),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)


def test_a_search_collects_its_front_and_is_not_changed_by_it():
    key = jax.random.key(0)
    plain = evomask.explain(ORACLE, IMAGE, key=key, config=CONFIG)
    found = evomask.explain(ORACLE, IMAGE, key=key, config=dataclasses.replace(CONFIG, front=Collect(12)))
    assert plain.front is None
    jax.tree.map(np.testing.assert_array_equal, dataclasses.replace(found, front=None), plain)
    front = jax.tree.map(lambda x: x[0], found.front)
    on = np.isfinite(front.area)
    assert on.sum() >= 2 and front.mask.shape == (12, SIDE, SIDE)
    assert (np.diff(front.area[on]) > 0).all() and (np.diff(front.confidence[on]) > 0).all()
    np.testing.assert_allclose(front.mask[on].mean((1, 2)), front.area[on], rtol=1e-6)
    share = (front.mask[on] & oracles.box_mask(BOX, SIDE, SIDE)).sum((1, 2)) / 8
    sigmoid = lambda x: 1 / (1 + np.exp(-6 * (x - 0.25)))
    np.testing.assert_allclose(front.confidence[on], sigmoid(share), rtol=1e-5)
    np.testing.assert_allclose(front.inverse_confidence[on], sigmoid(1 - share), rtol=1e-5)
    np.testing.assert_array_equal(front.necessary[on], 1 - share <= 0.25)  # a tie is a loss
    assert (share > 0.25).all()  # the class is kept
    # The final mask is on the front, or a mask of its bin is more confident.
    bin_of = lambda area: int(np.sqrt(area) * 12)
    rivals = front.confidence[on][[bin_of(a) <= bin_of(found.area[0]) for a in front.area[on]]]
    assert rivals.max() >= found.masked_confidence[0] - 1e-6
