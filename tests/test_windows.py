"""What windows lose: against a loop over every window, what it costs, and what an explanation makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evomask
from evomask import fills, presets, windows
from evomask.questions import ask
from evomask.search import scoring
from evomask.search.surrogate import Caution, Screening

BOXES = (2, 2, 6, 6), (16, 14, 4, 8)
ORACLE = oracles.BoxOracle(boxes=BOXES, rule="all", sharpness=4.0)
IMAGE = oracles.lit(BOXES, 24, 28, background=0.25)


def posed(*fill):
    return ask(ORACLE, IMAGE[None], np.array([1]), None, jax.random.key(0), fill)


@given(side=st.integers(4, 300), num=st.integers(4, 10))
def test_windows_lie_evenly_and_leave_no_gap(side, num):
    rows = windows.windows((side, side), num).rows if num <= side else windows.windows((side, side), 4).rows
    first, length = rows.argmax(1), rows.sum(1)
    assert rows.any(0).all() and (length == length[0]).all() and abs(length[0] - side / min(len(rows), 7)) < 1
    assert first[0] == 0 and first[-1] + length[-1] == side and np.ptp(np.diff(first)) <= 1
    assert (np.diff(rows.astype(int), axis=1) != 0).sum(1).max() <= 2  # each is one piece


@pytest.mark.parametrize("fill", [(fills.Constant(0.0),), (fills.Constant(0.0), fills.Constant(0.4))])
def test_what_is_lost_is_the_mean_over_the_windows_that_cover_a_pixel(fill):
    (question,) = posed(*fill)
    lost, cost = windows.lost(ORACLE, [question, question], 5, np.array([50, 15]))
    assert cost.tolist() == [25 * len(fill), 0] and np.isnan(lost[1]).all()
    total, number = np.zeros((2, 24, 28))
    for top in np.round(np.linspace(0, 24 - 5, 5)).astype(int):
        for left in np.round(np.linspace(0, 28 - 6, 5)).astype(int):
            window = (slice(top, top + 5), slice(left, left + 6))
            odds = []
            for blank in question.blanks:
                shown = IMAGE.copy()
                shown[window] = blank[window]
                least = min(shown[y : y + h, x : x + w].mean() for y, x, h, w in BOXES)
                odds.append(1 / (1 + np.exp(-4.0 * (least - 0.5))))
            total[window] += question.whole.confidence - min(odds)
            number[window] += 1
    np.testing.assert_allclose(lost[0], total / number, atol=1e-6)
    assert lost[0].max() > 0.1


@pytest.mark.parametrize(
    ("left", "fill", "num"), [(15, 1, 0), (16, 1, 4), (99, 1, 9), (500, 1, 10), (99, 2, 7), (-8, 1, 0)]
)
def test_as_many_windows_as_are_paid_for(left, fill, num):
    (question,) = posed(*[fills.Constant(0.1 * number) for number in range(fill)])
    lost, cost = windows.of_one(ORACLE, question, 10, left)
    assert cost == fill * num**2 <= max(left, 0) and np.isfinite(lost).all() == bool(num)


def test_a_picture_has_no_more_windows_than_pixels():
    oracle = oracles.BoxOracle(boxes=((0, 0, 2, 2),))
    (question,) = ask(
        oracle, oracles.lit((0, 0, 2, 2), 6, 10)[None], np.array([1]), None, jax.random.key(0), (fills.Constant(),)
    )
    assert windows.of_one(oracle, question, 10, 400)[1] == 36


def test_windows_change_nothing_but_the_score_of_pixels_outside_the_mask_and_what_it_cost():
    y, x = np.mgrid[:24, :28]
    weight = np.exp(-((y - 9) ** 2 + (x - 18) ** 2) / 200).astype(np.float32)[..., None] / 200
    bright = lambda images: 6 * (images * weight[None]).sum((1, 2))
    oracle = evomask.as_classifier(lambda images: jnp.concatenate([8 - bright(images), bright(images)], axis=1))
    image = np.ones((24, 28, 1), np.float32)
    config = presets.evomask(1200).replace(
        genes=8, screening=Screening(memory=64, noise=0.1, caution=Caution()), budget=1200
    )
    find = lambda **parts: evomask.explain(oracle, image[None], key=0, config=config.replace(**parts))[0]
    told = find()
    count = oracles.programs()
    mute, inside = find(windows=0), find(score_inside_only=True)
    assert oracles.programs() == count and inside.evaluations == mute.evaluations
    np.testing.assert_array_equal(told.mask, mute.mask)
    np.testing.assert_array_equal(told.score[told.mask], mute.score[told.mask])
    (question,) = ask(oracle, image[None], np.array([1]), None, jax.random.key(0), (fills.Constant(0.0),))
    lost, cost = windows.of_one(oracle, question, 10, config.evaluations - int(mute.evaluations))
    assert int(told.evaluations) == int(mute.evaluations) + cost <= 1200 and cost >= 16
    np.testing.assert_array_equal(told.label, mute.label)
    order = lambda one: np.argsort(np.argsort(one[~told.mask]))
    assert np.corrcoef(order(told.score), order(lost))[0, 1] > 0.8 > np.corrcoef(order(mute.score), order(lost))[0, 1]


@pytest.mark.parametrize("whole", [False, True])
def test_scores_are_finite_whatever_the_mask(whole):
    rng, mask = np.random.default_rng(0), np.full((1, 4, 5), whole)
    total, lost = rng.uniform(size=(1, 4, 5)), np.zeros((1, 4, 5))
    found = scoring.told_apart(total, mask, lost)
    spread = total if whole else (total - total.min()) / np.ptp(total)
    np.testing.assert_allclose(found, spread)
    np.testing.assert_array_equal(scoring.told_apart(total, mask, lost * np.nan), total)
