"""A batched evaluation equals a plain loop over single images, whatever the size of the batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from evomask.search import evaluate as ev
from evomask.types import Target

SIDE, NUM, LABEL = 8, 7, 2
CLASSIFIER = oracles.conv()
IMAGE, BLANK = oracles.conv_images(num=2, side=SIDE)
MASKS = np.random.default_rng(0).uniform(size=(NUM, SIDE, SIDE)) < 0.4


@functools.partial(jax.jit, static_argnames=("inverse", "features", "batch_size"))
def evaluate(classifier, image, label, blank, masks, *, inverse, features, batch_size):
    maps = ev.feature_maps(classifier, image) if features else ()
    target = Target(image, label, jnp.float32(0.5), maps)
    return ev.evaluate(classifier, target, blank, masks, inverse=inverse, features=features, batch_size=batch_size)


def batched(batch_size, inverse=True, features=False):
    arguments = CLASSIFIER, IMAGE, jnp.int32(LABEL), BLANK, MASKS
    return evaluate(*arguments, inverse=inverse, features=features, batch_size=batch_size)


@functools.cache
def reference():
    """NumPy, one image at a time: confidence and margin of masks and of inverse masks, and distances."""
    forward, features = jax.jit(lambda c, x: c(x)), jax.jit(lambda c, x: c.features(x))
    whole = features(CLASSIFIER, IMAGE[None])
    rows = []
    for mask in np.concatenate([MASKS, ~MASKS]):
        image = np.where(mask[..., None], IMAGE, BLANK)[None]
        logits = np.asarray(forward(CLASSIFIER, image)[0], np.float64)
        log_probs = logits - np.log(np.exp(logits).sum())
        distances = [
            np.square(np.asarray(a) - np.asarray(b)).mean() for a, b in zip(features(CLASSIFIER, image), whole)
        ]
        margin = log_probs[LABEL] - np.delete(log_probs, LABEL).max()
        rows.append((np.exp(log_probs[LABEL]), margin, np.mean(distances)))
    return np.array(rows).T


@pytest.mark.parametrize("batch_size", [1, 4, 14, 100])  # 4 does not divide 14
def test_batches_equal_a_plain_loop(batch_size):
    confidence, margin, _ = reference()
    found = batched(batch_size)
    np.testing.assert_allclose(found.area, MASKS.mean((1, 2)), rtol=1e-7)
    np.testing.assert_allclose(found.confidence, confidence[:NUM], atol=1e-5)
    np.testing.assert_allclose(found.margin, margin[:NUM], atol=1e-5)
    np.testing.assert_allclose(found.inverse_confidence, confidence[NUM:], atol=1e-5)
    np.testing.assert_allclose(found.inverse_margin, margin[NUM:], atol=1e-5)
    assert np.isnan(found.distance).all()
    assert {x.shape for x in jax.tree.leaves(found)} == {(NUM,)}


def test_without_the_inverse_its_fields_are_nan_and_the_distance_is_that_of_the_features():
    confidence, margin, distance = reference()
    found = batched(3, inverse=False, features=True)
    assert np.isnan(found.inverse_confidence).all() and np.isnan(found.inverse_margin).all()
    np.testing.assert_allclose(found.confidence, confidence[:NUM], atol=1e-5)
    np.testing.assert_allclose(found.margin, margin[:NUM], atol=1e-5)
    np.testing.assert_allclose(found.distance, distance[:NUM], rtol=1e-5)


def test_the_masks_decide_about_the_margins_sign():
    """A margin is positive exactly where the label is predicted."""
    found = batched(14)
    images = np.where(MASKS[..., None], IMAGE, BLANK)
    predicted = np.argmax(jax.jit(lambda c, x: c(x))(CLASSIFIER, images), axis=1)
    np.testing.assert_array_equal(np.asarray(found.margin) > 0, predicted == LABEL)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_log_prob_and_margin(label):
    logits = np.array([[0.0, 2.0, -1.0], [50.0, -50.0, 0.0]])
    log_prob, margin = ev.log_prob_and_margin(jnp.asarray(logits, jnp.float32), jnp.int32(label))
    np.testing.assert_allclose(log_prob, logits[:, label] - np.log(np.exp(logits).sum(1)), rtol=1e-5)
    np.testing.assert_allclose(margin, logits[:, label] - np.delete(logits, label, 1).max(1), rtol=1e-5)


@pytest.mark.parametrize("inverse, calls", [(False, 3), (True, 5)])
def test_every_image_is_sent_once_and_only_the_last_batch_is_filled_up(inverse, calls):
    seen = []
    counting = lambda images: jax.debug.callback(lambda n: seen.append(int(n)), images.shape[0])

    def classify(images):
        counting(images)
        return CLASSIFIER(images)

    target = Target(jnp.asarray(IMAGE), jnp.int32(LABEL), jnp.float32(0.5))
    jax.block_until_ready(ev.evaluate(classify, target, BLANK, MASKS, inverse=inverse, features=False, batch_size=3))
    jax.effects_barrier()
    assert seen == [3] * calls
    cost = ev.cost(NUM, NUM if inverse else 0)
    assert cost <= sum(seen) < cost + 3


def test_of_several_fills_the_worst_counts():
    other = np.full_like(BLANK, 0.5)
    options = {"inverse": True, "features": True, "batch_size": 5}
    target = Target(
        jnp.asarray(IMAGE), jnp.int32(LABEL), jnp.float32(0.5), ev.feature_maps(CLASSIFIER, jnp.asarray(IMAGE))
    )
    run = jax.jit(lambda c, blanks: ev.evaluate_fills(c, target, blanks, MASKS, **options))
    both, first, second = (run(CLASSIFIER, np.stack(blanks)) for blanks in ([BLANK, other], [BLANK], [other]))
    for name, worst in [
        ("confidence", min),
        ("margin", min),
        ("inverse_confidence", max),
        ("inverse_margin", max),
        ("distance", max),
        ("area", max),
    ]:
        expected = list(map(worst, getattr(first, name), getattr(second, name)))
        np.testing.assert_allclose(getattr(both, name), expected, atol=1e-6, err_msg=name)
    assert {"first": int((both.margin == first.margin).sum())} != {"first": NUM}  # neither fill decides alone


@pytest.mark.parametrize("num_fills", [1, 2])
def test_only_the_inverses_of_the_hopeful_are_evaluated(num_fills):
    """The same figures as where all are evaluated; the ranking sees the masked images under all fills."""
    target = Target(jnp.asarray(IMAGE), jnp.int32(LABEL), jnp.float32(0.5))
    blanks = np.stack([BLANK, np.full_like(BLANK, 0.5)][:num_fills])
    sizes, ranked = [], []

    def classify(images):
        jax.debug.callback(lambda _: sizes.append(len(images)), images[0, 0, 0, 0])
        return CLASSIFIER(images)

    def rank(seen):
        ranked.append(seen)
        return seen.margin

    options = {"inverse": True, "features": False, "batch_size": 100}
    every = ev.evaluate_fills(CLASSIFIER, target, blanks, MASKS, **options)
    some = ev.evaluate_fills(classify, target, blanks, MASKS, hopeful=ev.Hopeful(3, rank), **options)
    jax.effects_barrier()
    assert sizes == [NUM] * num_fills + [3] * num_fills
    chosen = np.argsort(np.asarray(every.margin))[-3:]
    for name in ("area", "confidence", "margin"):
        np.testing.assert_allclose(getattr(some, name), getattr(every, name), atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(getattr(ranked[0], name), getattr(some, name))
    for name in ("inverse_confidence", "inverse_margin"):
        found, expected = np.asarray(getattr(some, name)), np.asarray(getattr(every, name))
        np.testing.assert_allclose(found[chosen], expected[chosen], atol=1e-5, err_msg=name)
        assert np.isnan(np.delete(found, chosen)).all()
    without = ev.evaluate_fills(
        CLASSIFIER, target, blanks, MASKS, hopeful=ev.Hopeful(3, rank), **options | {"inverse": False}
    )
    assert np.isnan(without.inverse_margin).all() and len(ranked) == 1


def test_under_a_contrast_two_classes_compete():
    logits = np.array([[0.0, 2.0, -1.0], [50.0, -50.0, 0.0]])
    log_prob, margin = ev.log_prob_and_margin(jnp.asarray(logits, jnp.float32), jnp.int32(2), jnp.int32(1))
    np.testing.assert_allclose(margin, logits[:, 2] - logits[:, 1])
    np.testing.assert_allclose(log_prob, -np.log1p(np.exp(logits[:, 1] - logits[:, 2])), atol=1e-6)


def test_cost():
    assert (ev.cost(40), ev.cost(40, 40), ev.cost(40, 20, fills=3)) == (40, 80, 180)
