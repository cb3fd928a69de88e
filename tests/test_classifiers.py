"""The contract that every registered classifier keeps, the wrappers, and what bad classifiers are told."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from evomask import classifiers
from evomask.classifiers import as_classifier, check_classifier, check_logits
from evomask.types import Classifier, InputError

SHAPE = (8, 8, 3)


@jax.jit
def predict(classifier, images):
    return classifier(images)


@pytest.fixture(scope="module", params=sorted(classifiers.CLASSIFIERS))
def registered(request):
    """A registered classifier, three images and their logits from one batch."""
    classifier = classifiers.load(request.param)
    images = jax.random.uniform(jax.random.key(0), (3, *classifier.image_shape))
    return classifier, images, predict(classifier, images)


def test_registered_passes_the_check(registered):
    classifier, _, logits = registered
    assert isinstance(classifier, Classifier)
    assert check_classifier(classifier, classifier.image_shape) == logits.shape[1] == len(classifier.labels)
    assert logits.dtype == jnp.float32 and logits.shape[0] == 3
    assert classifier.batch_size >= 1
    check_logits(logits)


def test_registered_tells_images_apart(registered):
    classifier, _, logits = registered
    assert float(jnp.ptp(logits, axis=1).min()) > 0.1
    assert float(jnp.abs(logits[0] - logits[1]).max()) > 1e-3


def test_registered_is_a_pytree_of_float32(registered):
    classifier, images, logits = registered
    leaves, structure = jax.tree.flatten(classifier)
    assert leaves and all(leaf.dtype == jnp.float32 for leaf in leaves)
    compilations = predict._cache_size()
    again = jax.tree.unflatten(structure, [jnp.array(leaf) for leaf in leaves])
    np.testing.assert_array_equal(predict(again, images), logits)
    assert predict._cache_size() == compilations, "an equal classifier compiles again"


def test_registered_keeps_its_weights_out_of_the_program(registered):
    """Weights are arguments: a program that holds them as constants compiles slowly and keeps a copy of them."""
    classifier, images, _ = registered
    constants = jax.jit(lambda c, x: c(x)).trace(classifier, images).jaxpr.consts
    assert sum(np.size(constant) for constant in constants) < 1000


def test_registered_equals_itself_on_one_image_without_jit(registered):
    """Neither the other images of the batch nor compilation change what is said of an image."""
    classifier, images, logits = registered
    np.testing.assert_allclose(classifier(images[1:2]), logits[1:2], atol=1e-4)


def test_registered_features(registered):
    classifier, images, logits = registered
    if not hasattr(classifier, "features"):
        pytest.skip("has no features")
    features = jax.eval_shape(lambda c, x: c.features(x), classifier, images)
    assert isinstance(features, tuple) and features
    assert all(feature.shape[0] == 3 and feature.dtype == jnp.float32 for feature in features)


def test_unknown_name():
    with pytest.raises(InputError, match=r"unknown classifier 'resnet': choose one of .*imagenette"):
        classifiers.load("resnet")


class Linen(nn.Module):
    """Has what trips wrappers: batch-norm, a `train` keyword without default, a method `features`."""

    @nn.compact
    def __call__(self, images, train):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(images))
        return nn.Dense(5)(jnp.mean(x, (1, 2)))

    def features(self, images, train):
        return (images[:, ::2, ::2],)


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, images):
        return self.dense(self.dropout(jnp.mean(self.norm(self.conv(images)), (1, 2))))


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(1), (4, *SHAPE))


def test_linen_pair(images):
    variables = Linen().init(jax.random.key(0), images, train=True)
    classifier = as_classifier((Linen(), variables), train=False, labels=list("abcde"))
    assert check_classifier(classifier, SHAPE) == 5
    np.testing.assert_allclose(predict(classifier, images), Linen().apply(variables, images, train=False), atol=1e-6)
    assert len(jax.tree.leaves(classifier)) == len(jax.tree.leaves(variables))
    assert classifier.features(images)[0].shape == (4, 4, 4, 3)
    assert not hasattr(as_classifier((nn.Dense(2), {})), "features")


def test_nnx_module_is_copied_and_in_eval_mode(images):
    network = NNX(nnx.Rngs(0))
    network.norm.mean[...] = jnp.full(4, 0.1)
    classifier = as_classifier(network)
    assert check_classifier(classifier, SHAPE) == 5
    first, second = predict(classifier, images), predict(classifier, images)
    np.testing.assert_array_equal(first, second)  # no dropout
    np.testing.assert_allclose(predict(classifier, images[:1]), first[:1], atol=1e-5)  # no batch statistics
    assert not network.norm.use_running_average and not network.dropout.deterministic  # the user's own is untouched
    network.eval()
    np.testing.assert_allclose(network(images), first, atol=1e-5)
    network.dense.bias[...] = jnp.ones(5)
    np.testing.assert_array_equal(predict(classifier, images), first)
    assert not hasattr(classifier, "features")


def test_function_and_its_params(images):
    weights = jnp.arange(6.0).reshape(3, 2)
    closed = as_classifier(lambda x: jnp.mean(x, (1, 2)) @ weights)
    open_ = as_classifier((lambda w, x: jnp.mean(x, (1, 2)) @ w, weights))
    np.testing.assert_allclose(predict(closed, images), predict(open_, images), atol=1e-6)
    assert jax.tree.leaves(closed) == [] and len(jax.tree.leaves(open_)) == 1
    np.testing.assert_allclose(
        predict(dataclasses.replace(open_, params=2 * weights), images), 2 * predict(open_, images), atol=1e-5
    )


@jax.tree_util.register_pytree_node_class
class Mixed:
    """A callable pytree with a function among its leaves, as Equinox modules have."""

    def __init__(self, kernel, activation):
        self.kernel, self.activation = kernel, activation

    def tree_flatten(self):
        return (self.kernel, self.activation), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)

    def __call__(self, images):
        return self.activation(jnp.mean(images, (1, 2)) @ self.kernel)


def test_callable_pytree_with_a_function_leaf(images):
    network = Mixed(jnp.ones((3, 2)), jax.nn.relu)
    with pytest.raises(InputError, match="not a callable pytree of arrays.*as_classifier"):
        check_classifier(network, SHAPE)
    classifier = as_classifier(network)
    assert check_classifier(classifier, SHAPE) == 2
    np.testing.assert_allclose(predict(classifier, images), network(images), atol=1e-6)
    assert len(jax.tree.leaves(classifier)) == 1


def test_a_classifier_is_returned_as_it_is(images):
    network = jax.tree_util.Partial(lambda w, x: jnp.mean(x, (1, 2)) @ w, jnp.ones((3, 2)))
    assert as_classifier(network) is network
    named = as_classifier(network, labels=["a", "b"], image_shape=SHAPE)
    assert check_classifier(named, SHAPE) == 2
    np.testing.assert_array_equal(predict(named, images), predict(network, images))


def test_normalize_is_inside(images):
    function = lambda x: jnp.mean(x, (1, 2))
    classifier = as_classifier(function, normalize=((0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))
    expected = (np.mean(images, (1, 2)) - np.array([[0.1, 0.2, 0.3]])) / np.array([[0.5, 1.0, 2.0]])
    np.testing.assert_allclose(predict(classifier, images), expected, atol=1e-5)
    scalar = as_classifier(function, normalize=(0.5, 0.5))
    np.testing.assert_allclose(predict(scalar, images), 2 * np.mean(images, (1, 2)) - 1, atol=1e-5)
    with pytest.raises(InputError, match="normalize has 3 channels, the images 1"):
        check_classifier(classifier, (8, 8, 1))


@pytest.mark.parametrize("normalize", [(0.5, 0.0), ((0.1, 0.2), 0.5), (float("nan"), 1.0), (0.0, -1.0), (1, 2, 3), 0.5])
def test_bad_normalize(normalize):
    with pytest.raises(InputError, match="normalize must be .mean, std."):
        as_classifier(lambda x: x, normalize=normalize)


@pytest.mark.parametrize("network", [3, "efficientnet_lite0", None, (1, 2), np.ones(3)])
def test_not_a_network(network):
    with pytest.raises(InputError, match="cannot make a classifier of a .*: pass a pair .Linen module, variables."):
        as_classifier(network)


def test_linen_module_without_variables():
    with pytest.raises(InputError, match="has no weights of its own: pass the pair .Dense, variables."):
        as_classifier(nn.Dense(2))


def test_options_are_for_flax():
    with pytest.raises(InputError, match="options .'train'. are for Flax networks only"):
        as_classifier(lambda x: x, train=False)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: jnp.mean(x, (1, 2, 3)), InputError, r"float32\[3\] for 3 images: it must return logits\[3, K\]"),
        (lambda x: jnp.mean(x, (1, 2, 3))[:, None], InputError, r"float32\[3, 1\].*two or more classes"),
        (lambda x: x, InputError, r"float32\[3, 8, 8, 3\] for 3 images"),
        (lambda x: jnp.mean(x, (0, 1)), InputError, r"float32\[8, 3\] for 3 images"),
        (lambda x: jnp.argmax(x, -1)[:, 0], InputError, r"int32\[3, 8\]: it must return one floating array"),
        (lambda x: (x, x), InputError, "must return one floating array"),
        (
            lambda x: jnp.mean(x, (1, 2)) @ jnp.ones((7, 2)),
            InputError,
            r"fails on .* f32\[3, 8, 8, 3\] \(TypeError: dot",
        ),
    ],
)
def test_bad_outputs(function, error, message):
    with pytest.raises(error, match=message):
        check_classifier(as_classifier(function), SHAPE)


def test_wrong_image_shape():
    classifier = as_classifier(lambda x: jnp.mean(x, (1, 2)), image_shape=(32, 32, 3))
    with pytest.raises(InputError, match=r"takes images of shape \(32, 32, 3\), got \(8, 8, 3\): resize the images"):
        check_classifier(classifier, SHAPE)


def test_wrong_number_of_labels():
    classifier = as_classifier(lambda x: jnp.mean(x, (1, 2)), labels=["cat", "dog"])
    with pytest.raises(InputError, match="has 3 classes and 2 labels"):
        check_classifier(classifier, SHAPE)


def test_check_compiles_nothing(images):
    def explode(x):
        jax.debug.callback(lambda: pytest.fail("ran"))
        return jnp.mean(x, (1, 2))

    assert check_classifier(as_classifier(explode), SHAPE) == 3


def test_check_logits():
    check_logits(jnp.array([[0.0, -jnp.inf], [1.0, 2.0]]))
    with pytest.raises(InputError, match="returned NaN or infinity for 2 of 3 images"):
        check_logits(jnp.array([[0.0, jnp.nan], [1.0, 2.0], [jnp.nan, jnp.nan]]))
