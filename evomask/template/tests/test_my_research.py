"""My parts do what they say."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from my_research import compare, search

import evomask
from evomask import testing

KEY = jax.random.key(0)


def test_parts_keep_what_every_part_promises():
    testing.check_mutation(search.Jitter())
    testing.check_fill(search.Negative())
    testing.check_term(search.Rounded())
    testing.check_baseline(compare.Brightness())


def test_patches_move_by_a_little():
    genome = jnp.array([[0, 5, 1], [31, 8, 2]])
    moved = search.Jitter(3.0)(KEY, genome, SimpleNamespace(shape=(32, 32)))
    assert (moved[:, 2] == genome[:, 2]).all() and 0 < jnp.abs(moved - genome).max() <= 3
    assert (moved[:, :2] >= 0).all() and (moved[:, :2] < 32).all()


def test_black_is_shown_as_white():
    assert search.Negative()(KEY, jnp.zeros((2, 2, 3))).min() == 1.0


def test_a_square_costs_nothing():
    masks = SimpleNamespace(area=jnp.array([0.25, 0.25]), boundary=jnp.array([0.5, 0.75]))
    assert search.Rounded()(masks, None).tolist() == [0.0, -0.25]


def test_bright_pixels_are_important():
    classifier = evomask.as_classifier(lambda images: images.mean((1, 2))[:, :2])
    images = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3) / 12
    scores = compare.Brightness(2.0)(classifier, images, [0], key=KEY, budget=1)
    np.testing.assert_allclose(scores, 2 * images.mean(-1), rtol=1e-6)


def test_a_quarter_of_an_even_score_is_in_the_middle():
    assert compare.middle(SimpleNamespace(score=np.ones((1, 8, 8)))).tolist() == [0.25]
