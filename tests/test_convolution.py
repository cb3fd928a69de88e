"""Convolutions as sums over taps: equal to the library's, with their gradients, for any size, stride and shape."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from evomask.classifiers import convolution, winograd


def draws(*shapes):
    draw = np.random.default_rng(0)
    return [jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in shapes]


def with_gradients(convolve, x, kernel):
    out, pullback = jax.vjp(convolve, x, kernel)
    return out, *pullback(jnp.cos(out))


def assert_close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


SHAPES = {
    "height": st.integers(1, 9),
    "width": st.integers(1, 9),
    "size": st.sampled_from([1, 2, 3, 5]),
    "stride": st.integers(1, 3),
}


@hypothesis.given(**SHAPES, inputs=st.integers(1, 4), outputs=st.integers(1, 5))
def test_narrow_is_the_library_s(height, width, size, stride, inputs, outputs):
    args = draws((2, height, width, inputs), (size, size, inputs, outputs))
    ours = with_gradients(lambda x, k: convolution.narrow(x, k, stride), *args)
    assert_close(ours, with_gradients(lambda x, k: convolution.direct(x, k, stride), *args))


@hypothesis.given(**SHAPES)
def test_depthwise_is_the_grouped_convolution(height, width, size, stride):
    x, kernel = draws((2, height, width, 4), (size, size, 4))
    ours = with_gradients(lambda x, k: convolution.depthwise(x, k, stride), x, kernel)
    grouped = lambda x, k: convolution.direct(x, k[:, :, None], stride, groups=4)
    assert_close(ours, with_gradients(grouped, x, kernel))


def test_narrow_under_vmap_and_jit():
    x, kernel = draws((3, 2, 7, 8, 3), (3, 3, 3, 16))
    each = jax.jit(jax.vmap(functools.partial(convolution.narrow, stride=2), (0, None)))(x, kernel)
    np.testing.assert_allclose(each[1], convolution.direct(x[1], kernel, 2), atol=1e-4)


@pytest.mark.parametrize(("channels", "outputs", "sums"), [(3, 16, True), (3, 4, False), (8, 16, False)])
def test_a_network_s_first_layer_is_a_sum_on_a_cpu(channels, outputs, sums):
    args = draws((1, 8, 8, channels), (3, 3, channels, outputs))
    program = jax.jit(lambda x, k: winograd.convolve(x, k)).lower(*args).as_text()
    assert ("stablehlo.convolution" not in program) == sums
