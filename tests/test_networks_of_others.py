"""A network of one's own: under jit, with changed weights, failing, with scores of several labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evomask import classifiers
from evomask.classifiers import BlackBox, as_classifier, blackbox, check_classifier
from evomask.decisions import Label, Threshold, decided
from evomask.types import InputError, record

IMAGE = np.full((1, 4, 4, 3), 0.75, np.float32)


def columns(images):
    return images[:, :2, 0].mean(-1)


class Model:
    sign = 1.0

    def predict(self, images):
        return self.sign * columns(images)

    __call__ = predict


@pytest.mark.parametrize("get", [lambda model: model.predict, lambda model: model], ids=["method", "object"])
def test_changed_weights_are_another_program_and_the_same_weights_the_same(get):
    model, call = Model(), jax.jit(lambda classifier, images: classifier(images))
    first = as_classifier(get(model))
    for sign in (1.0, -1.0, 1.0):
        model.sign = sign
        check_classifier(first, IMAGE.shape[1:])  # as every public function does
        np.testing.assert_array_equal(call(first, IMAGE), sign * 0.75 * np.ones((1, 2), np.float32))
    assert call._cache_size() == 2


def test_a_shipped_network_goes_through_jit_and_equals_only_itself():
    network = classifiers.load("cifar10")
    assert jax.jit(network)(jnp.zeros((1, 32, 32, 3))).shape == (1, 10)
    assert network == network != classifiers.load("cifar10")


def test_a_wrapped_network_goes_through_jit_and_equals_only_itself():
    wrapped, again = (as_classifier((lambda w, x: x.mean((1, 2)) * w["scale"], {"scale": 2.0})) for _ in range(2))
    np.testing.assert_array_equal(jax.jit(wrapped)(np.ones((1, 4, 4, 3), np.float32)), [[2.0, 2.0, 2.0]])
    assert wrapped == wrapped != again


def test_records_without_arrays_are_equal_by_what_they_hold():
    @record
    class Rate:
        rate: float = 0.5

    assert Rate() == Rate(0.5) != Rate(0.6) and hash(Rate()) == hash(Rate(0.5))


def test_a_repetition_sees_the_images_as_they_were():
    seen = []

    def once_broken(images):
        seen.append(float(images.mean()))
        images -= 0.5
        if len(seen) == 1:
            raise ConnectionError("503")
        return np.ones((1, 2))

    BlackBox(once_broken, 2, retries=1, backoff=0.0)(jnp.asarray(IMAGE))
    assert seen == [0.75, 0.75]


def test_sigmoids_are_not_sent_through_a_softmax():
    box = BlackBox(lambda images: np.array([[0.99, 0.9]]), 2, outputs="probabilities")
    with pytest.raises(blackbox._Failed) as caught:
        box._answer(IMAGE)
    said = str(caught.value.__cause__)
    assert "outputs='sigmoid', with decision=" in said and "logits" not in said


def test_labels_of_a_black_box_are_log_odds_and_want_a_decision():
    chances = np.array([0.2, 0.9, 1.0], np.float32)
    box = BlackBox(
        lambda images: np.tile(chances, (len(images), 1)), 3, labels=("fog", "rain", "sun"), outputs="sigmoid"
    )
    with pytest.raises(InputError, match="BlackBox returns 'sigmoid', not classes .*decision=evomask.decisions.Label"):
        check_classifier(box, IMAGE.shape[1:])
    rain = decided(box, Label("rain"))
    assert check_classifier(rain, IMAGE.shape[1:]) == 2 and rain.labels == ("rain", "no rain")
    np.testing.assert_allclose(rain(IMAGE), [[np.log(9.0), 0.0]], rtol=1e-5)
    np.testing.assert_allclose(box(IMAGE)[0, 2], np.log(1e6), rtol=1e-2)


def test_one_number_of_a_black_box_is_enough_for_a_decision():
    box = BlackBox(lambda images: images.mean((1, 2, 3))[:, None], 1, outputs="values")
    np.testing.assert_allclose(decided(box, Threshold(0.25))(IMAGE), [[0.5, 0.0]])
    with pytest.raises(InputError, match="num_classes is 1: give a whole number of 2 or more"):
        BlackBox(columns, 1)


def test_sigmoids_are_from_0_to_1():
    box = BlackBox(lambda images: np.array([[3.0, -1.0]]), 2, outputs="sigmoid")
    with pytest.raises(blackbox._Failed) as caught:
        box._answer(IMAGE)
    assert "values from -1 to 3 where sigmoids were promised" in str(caught.value.__cause__)
