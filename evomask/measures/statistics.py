"""Paired comparisons, image by image: intervals by bootstrap, Wilcoxon's signed-rank test, Holm's correction.

Nothing is dropped. A value that is NaN is a failure: it takes the worst value (`failure`, 1 for areas) and is
counted; ties are counted, and share their ranks between both signs. Runs on the host, in NumPy and SciPy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from evomask.types import InputError


@dataclasses.dataclass(frozen=True)
class Interval:
    """A statistic of a sample and its bootstrap confidence interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One method against a rival on the same images; differences are ours - theirs."""

    rival: str
    images: int
    wins: int  # images on which ours is better
    ties: int
    losses: int
    failures: int  # of ours: NaN, counted with the failure value
    rival_failures: int
    difference: Interval  # mean difference
    median_difference: float
    p: float  # two-sided Wilcoxon signed-rank test
    p_holm: float  # corrected for all the rivals of the table


def fill_failures(values: ArrayLike, failure: float = 1.0) -> tuple[np.ndarray, int]:
    """NaN becomes `failure`; returns the values f64[N] and the number of failures.

    >>> fill_failures([0.2, float("nan")])
    (array([0.2, 1. ]), 1)
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise InputError(f"values must be one number per image, got shape {values.shape}")
    if np.isinf(values).any():
        raise InputError("values must not be infinite: use a bounded metric, such as cp_floored in place of cp")
    failed = np.isnan(values)
    return np.where(failed, failure, values), int(failed.sum())


def bootstrap(
    values: ArrayLike,
    statistic: Callable = np.mean,
    *,
    seed: int,
    confidence: float = 0.95,
    method: str = "BCa",
    resamples: int = 10_000,
) -> Interval:
    """Bootstrap interval of a statistic of f64[N] (Efron & Tibshirani 1993), over images; seeded.

    Args:
      statistic: (values, axis) -> values, such as np.mean or np.median.
      method: "BCa" or "percentile". BCa is not defined where the resampled statistic barely varies (one image,
      equal
        values, a median that does not move when one image is left out); the percentile interval is given there.

    >>> bootstrap([0.1, 0.2, 0.4, 0.3], seed=0, method="percentile")
    Interval(value=0.25, low=0.15..., high=0.35...)
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise InputError(f"values must be finite numbers [N], N >= 1 (see fill_failures), got shape {values.shape}")
    if method not in ("BCa", "percentile"):
        raise InputError(f'method must be "BCa" or "percentile", got {method!r}')
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie in (0, 1), got {confidence}")
    value = float(statistic(values, axis=0))
    rng = np.random.default_rng(seed)
    drawn = np.sort(statistic(values[rng.integers(len(values), size=(resamples, len(values)))], axis=1))
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if method == "BCa":
        tails = _bca_tails(values, value, drawn, statistic, tails)
    low, high = np.quantile(drawn, tails)
    return Interval(value, float(low), float(high))


def _bca_tails(
    values: np.ndarray, value: float, drawn: np.ndarray, statistic: Callable, tails: np.ndarray
) -> np.ndarray:
    """The quantiles to read instead of `tails`: bias from the draws, acceleration from leaving one image out."""
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    if len(values) < 2 or not 0 < below < 1:
        return tails
    left_out = np.array([statistic(np.delete(values, i), axis=0) for i in range(len(values))])
    pull = left_out.mean() - left_out
    spread = np.sum(pull**2)
    if spread == 0:
        return tails
    acceleration = np.sum(pull**3) / (6 * spread**1.5)
    from scipy import stats

    bias = stats.norm.ppf(below)
    z = bias + stats.norm.ppf(tails)
    return stats.norm.cdf(bias + z / (1 - acceleration * z))


def wilcoxon(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; a 0 gives half its rank to either sign; p = 1 if all are 0.

    >>> round(wilcoxon([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]), 4)
    0.0312
    """
    differences = np.asarray(differences, np.float64)
    if not differences.any():
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(differences, zero_method="zsplit").pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's step-down correction (Holm 1979): adjusted p-values in the order given, for a family-wise error rate.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def compare(
    ours: ArrayLike,
    rivals: Mapping[str, Sequence[float]],
    *,
    seed: int,
    smaller_is_better: bool = True,
    failure: float = 1.0,
    confidence: float = 0.95,
) -> list[Comparison]:
    """Ours against every rival, on the same images in the same order.

    Args:
      ours: one value per image; NaN where no explanation was found. rivals: the same of each rival.
      failure: what a NaN counts as; 1 suits areas, 0 a metric of which more is better.

    Raises:
      InputError: no rival, or another number of images than ours.

    >>> found = compare([0.1, 0.2, 0.1, 0.3], {"rise": [0.4, 0.2, float("nan"), 0.5]}, seed=0)[0]
    >>> found.wins, found.ties, found.losses, found.rival_failures
    (3, 1, 0, 1)
    """
    if not rivals:
        raise InputError("rivals is empty: give at least one method to compare with")
    mine, failures = fill_failures(ours, failure)
    rows = []
    for name, values in rivals.items():
        theirs, rival_failures = fill_failures(values, failure)
        if theirs.shape != mine.shape:
            raise InputError(f"{name} has values for {theirs.size} images and ours for {mine.size}: pair them first")
        differences = mine - theirs
        better = differences < 0 if smaller_is_better else differences > 0
        rows.append(
            Comparison(
                rival=name,
                images=mine.size,
                wins=int(better.sum()),
                ties=int((differences == 0).sum()),
                losses=int(mine.size - better.sum() - (differences == 0).sum()),
                failures=failures,
                rival_failures=rival_failures,
                difference=bootstrap(differences, seed=seed, confidence=confidence),
                median_difference=float(np.median(differences)),
                p=wilcoxon(differences),
                p_holm=np.nan,
            )
        )
    adjusted = holm([row.p for row in rows])
    return [dataclasses.replace(row, p_holm=float(p)) for row, p in zip(rows, adjusted, strict=True)]
