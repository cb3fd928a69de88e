"""Progress reaches the one who asked for it, and nobody else."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import oracles

import evomask
from evomask import operators
from evomask.search import fitness
from evomask.search.config import Config
from evomask.search.progress import reporting, tick

CLASSIFIER = oracles.constant()
IMAGES = np.ones((3, 6, 6, 1), np.float32)
CONFIG = Config(
    stages=(evomask.Stage("only", population=2, genes=1, radii=(1,), generations=4),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)


def test_of_two_listeners_each_is_told_of_its_own_call():
    first, second = [], []
    with reporting(lambda *figures: first.append(figures), 10) as one:
        with reporting(lambda *figures: second.append(figures), 20) as two:
            tick(4, one), tick(5, two), tick(6, one), tick(7, two, speaks=False)
        tick(8, two)  # nobody listens any more
    assert first == [(4, 10), (10, 10)] and second == [(5, 20)]


def test_two_threads_that_run_the_same_program_are_told_apart():
    told = {"outer": [], "inner": []}

    def explain(name, images, on_first=lambda: None):
        def progress(done, total):
            told[name].append((done, total))
            if len(told[name]) == 1:
                on_first()

        evomask.explain(CLASSIFIER, images, key=jax.random.key(0), config=CONFIG, chunk=1, progress=progress)

    other = threading.Thread(target=explain, args=("inner", IMAGES[:1]))
    explain("outer", IMAGES, other.start)  # the other call begins while this one is under way
    other.join(60)
    steps = np.cumsum([4] * 15)
    assert told["inner"] == [(done, 20) for done in steps[:5]]
    assert told["outer"] == [(done, 60) for done in steps]


def test_a_search_without_listener_tells_nobody():
    told = []
    with reporting(lambda *figures: told.append(figures), 1):
        evomask.explain(CLASSIFIER, jnp.asarray(IMAGES[:1]), key=jax.random.key(0), config=CONFIG)
    assert told == []
