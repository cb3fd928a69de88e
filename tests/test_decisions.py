"""Every decision explained exactly on an oracle, its numbers against arithmetic by hand, and bad input in one line."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evomask
from evomask import decisions, presets
from evomask.decisions import Between, Box, Classes, Label, Segment, Similarity, Threshold, decided
from evomask.decisions.places import overlaps
from evomask.types import InputError, Status, record

IMAGES = np.ones((1, 8, 8, 1), np.float32)
BLOCK = np.zeros((8, 8), bool)
BLOCK[2:5, 4:7] = True  # one patch
PLACE = (4.0, 2.0, 7.0, 5.0)
PLAIN = presets.smallest(3000)
OPERATORS = dataclasses.replace(PLAIN.operators, screening=None)
CONFIG = dataclasses.replace(PLAIN, stages=PLAIN.stages[-1:], operators=OPERATORS)  # less to compile


def evidence(images):
    """From 1 where the block is white down to -17 where it is black: nine pixels, two nats for each."""
    return 18.0 * jnp.mean(images[:, 2:5, 4:7, 0], (1, 2)) - 17.0


def logits(images):
    found = evidence(images)
    return jnp.stack([found, jnp.full_like(found, 9.0), jnp.zeros_like(found)], 1)


def embedding(images):
    return jnp.stack([jnp.ones(len(images)), jnp.exp(-evidence(images))], 1)


def detections(images):
    score = jax.nn.sigmoid(evidence(images))[:, None]
    boxes = jnp.array([PLACE, (0.0, 0.0, 8.0, 8.0), (4.0, 2.0, 7.0, 7.0)])  # the last one overlaps by 3/5
    scores = jnp.stack([score * 0.5, jnp.full_like(score, 0.99), score], 1)
    return {"boxes": jnp.broadcast_to(boxes, (len(images), 3, 4)), "scores": scores}


def segmentation(images):
    shown = images[..., 0]
    return jnp.stack([8.0 * shown - 4.0, jnp.zeros_like(shown)], -1)


EVERY = {
    "classes": (lambda images: logits(images)[:, ::2], None, Classes(), ("rose", "fern")),
    "between": (logits, ("rose", "oak", "fern"), Between("rose", "fern"), ("rose", "fern")),
    "label": (logits, ("rose", "oak", "fern"), Label("rose"), ("rose", "no rose")),
    "threshold": (lambda images: evidence(images) + 3.0, None, Threshold(3.0, name="risk"), None),
    "nearest": (embedding, None, Similarity(np.eye(2), ("rose", "fern"), scale=3.0), ("rose", "fern")),
    "similarity": (embedding, None, Similarity(np.eye(2)[:1], ("rose",), 9.0, threshold=0.7), None),
    "box": (detections, ("rose",), Box(PLACE, "rose"), ("rose in the box", "no rose in the box")),
    "segment": (segmentation, ("rose", "fern"), Segment(BLOCK), ("rose", "fern")),
}


@pytest.mark.parametrize("name", EVERY)
def test_an_oracle_s_smallest_mask_is_found(name):
    function, labels, decision, names = EVERY[name]
    network = evomask.as_classifier(function, labels=names if name == "classes" else labels)
    found = evomask.explain(network, IMAGES, key=1, config=CONFIG, decision=decision)[0]
    assert (found.label, found.status, found.predicted) == (0, Status.COMPLETE, 0)
    np.testing.assert_array_equal(found.mask, BLOCK)
    assert names is None or found.names == names
    assert found.masked_confidence == pytest.approx(found.confidence, abs=1e-6)
    assert found.inverse_label == 1


def test_alternatives_have_names():
    _, _, decision, _ = EVERY["threshold"]
    assert decision.alternatives(None) == ("risk above 3", "risk of 3 or less")
    assert EVERY["similarity"][2].alternatives(None) == ("similar to rose", "not similar to rose")
    assert Label(4).bind(None).alternatives(None) == ("class 4", "no class 4")


def test_a_decision_that_does_not_stand_is_explained_as_such():
    black = evomask.as_classifier(lambda images: -evidence(images))
    found = evomask.explain(black, IMAGES, key=1, config=CONFIG, decision=Threshold(0.0))[0]
    assert (found.label, found.name(found.label)) == (1, "the output of 0 or less")
    np.testing.assert_array_equal(found.mask, BLOCK)


def test_numbers_by_hand():
    chances = jnp.array([[0.2, 0.8]])
    assert Label(1, outputs="probabilities")(chances)[0, 0] == pytest.approx(np.log(4), rel=1e-6)
    assert Label(1, threshold=0.2)(jnp.zeros((1, 2)))[0, 0] == pytest.approx(np.log(4), rel=1e-6)
    assert Label(0)(jnp.array([1.5])).tolist() == [[1.5, 0.0]]
    assert Threshold(1.0, scale=2.0, output=1)(jnp.array([[9.0, 5.0]])).tolist() == [[2.0, 0.0]]
    assert Box(PLACE)(detections(IMAGES))[0, 0] == pytest.approx(1.0, rel=1e-6)
    assert Box(PLACE, overlap=0.7)(detections(IMAGES))[0, 0] == pytest.approx(-0.5515, abs=1e-4)  # log(.3655 / .6345)
    assert Box((0.0, 0.0, 1.0, 1.0))(detections(IMAGES))[0, 0] == pytest.approx(-np.log(1e6), rel=1e-4)


def test_overlaps_are_those_of_counted_pixels():
    draws = np.random.default_rng(0).integers(0, 9, (200, 2, 2, 2))
    boxes = np.sort(draws, 2).reshape(200, 2, 4)[:, :, [0, 1, 2, 3]]
    filled = np.zeros((200, 2, 9, 9), bool)
    for number, pair in enumerate(boxes):
        for which, (left, top, right, bottom) in enumerate(pair):
            filled[number, which, top:bottom, left:right] = True
    shared, either = (filled[:, 0] & filled[:, 1]).sum((1, 2)), (filled[:, 0] | filled[:, 1]).sum((1, 2))
    for pair, wanted in zip(boxes.astype(np.float32), shared / np.maximum(either, 1)):
        assert overlaps(jnp.asarray(pair[:1]), jnp.asarray(pair[1]))[0] == pytest.approx(wanted, abs=1e-6)


def test_a_region_may_be_finer_than_the_network():
    fine = np.repeat(np.repeat(BLOCK, 3, 0), 3, 1)
    shares = segmentation(jax.random.uniform(jax.random.key(0), (2, 8, 8, 1)))
    np.testing.assert_allclose(Segment(fine)(shares), Segment(BLOCK)(shares), rtol=1e-6)


def test_another_label_compiles_nothing_again():
    network = evomask.as_classifier(logits, labels=("rose", "oak", "fern"))
    call = jax.jit(lambda classifier, images: classifier(images))
    for label, wanted in (("rose", 1.0), ("oak", 9.0), (2, 0.0)):
        assert call(decided(network, Label(label)), IMAGES)[0, 0] == wanted
    assert call._cache_size() == 1


def test_one_s_own_decision():
    @record
    class Brightness:
        least: float

        def __call__(self, outputs):
            return jnp.stack([outputs.mean((1, 2, 3)) - self.least, jnp.zeros(len(outputs))], 1)

        def alternatives(self, labels):
            return "bright", "dark"

    network = decided(evomask.as_classifier(lambda images: images), Brightness(0.25))
    assert network.labels == ("bright", "dark") and network(IMAGES).tolist() == [[0.75, 0.0]]


def test_what_else_a_classifier_has_is_the_network_s():
    network = decided(evomask.load("cifar10"), Label("cat"))
    assert network.image_shape == (32, 32, 3) and network.labels == ("cat", "no cat")
    assert network.features(jnp.zeros((1, 32, 32, 3)))[0].ndim == 4
    with pytest.raises(AttributeError, match="Decided has no attribute 'colour'"):
        network.colour


@pytest.mark.parametrize(
    ("function", "decision", "message"),
    [
        (logits, Label("rose"), "label of the decision is 'rose', but the network has no labels: give its number"),
        (logits, Label(-1), "label of the decision is -1: give a whole number of 0 or more"),
        (logits, Label(3), "label of the decision is 3, and the network has 3 of them: give 0 to 2"),
        (logits, Between(1, 1), r"decision Between\(1, 1\) has one class twice: give two"),
        (logits, Between(0, 7), "other of the decision is 7, and the network has 3 of them"),
        (logits, Label(0, threshold=1.0), "threshold of the decision is 1.0: give a fraction between 0 and 1"),
        (logits, Label(0, outputs="sigmoid"), "outputs of the decision is 'sigmoid': give one of logits, probabili"),
        (logits, Threshold(np.nan), "threshold of the decision is nan: give a finite number"),
        (logits, Threshold(0.0, scale=0.0), "scale of the decision is 0.0: give a number above 0"),
        (detections, Threshold(0.0), "decision Threshold got .*: the network must return one floating array"),
        (logits, Similarity(np.eye(2)), "references of 2 numbers, the network returns embeddings of 3"),
        (embedding, Similarity(np.zeros((2, 2))), "give finite embeddings f32.R, D., none zero"),
        (embedding, Similarity(np.eye(2), ("rose",)), "has 2 references and 1 names: give one for each"),
        (embedding, Similarity(np.eye(2)[:1]), "threshold of the decision is None, with 1 references"),
        (embedding, Similarity(np.eye(2)[:1], threshold=1.0), "give a cosine between -1 and 1"),
        (logits, Box(PLACE), "decision Box got .*: the network must return boxes f32.N, M, 4. and scores"),
        (detections, Box((5, 2, 5, 4)), "give .left, top, right, bottom., left < right"),
        (detections, Box(PLACE, overlap=0), "overlap of the decision is 0: give a fraction between 0 and 1"),
        (detections, Box(PLACE, 1), "label of the decision is 1, and the network has 1 of them: give 0 to 0"),
        (logits, Segment(BLOCK), "decision Segment got float32.3, 3. and a region of .8, 8."),
        (segmentation, Segment(BLOCK[:7]), "the region must be bool.h, w., or whole times as large"),
        (
            segmentation,
            Segment(np.zeros((8, 8), bool)),
            r"region of the decision is bool\[8, 8\]: give .* true somewhere",
        ),
        (logits, Label, "decision is <class .*Label'>: give one of evomask.decisions, such as Label.0."),
        (logits, "label", "decision is 'label': give one of evomask.decisions"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_compiled(function, decision, message):
    with pytest.raises(InputError, match=message) as caught:
        evomask.explain(evomask.as_classifier(function), IMAGES, key=0, config=CONFIG, decision=decision)
    assert "\n" not in str(caught.value)


def test_every_decision_is_in_the_table():
    named = {getattr(decisions, name) for name in decisions.__all__} - {*NOT_DECISIONS}
    assert {type(decision) for _, _, decision, _ in EVERY.values()} == named


NOT_DECISIONS = (decisions.Decided, decisions.Decision, decisions.decided)
