"""The small CNN: folding, files, and the shipped networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from evomask import classifiers, data
from evomask.classifiers import cnn, convolution
from evomask.types import InputError


def random_variables(module, images):
    """Initial variables with every number disturbed, so that nothing is zero or one by construction."""
    variables = jax.jit(module.init)(jax.random.key(0), images)
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + draw.uniform(0, 0.2, leaf.shape).astype(np.float32), variables)


@pytest.fixture(scope="module")
def small():
    module = cnn.ResidualCNN(num_classes=5, widths=(8, 12), depth=2, directions=6)
    images = jax.random.uniform(jax.random.key(2), (6, 16, 16, 3))
    variables = random_variables(module, images)
    return module, variables, images, cnn.fold(module, variables, tuple("abcde"), (16, 16, 3))


def test_whitening_whitens():
    images = jax.image.resize(jax.random.uniform(jax.random.key(0), (64, 6, 6, 3)), (64, 12, 12, 3), "linear")
    kernel = cnn.whitening_kernel(images, 8)
    responses = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    covariance = np.cov(np.asarray(responses).reshape(-1, 16)[:, :8].T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-2  # uncorrelated
    assert 0.5 < covariance[0, 0] <= 1.01  # the strongest direction has unit variance
    np.testing.assert_array_equal(kernel[..., 8:], -kernel[..., :8])


def test_folding_changes_nothing(small):
    module, variables, images, folded = small
    expected = jax.jit(module.apply)(variables, images)
    np.testing.assert_allclose(jax.jit(lambda c, x: c(x))(folded, images), expected, rtol=1e-4, atol=1e-4)
    assert classifiers.check_classifier(folded, (16, 16, 3)) == 5


def test_features_lead_to_the_logits(small):
    _, _, images, folded = small
    features, logits = jax.jit(lambda c, x: c.features_and_logits(x))(folded, images)
    assert [f.shape[1:] for f in features] == [(8, 8, 8), (4, 4, 12)]
    for depth in (0, 1, -1):
        np.testing.assert_allclose(folded.from_features(depth, features[depth]), logits, rtol=1e-5, atol=1e-5)


def test_multiply_adds_are_those_of_direct_convolutions(small, monkeypatch):
    _, _, _, folded = small
    monkeypatch.setattr(cnn, "convolve", convolution.direct)
    compiled = jax.jit(lambda c, x: c(x)).lower(folded, jnp.zeros((1, 16, 16, 3))).compile()
    assert 2 * cnn.multiply_adds(folded) == pytest.approx(compiled.cost_analysis()["flops"], rel=0.2)


def test_files_keep_half_precision(small, tmp_path):
    _, _, images, folded = small
    cnn.save(folded, tmp_path / "net.safetensors")
    loaded = cnn.load(tmp_path / "net.safetensors")
    assert (loaded.labels, loaded.image_shape) == (folded.labels, folded.image_shape)
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.float16).astype(jnp.float32), folded)
    jax.tree.map(np.testing.assert_array_equal, loaded, rounded)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no weights at .*missing"):
        cnn.load(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(InputError, match="holds no network written by"):
        cnn.load(tmp_path / "text.safetensors")
    safetensors.numpy.save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds no network written by .*labels"):
        cnn.load(tmp_path / "other.safetensors")


forward = jax.jit(lambda c, x: c(x))  # one program for both


@pytest.mark.parametrize("name", ["cifar10", "cifar10_erased"])
def test_shipped_networks_recognise_the_samples(name):
    classifier, samples = classifiers.load(name), data.samples("cifar10")
    assert classifiers.check_classifier(classifier, (32, 32, 3)) == 10 and classifier.labels == samples.names
    assert sum(leaf.size for leaf in jax.tree.leaves(classifier)) <= 1_500_000
    assert jax.eval_shape(classifier.features, jnp.zeros((1, 32, 32, 3)))[-1].shape[:3] == (1, 4, 4)
    logits = forward(classifier, jnp.asarray(samples.images, jnp.float32) / 255)
    np.testing.assert_array_equal(logits.argmax(-1), samples.labels)
