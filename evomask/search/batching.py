"""Work through a long leading axis in micro-batches: memory is bounded and the classifier runs at its best size."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

DEFAULT_BATCH = 32  # for a classifier that does not say at which size it runs fastest


def batch_size(classifier) -> int:
    """The classifier's own `batch_size`, or 32."""
    return getattr(classifier, "batch_size", DEFAULT_BATCH)


def chunks(inputs, size: int):
    """Split the leading axis N of every array into [ceil(N / size), size, ...]; the last chunk is padded with zeros.

    >>> chunks(jnp.arange(5), 2)
    Array([[0, 1],
           [2, 3],
           [4, 0]], dtype=int32)
    """

    def split(x):
        x = jnp.pad(x, [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(-1, size, *x.shape[1:])

    return jax.tree.map(split, inputs)


def in_batches(function: Callable, inputs, size: int, axis: str | None = None):
    """`function` over the leading axis of `inputs`, `size` items at a time; as one call, but with bounded memory.

    Args:
      function: arrays [size, ...] -> arrays [size, ...], each item on its own.
      inputs: a pytree of arrays [N, ...].
      size: items per call; a smaller N is one call of N.
      axis: of a mesh (inside `jax.shard_map`), whose devices share the calls and exchange what comes out.

    >>> in_batches(lambda x: 2 * x, jnp.arange(5), 2)
    Array([0, 2, 4, 6, 8], dtype=int32)
    """
    num = len(jax.tree.leaves(inputs)[0])
    calls = chunks(inputs, min(size, num))
    outputs = jax.lax.map(function, calls) if axis is None else _shared_map(function, calls, axis)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num], outputs)


def _shared_map(function: Callable, calls, axis: str):
    """`lax.map` whose steps are dealt to the devices along `axis`; every one of them gets all results.

    Where the steps do not divide evenly, the last devices repeat some: no shape depends on the device.
    """
    num, ways = len(jax.tree.leaves(calls)[0]), jax.lax.axis_size(axis)
    each = -(-num // ways)
    own = (jax.lax.axis_index(axis) * each + jnp.arange(each)) % num
    outputs = jax.lax.map(function, jax.tree.map(lambda x: x[own], calls))
    return jax.tree.map(lambda x: x[:num], jax.lax.all_gather(outputs, axis, tiled=True))
