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


def in_batches(function: Callable, inputs, size: int):
    """`function` over the leading axis of `inputs`, `size` items at a time; as one call, but with bounded memory.

    Args:
      function: arrays [size, ...] -> arrays [size, ...], each item on its own.
      inputs: a pytree of arrays [N, ...].
      size: items per call; a smaller N is one call of N.

    >>> in_batches(lambda x: 2 * x, jnp.arange(5), 2)
    Array([0, 2, 4, 6, 8], dtype=int32)
    """
    num = len(jax.tree.leaves(inputs)[0])
    outputs = jax.lax.map(function, chunks(inputs, min(size, num)))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num], outputs)
