"""Certificates against a plain loop over neighbours, and masks made minimal."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from synthetic import explanation

import evomask
from evomask import certificate, fills, verify
from evomask.questions import ask
from evomask.search import genome, prune
from evomask.search.prune import Broken
from evomask.types import Answer, InputError

KEY = jax.random.key(0)
SIDE = 12
BOX = (4, 4, 4, 4)
ORACLE = oracles.BoxOracle(boxes=(BOX,))
IMAGE = oracles.lit(BOX, SIDE, SIDE, 1)[None]
CONFIG = evomask.presets.smallest()
# Three quarters of the box, a patch beside it, one that is off, and one inside another.
GENOME = np.array([[4, 4, 1], [1, 9, 1], [7, 7, 1], [3, 3, -1], [4, 7, 1], [4, 4, 0]], np.int32)


def found(genes=GENOME, image=IMAGE, config=CONFIG, region=None, contrast=None):
    """An explanation with this genome, verified."""
    mask = np.asarray(genome.rasterize(genes, (SIDE, SIDE)))[None]
    mask = mask if region is None else mask & region
    others = None if contrast is None else [contrast]
    questions = ask(ORACLE, image, [1], others, KEY, config.fills)
    fields = verify.verdicts(ORACLE, questions, mask[:, None], np.array([False]), KEY, config)
    base = jax.tree.map(lambda field: np.asarray(field)[None], explanation(SIDE))
    fields |= {"image": image, "blanks": questions[0].blanks[None], "fills": tuple(fills.tried(config.fills))}
    fields |= {name: Answer(*(np.array([x]) for x in getattr(questions[0], name))) for name in ("whole", "blank")}
    return dataclasses.replace(base, genome=genes[None], **fields)


def flags(mask, ratio=0.9):
    """What a mask breaks, by hand: 20 (kept share - 0.5) nats between the classes."""
    box = oracles.box_mask(BOX, SIDE, SIDE)
    share = (mask & box).sum() / box.sum()
    logit = lambda share: 20 * (share - 0.5)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    broken = Broken.CLASS * (logit(share) <= 1e-3) + Broken.CONFIDENCE * (sigmoid(logit(share)) < ratio * sigmoid(10))
    return broken + Broken.INVERSE * (logit(1 - share) >= -1e-3)


def without(genes, index, shrink):
    changed = genes.copy()
    changed[index, 2] = changed[index, 2] - 1 if shrink else -1
    return np.asarray(genome.rasterize(changed, (SIDE, SIDE)))


@functools.cache
def certified():
    return certificate.certify(ORACLE, IMAGE, found(), key=KEY)


def test_a_certificate_is_a_plain_loop_over_the_neighbours():
    assert found().complete[0]
    broken = certified().broken[0]
    for index, (_, _, radius) in enumerate(GENOME):
        for shrink in (0, 1):
            expected = -1 if radius < 0 else flags(without(GENOME, index, shrink))
            assert broken[shrink, index] == expected, (index, shrink)
    assert broken.max() > 0 == broken[:, 1].max()  # the patch beside the box is for nothing
    assert not certified().minimal[0]
    # Five patches dropped and four shrunk, masked and inverse-masked.
    assert certified().evaluations[0] == 2 * 9 and certified().steps[0] == 0


def test_a_patch_at_radius_zero_shrinks_to_nothing():
    genes = np.array([[5, 5, 2], [10, 10, 0]], np.int32)
    only = certificate.certify(ORACLE, IMAGE, found(genes), key=KEY)
    assert only.broken[0, 0, 1] == only.broken[0, 1, 1] == 0 and only.evaluations[0] == 2 * 3


def test_a_mask_that_is_not_complete_is_not_looked_at():
    genes = np.array([[1, 1, 1]], np.int32)
    for none in (
        certificate.certify(ORACLE, IMAGE, found(genes), key=KEY),
        certificate.make_minimal(ORACLE, IMAGE, found(genes), key=KEY)[1],
    ):
        assert not none.minimal[0] and none.evaluations[0] == 0 and (none.broken == -1).all()


@functools.cache
def minimal(budget=2000):
    return certificate.make_minimal(ORACLE, IMAGE, found(), key=KEY, budget=budget)


def test_made_minimal_every_change_breaks_the_mask_and_it_is_verified():
    smaller, made = minimal()
    assert made.minimal[0] and smaller.complete[0] and smaller.status[0] == evomask.Status.COMPLETE
    assert smaller.area[0] < found().area[0] and 0 < made.steps[0] and made.evaluations[0] <= 2000
    genes = smaller.genome[0]
    np.testing.assert_array_equal(smaller.mask[0], genome.rasterize(genes, (SIDE, SIDE)))
    assert flags(smaller.mask[0]) == 0
    for index in np.flatnonzero(genes[:, 2] >= 0):
        for shrink in (0, 1):
            assert flags(without(genes, index, shrink)) == made.broken[0, shrink, index] > 0
    assert smaller.area[0] == smaller.mask[0].mean(dtype=np.float32)
    assert (smaller.history.area == found().history.area).all() and smaller.evaluations == found().evaluations
    again = certificate.certify(ORACLE, IMAGE, smaller, key=KEY)
    assert again.minimal[0] and (again.broken == made.broken).all()


def test_a_mask_is_made_minimal_towards_the_smallest_complete_neighbour():
    """The first step of a plain loop: redundant patches go for nothing, then the smallest complete neighbour."""
    tidied = GENOME.copy()
    tidied[5, 2] = -1
    choices = [without(tidied, i, shrink) for shrink in (0, 1) for i in (0, 1, 2, 4)]
    best = min((mask for mask in choices if flags(mask) == 0), key=lambda mask: mask.sum())
    look = lambda masks: jnp.asarray([flags(mask) for mask in np.asarray(masks)], jnp.int32)
    called = lambda masks: jax.pure_callback(look, jax.ShapeDtypeStruct((4,), jnp.int32), masks)
    mask = np.asarray(genome.rasterize(GENOME, (SIDE, SIDE)))
    run = lambda budget: jax.jit(
        lambda: prune.prune(
            jnp.asarray(GENOME), jnp.asarray(mask), jnp.bool_(True), called, budget=budget, descend=True, size=4
        )
    )()
    after = run(4)
    assert after.looked == 4 and after.steps == 1 and not after.minimal
    np.testing.assert_array_equal(after.mask, best)


@pytest.mark.parametrize("budget", [1, 20, 100])
def test_a_budget_is_kept_to_and_nothing_is_claimed_without_evidence(budget):
    smaller, made = certificate.make_minimal(ORACLE, IMAGE, found(), key=KEY, budget=budget)
    assert made.evaluations[0] <= budget and smaller.complete[0]
    assert made.minimal[0] == (
        certificate.certify(ORACLE, IMAGE, smaller, key=KEY).minimal[0] and (made.broken[0] > 0).any()
    )
    assert budget > 1 or (made.steps[0] == 0 and not made.minimal[0] and (smaller.mask == found().mask).all())


def test_the_region_of_the_search_is_kept():
    region = oracles.box_mask((0, 0, 7, 12), SIDE, SIDE)
    smaller, made = certificate.make_minimal(ORACLE, IMAGE, found(region=region), key=KEY, budget=2000)
    assert not (smaller.mask[0] & ~region).any() and made.minimal[0] and smaller.complete[0]


def test_images_do_not_depend_on_each_other():
    pair = jax.tree.map(lambda field: np.concatenate([field, field]), found())
    both = certificate.make_minimal(ORACLE, np.concatenate([IMAGE, IMAGE]), pair, key=KEY, budget=2000)
    jax.tree.map(lambda two, one: np.testing.assert_array_equal(two, np.concatenate([one, one])), both, minimal())


def test_contrast_and_several_fills_are_certified_as_they_were_asked():
    config = dataclasses.replace(CONFIG, fill=(fills.Constant(0.0), fills.Constant(0.4)))
    quarters = np.array([[4, 4, 1], [7, 7, 1], [4, 7, 1], [7, 4, 1]], np.int32)
    asked = found(quarters, config=config, contrast=0)
    smaller, made = certificate.make_minimal(ORACLE, IMAGE, asked, key=KEY, config=config, budget=8000)
    assert made.minimal[0] and smaller.complete[0] and smaller.contrast[0] == 0
    assert made.evaluations[0] % 4 == 0
    # With the share s of the box blanked to 0.4, 1 - 0.6 s < 0.5 is left where s > 5 / 6: no quarter can go.
    assert smaller.mask.sum() == 36 and made.steps[0] == 0
    alone, _ = certificate.make_minimal(ORACLE, IMAGE, found(quarters), key=KEY, budget=8000)
    assert alone.mask.sum() == 27 and not alone.complete_under[0, 1]  # grey is brighter still


def test_bad_input():
    with pytest.raises(InputError, match="budget is 0: give a whole number"):
        certificate.make_minimal(ORACLE, IMAGE, found(), key=KEY, budget=0)
    with pytest.raises(InputError, match=r"images \[1, 8, 8, 1\] are not those of the explanation, \[1, 12, 12, 1\]"):
        certificate.certify(
            evomask.as_classifier(lambda x: x.mean((1, 2)) @ jnp.ones((1, 2))), np.ones((1, 8, 8, 1)), found(), key=KEY
        )
