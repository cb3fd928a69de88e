"""Functions with several outputs: explained as the same network in JAX is, and refused where they break their word."""

import jax.numpy as jnp
import numpy as np
import pytest

import evomask
from evomask import presets
from evomask.decisions import Box, Segment
from evomask.types import InputError

SIDE = 16
SPOT = (slice(4, 8), slice(8, 12))
IMAGE = np.zeros((1, SIDE, SIDE, 3), np.float32)
IMAGE[0][SPOT] = 1.0
BOXES = np.array([[8, 4, 12, 8], [0, 0, 4, 4]], np.float32)  # left, top, right, bottom


def detected(images, xp=np):
    """Two boxes; the score of the first is the brightness of the spot."""
    bright = images[:, SPOT[0], SPOT[1]].mean((1, 2, 3))
    scores = xp.stack([0.1 + 0.8 * bright, xp.full_like(bright, 0.2)], 1)[..., None]
    return {"boxes": xp.broadcast_to(xp.asarray(BOXES), (len(images), 2, 4)), "scores": scores}


def segmented(images, xp=np):
    """f32[N, 4, 4, 2]: a cell of four pixels a side is of class 1 as far as it is bright."""
    cells = images.reshape(len(images), 4, 4, 4, 4, 3).mean((2, 4, 5))
    return xp.stack([xp.zeros_like(cells), 12 * cells - 6], -1)


CASES = {
    "detector": (detected, {"boxes": (2, 4), "scores": (2, 1)}, Box(BOXES[0])),
    "segmentation": (segmented, (4, 4, 2), Segment(np.arange(16).reshape(4, 4) == 6)),
}


@pytest.mark.parametrize("case", CASES)
def test_masks_are_those_of_the_same_network_in_jax(case):
    function, shapes, decision = CASES[case]
    network = evomask.from_function(function, shapes, image_shape=(SIDE, SIDE, 3))
    inside = evomask.as_classifier(lambda images: function(images, jnp))
    one, other = (
        evomask.explain(each, IMAGE, key=0, config=presets.smallest(600), decision=decision)
        for each in (network, inside)
    )
    np.testing.assert_array_equal(one.mask, other.mask)
    assert one.complete[0] and one.mask[0][SPOT].any() and one.area[0] < 0.1
    assert network.image_shape == (SIDE, SIDE, 3) and network.labels is None


def test_outputs_come_in_the_structure_that_was_promised():
    network = evomask.from_function(detected, {"boxes": (2, 4), "scores": (2, 1)})
    found = network(jnp.asarray(IMAGE))
    np.testing.assert_allclose(found["boxes"][0], BOXES)
    np.testing.assert_allclose(found["scores"][0], [[0.9], [0.2]], rtol=1e-6)
    pair = evomask.from_function(lambda images: tuple(detected(images).values()), ((2, 4), (2, 1)))
    np.testing.assert_allclose(pair(jnp.asarray(IMAGE))[0], found["boxes"])


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda images: detected(images)["boxes"], "returned a ndarray: shapes promises {'boxes': 'numbers"),
        (lambda images: detected(images) | {"masks": images}, "returned a dict: shapes promises"),
        (
            lambda images: detected(images) | {"scores": np.zeros((len(images), 3, 1))},
            r"returned float32\[1, 2, 4\], float64\[1, 3, 1\]: shapes promises",
        ),
        (lambda images: detected(images) | {"scores": np.full((len(images), 2, 1), "x")}, r"<U1\[1, 2, 1\]: shapes"),
    ],
    ids=["another structure", "another name", "another shape", "no numbers"],
)
def test_a_function_that_breaks_its_word_is_told(returned, said):
    network = evomask.from_function(returned, {"boxes": (2, 4), "scores": (2, 1)})
    with pytest.raises(InputError, match=said):
        evomask.explain(network, IMAGE, key=0, config=presets.smallest(600), decision=Box(BOXES[0]))


@pytest.mark.parametrize("shapes", [None, {}, {"boxes": 4}, {"boxes": (2, 4.5)}])
def test_shapes_that_are_none(shapes):
    with pytest.raises(InputError, match="give the shape of each output of one image"):
        evomask.from_function(detected, shapes)
