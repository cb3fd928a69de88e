"""Winograd's convolution: equal to the library's, with its gradients, for any shape and any number of chunks."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from evomask.classifiers import convolution, winograd


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Also where it does not pay."""
    monkeypatch.setattr(winograd, "FEWEST_WEIGHTS", 1)
    jax.clear_caches()


def draws(seed, *shapes):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape).astype(np.float32) for shape in shapes]


def with_gradients(convolve):
    def both(x, kernel, g):
        out, pullback = jax.vjp(convolve, x, kernel)
        return out, *pullback(g)

    return jax.jit(both)


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, np.abs(b).max()))


@hypothesis.given(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9)
)
@hypothesis.settings(max_examples=10, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_equal_to_the_library(num, height, width, channels, features, seed):
    args = draws(seed, (num, height, width, channels), (3, 3, channels, features), (num, height, width, features))
    ours = with_gradients(winograd.convolve)(*args)
    assert_close(ours, with_gradients(convolution.direct)(*args))


@pytest.mark.parametrize("floats", [1, 500, 1000, 10**9])
def test_chunks_change_nothing(monkeypatch, floats):
    args = draws(0, (7, 6, 5, 3), (3, 3, 3, 4), (7, 6, 5, 4))
    whole = with_gradients(lambda x, k: winograd.convolve(x, k))(*args)
    monkeypatch.setattr(winograd, "FORWARD_FLOATS", floats)
    monkeypatch.setattr(winograd, "GRADIENT_FLOATS", floats)
    jax.clear_caches()
    assert_close(with_gradients(lambda x, k: winograd.convolve(x, k))(*args), whole)


def test_small_kernels_take_the_library(monkeypatch):
    programs = []
    for fewest in (12, 13):
        monkeypatch.setattr(winograd, "FEWEST_WEIGHTS", fewest)
        jax.clear_caches()
        args = draws(0, (2, 6, 6, 3), (3, 3, 3, 4))
        programs.append(jax.jit(lambda x, k: winograd.convolve(x, k)).lower(*args).as_text())
    assert ["stablehlo.convolution" in program for program in programs] == [False, True]


def test_an_image_does_not_depend_on_its_neighbours():
    x, kernel = draws(1, (65, 32, 32, 8), (3, 3, 8, 16))  # several chunks
    convolve = jax.jit(winograd.convolve)
    together = convolve(x, kernel)
    for index in (0, 33, 64):
        np.testing.assert_array_equal(convolve(x[index : index + 1], kernel)[0], together[index])


def test_chunks_hold_every_image_once():
    x = jnp.arange(11.0)[:, None, None, None] * jnp.ones((1, 2, 2, 1))
    parts = winograd._chunks(x, 16 * 4, 1)  # one tile has 16 floats a channel
    assert parts.shape == (3, 4, 2, 2, 1)
    np.testing.assert_array_equal(parts.reshape(12, 2, 2, 1)[:11], x)
    assert not parts.reshape(12, 2, 2, 1)[11:].any()


def test_exact_on_small_whole_numbers():
    """F(2 x 2, 3 x 3) is exact where every product is: on small whole numbers."""
    draw = np.random.default_rng(0)
    x, kernel = (
        draw.integers(-8, 9, shape).astype(np.float32) * scale
        for shape, scale in (((2, 6, 6, 3), 1), ((3, 3, 3, 2), 4))
    )
    np.testing.assert_array_equal(winograd.convolve(x, kernel), convolution.direct(x, kernel))
