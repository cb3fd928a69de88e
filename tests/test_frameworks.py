"""Networks of other frameworks, as far as it needs none of them: what is asked of them, and what they are asked.

The real ones are compared by `experiments/tools/check_frameworks.py`, in an environment of its own.
"""

import types

import numpy as np
import pytest

import evomask
from evomask.classifiers import check_classifier
from evomask.types import InputError

SHAPE = (6, 8, 3)


def scores(images):
    """Of images [N, H, W, C]: three classes, each its channel's mean."""
    return images.mean((1, 2))


class Session:
    """What ONNX Runtime's sessions have, and what they were given."""

    def __init__(self, shape, kind="tensor(float)", function=scores):
        self.shape, self.kind, self.function, self.seen = shape, kind, function, []

    def get_inputs(self):
        return [types.SimpleNamespace(name="pixels", shape=self.shape, type=self.kind)]

    def run(self, outputs, feed):
        batch = feed["pixels"]
        self.seen.append((batch.shape, batch.dtype))
        last = batch if self.shape[3] == 3 else batch.transpose(0, 2, 3, 1)
        return [self.function(last.astype(np.float32))]


IMAGES = np.random.default_rng(1).uniform(size=(5, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("shape", [["N", 3, 6, 8], ["N", 6, 8, 3], [2, 3, 6, 8]], ids=str)
def test_layout_shape_and_batch_are_read_from_an_onnx_network(shape):
    session = Session(shape)
    box = evomask.from_onnx(session)
    assert (box.image_shape, box.num_classes) == (SHAPE, 3)
    np.testing.assert_allclose(box(IMAGES), scores(IMAGES), rtol=1e-5)
    assert shape[0] == "N" or {seen[0] for seen, _ in session.seen} == {2}


def test_an_onnx_network_of_half_precision_gets_it():
    session = Session(["N", 3, 6, 8], "tensor(float16)")
    np.testing.assert_allclose(evomask.from_onnx(session)(IMAGES), scores(IMAGES), atol=2e-3)
    assert session.seen[-1][1] == np.float16


def test_images_are_normalised():
    box = evomask.from_onnx(Session(["N", 3, 6, 8]), normalize=((0.5, 0.25, 0.0), (0.5, 1.0, 2.0)))
    np.testing.assert_allclose(box(IMAGES), (scores(IMAGES) - [0.5, 0.25, 0.0]) / [0.5, 1.0, 2.0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "outputs"), [("softmax", "probabilities"), ("sigmoid", "sigmoid"), ("linear", "logits")]
)
def test_outputs_of_a_keras_model_are_what_its_last_layer_makes(activation, outputs):
    def model(images, training):
        odds = np.exp(4 * scores(images))
        whole = odds.sum(1, keepdims=True) if activation == "softmax" else 1 + odds
        return 4 * scores(images) if activation == "linear" else odds / whole

    last = types.SimpleNamespace(activation=types.SimpleNamespace(__name__=activation))
    model.input_shape, model.layers = (None, *SHAPE), [last]
    box = evomask.from_keras(model, labels=("red", "green", "blue"))
    assert (box.outputs, box.image_shape, box.labels) == (outputs, SHAPE, ("red", "green", "blue"))
    found = np.asarray(box(IMAGES))
    shift = (found - 4 * scores(IMAGES)).mean(1, keepdims=True)  # a softmax forgets it
    np.testing.assert_allclose(found, 4 * scores(IMAGES) + shift, rtol=1e-4, atol=1e-5)
    assert activation == "softmax" or np.abs(shift).max() < 1e-5


def test_one_number_is_explained_by_a_decision():
    session = Session(["N", 3, 6, 8], function=lambda images: images.mean((1, 2, 3)))
    with pytest.raises(InputError, match="returns one number for each image: .*decision=evomask.decisions.Threshold"):
        evomask.from_onnx(session)
    box = evomask.from_onnx(session, outputs="values")
    assert check_classifier(evomask.decisions.decided(box, evomask.decisions.Threshold(0.5)), SHAPE) == 2


def test_a_network_whose_scores_depend_on_the_batch_is_refused():
    session = Session(["N", 3, 6, 8], function=lambda images: 9 * (scores(images) - scores(images).mean(0)))
    with pytest.raises(InputError, match="ONNX network gives an image other scores alone than among others .by"):
        evomask.from_onnx(session)


def module_of(root):
    return type("Network", (), {"__module__": f"{root}.nn", "__call__": lambda self, images: images})()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evomask.from_torch(scores), "module is a function: give a torch.nn.Module"),
        (lambda: evomask.from_onnx("none.onnx"), "network is 'none.onnx': there is no such file"),
        (lambda: evomask.from_onnx(Session(["N", 3, "H", "W"])), "does not say what images it takes: give image_shape"),
        (lambda: evomask.from_onnx(Session(["N", 9])), "has the inputs .*one batch of images is wanted"),
        (lambda: evomask.from_onnx(Session(["N", 3, 6, 8], function=lambda x: x)), r"returns \[3, 6, 8, 3\] for 3"),
        (
            lambda: evomask.from_onnx(Session(["N", 3, 6, 8], function=lambda x: scores(x) * np.nan)),
            "returns NaN or inf",
        ),
        (lambda: evomask.from_keras(scores), "model is a function: give a Keras model"),
        (lambda: evomask.from_huggingface(None, types.SimpleNamespace()), "says no size: use from_torch"),
        (
            lambda: evomask.as_classifier(module_of("torch")),
            r"a Network is not JAX's: pass evomask.from_torch\(module, ",
        ),
        (lambda: evomask.as_classifier(module_of("keras")), "pass evomask.from_keras"),
        (lambda: evomask.as_classifier("net.onnx"), "pass evomask.from_onnx.path."),
        (lambda: evomask.explain(module_of("torch"), IMAGES, key=0), "Network is not JAX's: pass evomask.from_t"),
    ],
)
def test_bad_input_has_its_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
