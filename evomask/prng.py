"""JAX's random bits, on a CPU in a quarter of the time.

JAX's generator is Threefry-2x32 with twenty rounds (Salmon et al. 2011). On CPUs it hands XLA a loop of five steps,
each of which takes every word through memory; here the rounds are one expression. The bits are the same. Where each
of a few words is read many times the loop is no slower.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl, threefry_prng_impl

from evomask.types import Array, Key

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = np.uint32(0x1BD11BDA)


def unrolled(key: Key) -> Key:
    r"""A key of `jax.random.key` as one that draws the same bits without a loop; of another generator, the key itself.

    On two CPU cores, the noise of 13 photographs took 9 ms instead of 34:

        python -m timeit -s 'import jax; from evomask.prng import unrolled  # or unrolled = lambda key: key' \
            -s 'f = jax.jit(jax.vmap(lambda key: jax.random.normal(unrolled(key), (224, 224, 3))))' \
            -s 'keys = jax.random.split(jax.random.key(0), 13); f(keys)' 'jax.block_until_ready(f(keys))'

    >>> key = jax.random.key(3)
    >>> bool((jax.random.normal(unrolled(key), (5,)) == jax.random.normal(key, (5,))).all())
    True
    """
    return _with(UNROLLED, key)


def inlined(key: Key) -> Key:
    """As `unrolled`, for words that are read a few times: XLA puts what draws them into the expression that reads them.

    >>> key = jax.random.key(3)
    >>> bool((jax.random.uniform(inlined(key), (5,)) == jax.random.uniform(key, (5,))).all())
    True
    """
    return _with(INLINED, key)


def threefry(key: Array, high: Array, low: Array) -> tuple[Array, Array]:
    """Encrypts counters of 64 bits, uint32[...] each half, with a key uint32[2] (Salmon et al. 2011, section 3.3).

    Returns:
      Both halves, uint32[...], of what each counter becomes.
    """
    keys = key[0], key[1], key[0] ^ key[1] ^ PARITY
    x, y = high + keys[0], low + keys[1]
    for step in range(5):
        for rotation in ROTATIONS[step % 2]:
            x = x + y
            y = (y << np.uint32(rotation) | y >> np.uint32(32 - rotation)) ^ x
        x, y = x + keys[(step + 1) % 3], y + keys[(step + 2) % 3] + np.uint32(step + 1)
    return x, y


def _with(impl: Any, key: Key) -> Key:
    if str(jax.random.key_impl(key)) != threefry_prng_impl.name:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=impl)


def _drawing(words: Callable[[Array, int], Array], name: str, tag: str) -> Any:
    """JAX's generator, whose words of 32 bits are those of `words(key, size)`."""

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
        size = math.prod(shape)
        if width != 32 or not size < 2**31:
            return threefry_prng_impl.random_bits(key, width, shape)
        return words(key, size).reshape(shape)

    jax_own = {part: getattr(threefry_prng_impl, part) for part in ("seed", "split", "fold_in")}
    return define_prng_impl(key_shape=(2,), random_bits=bits, name=f"threefry2x32, {name}", tag=tag, **jax_own)


def _from(start: Array | int, key: Array, size: int) -> Array:
    """uint32[size], the words of a key from number `start` on."""
    low = jax.lax.iota(jnp.uint32, size) + jnp.asarray(start, jnp.uint32)
    x, y = threefry(key, jnp.zeros_like(low), low)
    return x ^ y


@functools.cache
def _words(size: int) -> Callable[[Array], Array]:
    """uint32[2] -> uint32[size]. The halves are steps of a loop, one key after the other: what XLA can put into one
    expression with whatever reads the words, it computes number by number.
    """
    half = -(-size // 2)

    @jax.custom_batching.sequential_vmap
    def words(key: Array) -> Array:
        def step(number: Array, found: Array) -> Array:
            start = number * (size - half)  # they share a word where they are not equal
            return jax.lax.dynamic_update_slice(found, _from(start, key, half), (start,))

        return jax.lax.fori_loop(0, 2, step, jnp.zeros(size, jnp.uint32))

    return words


UNROLLED = _drawing(lambda key, size: _words(size)(key), "unrolled", "fry")
INLINED = _drawing(functools.partial(_from, 0), "inlined", "fri")
