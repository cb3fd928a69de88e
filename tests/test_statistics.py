"""Paired statistics: known values, SciPy's own bootstrap, and that nothing is ever dropped."""

import numpy as np
import pytest
from scipy import stats

from evomask.measures import statistics

SAMPLE = np.random.default_rng(0).exponential(size=40)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_bootstrap_agrees_with_scipy(method, statistic):
    ours = statistics.bootstrap(SAMPLE, statistic, seed=1, method=method, resamples=5_000)
    theirs = stats.bootstrap((SAMPLE,), statistic, n_resamples=5_000, method=method, rng=2).confidence_interval
    # Two independent runs of 5,000 resamples; the standard error of a 2.5 % quantile is about 1.5 % of the width.
    width = theirs.high - theirs.low
    np.testing.assert_allclose([ours.low, ours.high], theirs, atol=0.1 * width)
    assert ours.value == statistic(SAMPLE)


def test_bootstrap_is_seeded_and_narrows_with_the_confidence():
    wide, again = (statistics.bootstrap(SAMPLE, seed=3) for _ in range(2))
    narrow = statistics.bootstrap(SAMPLE, seed=3, confidence=0.5)
    assert wide == again
    assert statistics.bootstrap(SAMPLE, seed=4) != wide
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_bca_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = sum(
        interval.low <= 1.0 <= interval.high
        for interval in (statistics.bootstrap(rng.exponential(size=30), seed=i, resamples=500) for i in range(200))
    )
    assert 175 <= hits <= 199  # 95 % of 200 is 190; BCa covers a little less at 30 skewed values


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3]])
def test_bootstrap_of_equal_values_is_the_value(values):
    found = statistics.bootstrap(values, seed=0)
    assert found.value == pytest.approx(0.3) and found.low == pytest.approx(0.3) and found.high == pytest.approx(0.3)


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (dict(values=[]), "finite numbers"),
        (dict(values=[0.1, np.nan]), "fill_failures"),
        (dict(values=[0.1, 0.2], method="t"), "method"),
        (dict(values=[0.1, 0.2], confidence=95), "confidence"),
    ],
)
def test_bootstrap_refuses_bad_input(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        statistics.bootstrap(**arguments, seed=0)


def test_wilcoxon_by_hand():
    # Six differences of one sign: 2 of the 2^6 sign patterns are as extreme.
    assert statistics.wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == pytest.approx(2 / 64)
    # One negative, of the smallest rank: rank sums 1 or less on either side, 2 patterns each.
    assert statistics.wilcoxon([-1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == pytest.approx(4 / 64)


def test_wilcoxon_counts_ties():
    differences = np.linspace(0.1, 2.0, 20)
    assert statistics.wilcoxon(np.zeros(5)) == 1.0
    # Zeros speak for "no difference": dropped, they would leave p as it is.
    assert statistics.wilcoxon([*differences, *np.zeros(20)]) > 10 * statistics.wilcoxon(differences)


def test_holm_by_hand():
    np.testing.assert_allclose(statistics.holm([0.01, 0.02, 0.03, 0.005]), [0.03, 0.04, 0.04, 0.02])
    np.testing.assert_allclose(statistics.holm([0.6, 0.7]), [1.0, 1.0])


def test_compare_counts_every_image():
    ours = [0.1, 0.2, 0.3, np.nan, np.nan, 0.6]
    theirs = [0.2, 0.2, 0.1, np.nan, 0.5, np.nan]
    (found,) = statistics.compare(ours, {"rise": theirs}, seed=0)
    assert (found.images, found.wins, found.ties, found.losses) == (6, 2, 2, 2)  # two failures tie
    assert (found.failures, found.rival_failures) == (2, 2)
    assert found.difference.value == pytest.approx(np.mean([-0.1, 0.0, 0.2, 0.0, 0.5, -0.4]))
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_compare_finds_a_real_difference_and_no_false_one():
    rng = np.random.default_rng(6)
    ours = rng.uniform(0.1, 0.2, size=60)
    found = statistics.compare(
        ours, {"worse": ours + 0.05 + 0.01 * rng.normal(size=60), "same": ours + 0.01 * rng.normal(size=60)}, seed=0
    )
    worse, same = found
    assert worse.p_holm < 1e-8 and worse.wins == 60 and worse.difference.high < -0.04
    assert same.p_holm > 0.05 and same.difference.low < 0 < same.difference.high
    assert worse.p_holm == pytest.approx(2 * worse.p)


def test_direction_of_better():
    (found,) = statistics.compare([0.9, 0.8], {"rise": [0.1, np.nan]}, seed=0, smaller_is_better=False, failure=0.0)
    assert (found.wins, found.losses, found.rival_failures) == (2, 0, 1)


@pytest.mark.parametrize(
    "ours, rivals, problem",
    [
        ([0.1], {}, "rivals is empty"),
        ([0.1], {"rise": [0.1, 0.2]}, "rise has values for 2 images"),
        ([np.inf], {"rise": [0.1]}, "cp_floored"),
        ([], {"rise": []}, "one number per image"),
    ],
)
def test_compare_refuses_bad_input(ours, rivals, problem):
    with pytest.raises(ValueError, match=problem):
        statistics.compare(ours, rivals, seed=0)
