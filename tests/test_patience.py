"""`Stage.patience`: a stage whose champion has stopped to shrink is over, and what it would still cost is not spent."""

import dataclasses

import jax
import numpy as np
import pytest
from test_explain import CONFIG, LEFT, WHITE, assert_same, explain, linear, row
from test_explain import IMAGES as ALIKE

from evomask.search import refine

IMAGES = ALIKE.copy()  # others in what they show and so in how long they take
IMAGES[:, LEFT > 0] = np.random.default_rng(1).uniform(0.75, 1.0, (8, 8, 1))


def patient(patience, cycles=2, together=1):
    """The fine stage of the configuration, long enough to converge in."""
    gross, fine = CONFIG.stages
    fine = dataclasses.replace(fine, generations=30, cycles=cycles, patience=patience)
    return dataclasses.replace(CONFIG, stages=(gross, fine), together=together)


@pytest.fixture(scope="module")
def found():
    return explain(images=IMAGES, config=patient(8))


def test_an_early_end_spends_less_and_changes_nothing_before_it(found):
    on, length = explain(images=IMAGES, config=patient(None)), CONFIG.stages[0].rounds
    costs = np.diff(found.history.evaluations, axis=1, prepend=0)
    ran = (costs > 0).sum(1)
    assert (ran < costs.shape[1]).all() and len(set(ran)) > 1, ran
    assert all((number - length) % 31 in (8, 16, 24, 0) for number in ran)  # at the looks, or at the end of a cycle
    for image, last in enumerate(ran - 1):
        for field in dataclasses.fields(found.history):
            early, late = (getattr(each.history, field.name)[image] for each in (found, on))
            np.testing.assert_array_equal(early[: last + 1], late[: last + 1], err_msg=field.name)
            assert (early[last:] == early[last]).all(), field.name
    np.testing.assert_array_equal(found.evaluations, found.history.evaluations[:, -1])
    np.testing.assert_array_equal(found.ends[:, -1], found.evaluations)
    assert (on.evaluations == patient(None).evaluations).all() and (found.ends[:, 0] == on.ends[:, 0]).all()
    assert found.complete.all()


def test_the_rule_is_what_the_history_says(found):
    """The stage ends at the first look at which the rule is met, in the cycle that it looks at."""
    start, length = CONFIG.stages[0].rounds, 31
    for history in (one.history for one in found):
        ran = len(np.unique(history.evaluations)) - start
        for look in range(1, ran + 1):
            within = (look - 1) % length
            if (within + 1) % 8 and within + 1 < length or within < 8:
                continue
            now, then = start + look - 1, start + look - 1 - 8
            met = history.feasible[now] and history.feasible[then]
            met &= history.area[now] > (1 - refine.GAIN) * history.area[then]
            met &= history.area[now] <= refine.FAR
            assert met == (look == ran), (look, ran)


def test_a_champion_of_most_of_the_image_ends_no_stage():
    """What keeps the class is three quarters of six columns of eight, which is more than half of the image."""
    wide = np.where(np.arange(8) < 6, np.float32(50 / 48), np.float32(0)) + np.zeros((8, 1), np.float32)
    gross, fine = patient(8).stages
    config = dataclasses.replace(CONFIG, stages=(gross, dataclasses.replace(fine, radii=(1, 2))))
    found = explain(linear(wide, -35.0), WHITE, config)
    assert found.complete.all() and found.evaluations[0] == config.evaluations
    settled = found.history.area[0][-9:]
    assert settled[0] == settled[-1] > refine.FAR  # by the rest of the rule it would have been over


def test_none_waits_for_its_neighbours_and_none_is_changed_by_them(found):
    three = explain(images=IMAGES, config=patient(8, together=3))
    for index in range(len(IMAGES)):
        alone = explain(images=IMAGES[index : index + 1], config=patient(8, together=3))
        assert_same(alone, row(three, index))
    np.testing.assert_array_equal(three.evaluations, found.evaluations)


def test_progress_reaches_the_total_although_less_is_done():
    told, config = [], patient(8)
    explain(images=IMAGES, config=config, progress=lambda done, total: told.append((done, total)))
    done = [done for done, _ in told]
    assert done == sorted(done) and told[-1] == (len(IMAGES) * config.evolving,) * 2


def test_nothing_depends_on_how_long_turns_are(found, monkeypatch):
    monkeypatch.setattr(refine, "PAUSE", 1e-9)  # one generation at a time
    assert_same(jax.tree.map(lambda field: field[:2], found), explain(images=IMAGES[:2], config=patient(8)))
