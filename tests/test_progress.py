"""The host has a word between generations: it tells how far a search has come, and can end it."""

import os
import signal
import threading
import time

import jax
import numpy as np
import oracles
import pytest

import evomask
from evomask import operators
from evomask.search import fitness, refine
from evomask.search.config import Config

IMAGES = np.ones((3, 6, 6, 1), np.float32)
CONFIG = Config(
    stages=(evomask.Stage("only", population=2, genes=1, radii=(1,), generations=4),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)


def explain(images=IMAGES[:1], classifier=oracles.constant(), **options):
    return evomask.explain(classifier, images, key=0, config=CONFIG, **options)


@pytest.mark.parametrize(("pause", "told"), [(0.0, [4, 8, 12, 16, 20]), (1e9, [4, 12, 20])])
def test_evaluations_are_told_as_they_are_done(monkeypatch, pause, told):
    """Five generations of two masks and their inverses: one at a time, or one and then twice as many each time."""
    expected, heard = explain(IMAGES), []
    monkeypatch.setattr(refine, "PAUSE", pause)
    found = explain(IMAGES, progress=lambda *figures: heard.append(figures))
    assert heard == [(before + now, 60) for before in (0, 20, 40) for now in told]
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_two_threads_hear_of_their_own_search():
    told = {"outer": [], "inner": []}

    def run(name, images, on_first=lambda: None):
        def progress(done, total):
            told[name].append((done, total))
            if len(told[name]) == 1:
                on_first()

        explain(images, progress=progress)

    other = threading.Thread(target=run, args=("inner", IMAGES[:1]))
    run("outer", IMAGES, other.start)  # the other call begins while this one is under way
    other.join(60)
    assert told["inner"][-1] == (20, 20) and told["outer"][-1] == (60, 60)
    assert {total for _, total in told["inner"]} == {20} and {total for _, total in told["outer"]} == {60}


def test_what_progress_raises_ends_the_search():
    asked = []

    def look(images):
        asked.append(len(images))
        return np.ones((len(images), 2), np.float32) * [3, 0]

    def enough(done, total):
        raise TimeoutError(f"after {done} of {total}")

    with pytest.raises(TimeoutError, match="after 4 of 20"):
        explain(classifier=evomask.BlackBox(look, 2), progress=enough)
    assert asked == [1, 1, 4]  # the whole image, the blank one, and the masks of one generation with their inverses


def test_a_slow_search_is_interrupted_between_two_generations():
    box, begun = evomask.BlackBox(lambda images: time.sleep(0.1) or np.ones((len(images), 2)) * [3, 0], 2), []

    def interrupt(done, total):
        begun.append(done)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores the signal
    try:
        with pytest.raises(KeyboardInterrupt):
            explain(classifier=box, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert begun == [4]


def test_generations_are_dealt_out_by_the_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(refine.time, "perf_counter", lambda: now[0])
    turns, taken = refine.Turns(), []
    for first, stop in turns.of(40):
        taken.append(stop - first)
        now[0] += 0.0625 * (stop - first) if first < 20 else 1.0 * (stop - first)
    assert taken == [1, 2] + [4] * 6 + [1] * 13
