"""Threefry without a loop draws the very bits of JAX's own."""

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from evomask import prng

DRAWS = {
    "normal": lambda key: jax.random.normal(key, (3, 5)),
    "one": lambda key: jax.random.uniform(key),
    "none": lambda key: jax.random.uniform(key, (0, 2)),
    "bytes": lambda key: jax.random.bits(key, (7,), "uint8"),
    "words": lambda key: jax.random.bits(key, (2, 4), "uint32"),
    "integers": lambda key: jax.random.randint(key, (6,), 0, 1000),
    "permutation": lambda key: jax.random.permutation(key, 11),
    "keys": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "a key": lambda key: jax.random.key_data(jax.random.fold_in(key, 7)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_bits(name):
    key, draw = jax.random.key(5), DRAWS[name]
    found = [draw(prng.unrolled(key)), jax.jit(lambda key: draw(prng.unrolled(key)))(key)]
    for one in found:
        np.testing.assert_array_equal(one, draw(key))


@hypothesis.given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 99))
def test_of_any_seed_and_size(seed, size):
    key = jax.random.key(seed)
    np.testing.assert_array_equal(jax.random.bits(prng.unrolled(key), (size,)), jax.random.bits(key, (size,)))


def test_of_many_keys():
    keys = jax.random.split(jax.random.key(1), (2, 3))
    each = lambda draw: jax.jit(jax.vmap(jax.vmap(draw)))(keys)
    ours = each(lambda key: jax.random.normal(prng.unrolled(key), (4, 5, 3)))
    np.testing.assert_array_equal(ours, each(lambda key: jax.random.normal(key, (4, 5, 3))))


def test_it_is_threefry():
    """Known answers of Random123's own tests (`kat_vectors`, threefry2x32 with 20 rounds)."""
    for key, counter, expected in (
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ):
        words = prng.threefry(np.array(key, np.uint32), *np.array(counter, np.uint32)[:, None])
        assert [int(word[0]) for word in words] == list(expected)


def test_keys_of_other_generators_stay_what_they_are():
    key = jax.random.key(0, impl="rbg")
    assert prng.unrolled(key) is key
    ours = prng.unrolled(jax.random.key(0))
    assert prng.unrolled(ours) is ours
