"""Gaussian-process regression (Rasmussen & Williams 2006, chapter 2) on samples of which not all have every figure.

Figures come in kinds: a sample has all figures of a kind or none, and each kind is a process of its own. What the
predictions have in common is worked out once, however many of them are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask.types import Array, record


@record
class Process:
    """A process given N samples with M figures of K kinds."""

    factors: Array  # f32[K, N, N], lower Cholesky factors of the covariances of the samples that are known
    coefficients: Array  # f32[N, M], weights of a mask's correlations with the samples
    mean: Array  # f32[M], constant
    variance: Array  # f32[M], of the whole process


def ignorant(samples: int, kinds: np.ndarray) -> Process:
    """A process given nothing, for figures of these kinds, int[M]."""
    factors = jnp.broadcast_to(jnp.eye(samples)[None], (kinds.max() + 1, samples, samples))
    return Process(factors, jnp.zeros((samples, kinds.size)), jnp.zeros(kinds.size), jnp.zeros(kinds.size))


def condition(correlation: Array, figures: Array, known: Array, kinds: np.ndarray, noise: Array | float) -> Process:
    """The process given samples.

    The constant mean is the generalized least-squares one, the variance of the process the most likely one.

    Args:
      correlation: f32[N, N], of every two samples.
      figures: f32[N, M].
      known: bool[K, N], which samples have the figures of each kind.
      kinds: int[M], the kind of each figure.
      noise: the variance that no other sample explains, as a share of the whole.

    >>> process = condition(jnp.eye(2), jnp.array([[1.0], [3.0]]), jnp.ones((1, 2), bool), np.array([0]), 0.0)
    >>> process.mean.tolist(), process.variance.tolist(), process.coefficients[:, 0].tolist()
    ([2.0], [1.0], [-1.0, 1.0])
    """
    of_kinds = [_in_turn(_condition)(correlation, figures, one, noise) for one in known]
    factors, *rest = zip(*of_kinds)
    of_figures = [jnp.stack([of_kind[kind][..., figure] for figure, kind in enumerate(kinds)], -1) for of_kind in rest]
    return Process(jnp.stack(factors), *of_figures)


def predict(process: Process, across: Array, known: Array, kinds: np.ndarray, noise: Array | float) -> list[Array]:
    """The mean, the variance of the process, and the share of that which is left in doubt, all f32[P, M].

    What no sample explains is part of the doubt. `across` are the correlations of P masks with the samples, f32[P, N].
    """
    mean = process.mean[None] + across @ process.coefficients
    doubts = [
        _in_turn(_doubt)(factor, across, one.astype(jnp.float32), noise) for factor, one in zip(process.factors, known)
    ]
    doubt = jnp.stack([doubts[kind] for kind in kinds], axis=-1)
    return [mean, jnp.broadcast_to(process.variance[None], mean.shape), doubt]


def _condition(
    correlation: Array, figures: Array, known: Array, noise: Array | float
) -> tuple[Array, Array, Array, Array]:
    """The parts of a `Process` for one kind, with all figures as if they were of that kind."""
    weight = known.astype(jnp.float32)
    gram = correlation * weight[:, None] * weight[None] + jnp.diag(jnp.where(known, noise, 1.0))
    factor = jax.scipy.linalg.cho_factor(gram, lower=True)
    solved = jax.scipy.linalg.cho_solve(factor, weight[:, None] * jnp.concatenate([figures, weight[:, None]], axis=1))
    solved, ones = solved[:, :-1], solved[:, -1]
    mean = weight @ solved / jnp.maximum(ones.sum(), 1e-6)
    coefficients = solved - ones[:, None] * mean[None]
    variance = (weight[:, None] * (figures - mean[None]) * coefficients).sum(0) / jnp.maximum(weight.sum(), 1.0)
    return factor[0], coefficients, mean, jnp.maximum(variance, 0.0)


def _doubt(factor: Array, across: Array, weight: Array, noise: Array | float) -> Array:
    """f32[P]: the share of a kind's variance that the samples leave in doubt."""
    explained = jnp.square(jax.scipy.linalg.solve_triangular(factor, (across * weight[None]).T, lower=True)).sum(0)
    return jnp.maximum(1.0 + noise - explained, noise)


def _in_turn(solve: Callable[..., Any]) -> Callable[..., Any]:
    """`solve`, on a CPU one after the other where it is mapped over images.

    Two batched factorizations at the same time wait there for ever: each takes a thread to wait for its parts, which
    need one.
    """
    on_cpu = jax.custom_batching.sequential_vmap(solve)
    return lambda *args: jax.lax.platform_dependent(*args, cpu=on_cpu, default=solve)
