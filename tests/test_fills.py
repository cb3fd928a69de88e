"""Each fill against its definition, and the masked image pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evomask import fills

KEY = jax.random.key(0)
IMAGE = np.random.default_rng(0).uniform(size=(6, 9, 3)).astype(np.float32)


@pytest.mark.parametrize("fill", [fills.Constant(0.25), fills.Mean(), fills.Blur(), fills.Noise()], ids=repr)
def test_contract(fill):
    blank = fills.blank(fill, KEY, IMAGE)
    assert blank.shape == IMAGE.shape and blank.dtype == jnp.float32
    assert 0 <= float(blank.min()) and float(blank.max()) <= 1
    np.testing.assert_allclose(blank, fill(KEY, jnp.asarray(IMAGE)), atol=1e-6)
    np.testing.assert_array_equal(blank, fills.blank(fill, KEY, IMAGE))


def test_constant_is_black_by_default():
    np.testing.assert_array_equal(fills.blank(fills.Constant(), KEY, IMAGE), np.zeros_like(IMAGE))
    np.testing.assert_array_equal(fills.blank(fills.Constant(0.75), KEY, IMAGE), np.full_like(IMAGE, 0.75))


def test_mean_is_the_mean_colour():
    expected = np.broadcast_to(IMAGE.mean((0, 1)), IMAGE.shape)
    np.testing.assert_allclose(fills.blank(fills.Mean(), KEY, IMAGE), expected, atol=1e-6)


def test_blur_equals_a_plain_convolution_renormalised_at_the_border():
    sigma = 0.2 * 6  # of the shorter side

    def blurred(lines):  # f64[n, W]
        weights = np.exp(-0.5 * ((np.arange(lines.shape[1])[:, None] - np.arange(lines.shape[1])) / sigma) ** 2)
        return np.stack([[(w * line).sum() / w.sum() for w in weights] for line in lines])

    expected = np.empty(IMAGE.shape)
    for channel in range(3):
        expected[..., channel] = blurred(blurred(IMAGE[..., channel].astype(float)).T).T
    np.testing.assert_allclose(fills.blank(fills.Blur(0.2), KEY, IMAGE), expected, atol=1e-5)


def test_blur_of_a_plain_image_is_the_image():
    plain = np.full((5, 7, 1), 0.4, np.float32)
    np.testing.assert_allclose(fills.blank(fills.Blur(0.3), KEY, plain), plain, atol=1e-6)


def test_noise_is_uniform_and_belongs_to_its_key():
    image = np.zeros((40, 50, 3), np.float32)
    one = np.asarray(fills.blank(fills.Noise(), KEY, image))
    other = np.asarray(fills.blank(fills.Noise(), jax.random.key(1), image))
    num = one.size
    assert abs(one.mean() - 0.5) < 4 / np.sqrt(12 * num)
    assert abs((one < 0.1).mean() - 0.1) < 4 * np.sqrt(0.09 / num)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(num)


def test_apply_keeps_the_image_where_the_mask_is_true():
    rng = np.random.default_rng(1)
    blank = rng.uniform(size=IMAGE.shape).astype(np.float32)
    masks = rng.uniform(size=(2, 3, 6, 9)) < 0.5
    found = np.asarray(fills.apply(jnp.asarray(masks), IMAGE, blank))
    assert found.shape == (2, 3, 6, 9, 3)
    for index in np.ndindex(2, 3, 6, 9):
        source = IMAGE if masks[index] else blank
        np.testing.assert_array_equal(found[index], source[index[2:]])


def test_hyper_parameters_are_leaves_and_do_not_compile_again():
    fills.blank(fills.Constant(0.1), KEY, IMAGE)
    compiled = fills.blank._cache_size()
    found = fills.blank(fills.Constant(0.2), KEY, IMAGE)
    assert fills.blank._cache_size() == compiled
    np.testing.assert_array_equal(found, np.full_like(IMAGE, 0.2))
