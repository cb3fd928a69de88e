"""What a mask or a heat map is worth without a classifier: against the truth, by itself, against another map.

Masks bool[B, H, W], heat maps f32[B, H, W], as in `metrics`, where these have their public names.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask.types import Array, InputError, Mask

# ---------------------------------------------------------------------- confidence per pixel, for NumPy and JAX alike


def cp(confidence: Any, area: Any) -> Any:
    """CP, confidence per pixel: confidence of the masked image / fraction of pixels kept; range [0, inf].

    Infinite for an empty mask, whatever its confidence, which is why `cp_floored` stands beside it.

    >>> cp(jnp.array([0.8, 0.8]), jnp.array([0.1, 0.0])), cp(np.array([0.5, 0.0]), np.array([0.25, 0.0]))
    (Array([ 8., inf], dtype=float32), array([ 2., inf]))
    """
    where = area.__array_namespace__().where
    return where(area > 0, confidence / where(area > 0, area, 1.0), np.inf)


def cp_floored(confidence: Any, area: Any, floor: float = 0.05) -> Any:
    """CP with areas below `floor` counted as `floor`; range [0, 1 / floor].

    >>> cp_floored(jnp.array([0.8, 0.8]), jnp.array([0.1, 0.0]))
    Array([ 8., 16.], dtype=float32)
    """
    return confidence / area.__array_namespace__().maximum(area, floor)


# ----------------------------------------------------------------------------------------------- against the truth


def precision(mask: Mask, truth: Mask) -> Array:
    """The share of the mask that is object, bool[..., H, W]; range [0, 1]; 0 for an empty mask."""
    hits, size = (mask & truth).sum((-2, -1)), mask.sum((-2, -1))
    return hits.astype(jnp.float32) / jnp.maximum(size, 1).astype(jnp.float32)


def recall(mask: Mask, truth: Mask) -> Array:
    """The share of the object that is in the mask, bool[..., H, W]; range [0, 1]; NaN without an object."""
    hits, size = (mask & truth).sum((-2, -1)), truth.sum((-2, -1))
    return jnp.where(size > 0, hits.astype(jnp.float32) / jnp.maximum(size, 1).astype(jnp.float32), jnp.nan)


def pointing_game(scores: Array, truth: Mask, tolerance: int = 0) -> Array:
    """Pointing game (Zhang et al. 2018): is the greatest score on the object, or at most `tolerance` pixels from it?

    The paper's tolerance is 15 pixels. Where several pixels share the greatest score, the share of them that hit: a
    constant map scores the object's area, not a hit. (Quantus `PointingGame` counts any of them; otherwise the
    same.)

    Args:
      scores: f32[B, H, W]. truth: bool[B, H, W].
    """
    reach = np.arange(-tolerance, tolerance + 1)
    disc = (reach[:, None] ** 2 + reach[None] ** 2 <= tolerance**2).astype(np.float32)
    near = jax.lax.conv(truth[:, None].astype(jnp.float32), jnp.asarray(disc)[None, None], (1, 1), "SAME")[:, 0] > 0.5
    best = scores == scores.max((-2, -1), keepdims=True)
    hit = (best & near).sum((-2, -1)).astype(jnp.float32) / jnp.maximum(best.sum((-2, -1)), 1).astype(jnp.float32)
    return nan_unless_finite(scores, hit)


def energy_in_object(scores: Array, truth: Mask) -> Array:
    """Energy-based pointing game (Wang et al. 2020, Score-CAM): share of the positive score on the object; [0, 1].

    Negative scores count as 0; a map without positive scores gives 0. Equals Quantus `RelevanceMassAccuracy` for
    maps without negative scores.
    """
    positive = jnp.maximum(scores, 0.0)
    total = positive.sum((-2, -1))
    inside = jnp.where(truth, positive, 0.0).sum((-2, -1))
    return nan_unless_finite(scores, jnp.where(total > 0, inside / jnp.where(total > 0, total, 1.0), 0.0))


# ----------------------------------------------------------------------------------------- heat maps by themselves


def gini(scores: Array) -> Array:
    """Sparsity: Gini index of |score| (Hurley & Rickard 2009; Chalasani et al. 2020); 0 even, 1 - 1/n one pixel only.

    0 for a zero map. Equals Quantus `Sparseness`, which adds 1e-7 to every value.

    >>> round(float(gini(jnp.array([[0.0, 0.0], [0.0, -3.0]]))), 6), float(gini(jnp.ones((2, 2))))
    (0.75, 0.0)
    """
    values = jnp.sort(jnp.abs(scores).reshape(*scores.shape[:-2], -1), axis=-1)
    num = values.shape[-1]
    weight = jnp.asarray((2.0 * np.arange(1, num + 1) - num - 1) / num, jnp.float32)
    total = values.sum(-1)
    return nan_unless_finite(scores, jnp.where(total > 0, values @ weight / jnp.where(total > 0, total, 1.0), 0.0))


def distinct(scores: Array) -> Array:
    """How many different scores there are, over the number of pixels; range (0, 1], 1 where no two are equal.

    >>> distinct(jnp.array([[1.0, 2.0], [2.0, 2.0]]))
    Array(0.5, dtype=float32)
    """
    values = jnp.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    steps = (values[..., 1:] != values[..., :-1]).sum(-1) + 1
    return nan_unless_finite(scores, steps.astype(jnp.float32) / values.shape[-1])


def rank_correlation(a: Array, b: Array) -> Array:
    """Spearman's rank correlation of two arrays of one shape; equal values share a rank; 0 if one is constant.

    >>> round(float(rank_correlation(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 4.0, 9.0]))), 6)
    1.0
    """
    found = correlation(_mean_ranks(a.reshape(-1)), _mean_ranks(b.reshape(-1)))
    return jnp.where(jnp.isfinite(a).all() & jnp.isfinite(b).all(), found, jnp.nan)


def correlation(a: Array, b: Array) -> Array:
    """Pearson's correlation of f32[N] and f32[N]; range [-1, 1]; 0 where one does not vary, NaN where one is."""

    def unit(x: Array) -> Array:
        centred = x - x.mean()
        norm = jnp.linalg.norm(centred)
        # Of sums that are equal but for rounding, a little variation remains: below 1e-6 of the values.
        varies = ~(norm <= 1e-6 * jnp.linalg.norm(x))  # NaN does
        return jnp.where(varies, centred / jnp.where(varies, norm, 1.0), 0.0)

    return unit(a) @ unit(b)


def ssim(a: Array, b: Array) -> Array:
    """Structural similarity of f32[H, W] in [0, 1] (Wang et al. 2004); range [-1, 1].

    Gaussian window of 11 pixels with sigma 1.5. The mean over the places where the window fits, as in
    `skimage.metrics.structural_similarity`.
    """
    if min(a.shape) < 11:
        raise InputError(f"SSIM needs maps of 11 x 11 pixels or more, got {a.shape}: enlarge them")
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps = jnp.asarray(taps / taps.sum(), jnp.float32)

    def smooth(x: Array) -> Array:
        return jax.scipy.signal.convolve2d(x, taps[:, None] * taps[None], mode="valid")

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b, cov = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2, smooth(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return similar.mean()


def _mean_ranks(x: Array) -> Array:
    order = jnp.sort(x)
    low, high = jnp.searchsorted(order, x, side="left"), jnp.searchsorted(order, x, side="right")
    # Half the sum of the first and last place; centred at once, for f32 keeps 24 bits and there may be 50,000 ranks.
    return 0.5 * (low + high - len(x)).astype(jnp.float32)


def scaled(scores: Array) -> Array:
    """f32[B, H, W], each scaled to [0, 1]; a constant map is 0."""
    low, high = scores.min((-2, -1), keepdims=True), scores.max((-2, -1), keepdims=True)
    return jnp.where(high > low, (scores - low) / jnp.where(high > low, high - low, 1.0), 0.0)


def nan_unless_finite(scores: Array, value: Array) -> Array:
    return jnp.where(jnp.isfinite(scores).all((-2, -1)), value, jnp.nan)
