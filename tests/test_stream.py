"""A stream of images: the bits of `explain`, one program, read as needed, and as much memory for many as for a few."""

import dataclasses
import gc
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import evomask
from evomask import operators
from evomask.search import fitness
from evomask.search.config import Config
from evomask.stream import explain_stream
from evomask.types import InputError

KEY = jax.random.key(2)
SIDE = 8
LEFT = oracles.box_mask((2, 1, 4, 2), SIDE, SIDE)
WEIGHTS = np.stack(
    [np.random.default_rng(1).uniform(-0.1, 0.1, 64), 2.5 * LEFT.ravel()], axis=1
)  # others matter a little
LINEAR = oracles.LinearOracle(jnp.asarray(WEIGHTS, jnp.float32), jnp.array([0.0, -10.0]))
IMAGES = np.where(LEFT[None, ..., None], 1.0, np.random.default_rng(0).uniform(0, 0.6, (7, SIDE, SIDE, 1)))
IMAGES = IMAGES.astype(np.float32)
CONFIG = Config(
    stages=(evomask.Stage("only", population=6, genes=3, radii=(1, 2), generations=7),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)


def explained(images=IMAGES, classifier=LINEAR, **options):
    return explain_stream(classifier, images, **{"key": KEY, "config": CONFIG} | options)


def stacked(found):
    return jax.tree.map(lambda *rows: np.stack(rows), *found)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


LABELS = np.array([1, 0, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("options", [dict(), dict(labels=LABELS, contrast=1 - LABELS)])
def test_bits_are_those_of_explain(options):
    expected = evomask.explain(LINEAR, IMAGES, key=KEY, config=CONFIG, **options)
    assert_same(stacked(explained(**options)), expected)
    assert_same(stacked(explained(iter(IMAGES), **options)), expected)
    assert len(np.unique(expected.confidence)) == 7


def test_nothing_is_compiled_for_what_is_left_over():
    config = dataclasses.replace(CONFIG, together=4)
    assert len(list(explained(iter(IMAGES[:4]), config=config))) == 4
    programs = oracles.programs()
    assert len(list(explained(iter(IMAGES), config=config))) == 7  # 4 + 3
    assert oracles.programs() == programs


@pytest.mark.parametrize("together", [1, 2])
def test_images_are_read_as_needed(together):
    read = []

    def images():
        for number, image in enumerate(IMAGES):
            read.append(number)
            yield image

    found = explained(images(), config=dataclasses.replace(CONFIG, together=together))
    assert read == []
    for number, ahead in enumerate([1, 2, 3, 4, 5, 6, 7] if together == 1 else [2, 2, 4, 4, 6, 6, 7]):
        explanation = next(found)
        assert explanation.mask.shape == (SIDE, SIDE) and explanation.label == 1
        assert len(read) == ahead >= number + 1
    assert next(found, None) is None


def test_nothing_comes_of_nothing():
    assert list(explained([])) == [] == list(explained(iter([])))


def test_what_was_finished_before_a_black_box_died_is_there():
    """It dies in the search of the third image, and the stream then goes on with another box where it ended."""
    calls = []

    def mortal(images):
        calls.append(len(images))
        if len(images) > 1 and sum(size > 1 for size in calls) == 2 * 8 + 3:
            raise ConnectionResetError("the service is gone")
        return images.reshape(len(images), -1) @ WEIGHTS + [0.0, -10.0]

    box = evomask.BlackBox(mortal, 2)
    source, found = iter(IMAGES), []
    with pytest.raises(ConnectionResetError, match="^the service is gone$"):
        for explanation in explained(source, classifier=box):
            found.append(explanation)
    assert len(found) == 2
    found += explained([*IMAGES[2:3], *source], classifier=box)
    expected = evomask.explain(box, IMAGES, key=KEY, config=CONFIG)
    assert_same(stacked(found), expected)


def test_images_that_break_off_take_nothing_with_them():
    def images():
        yield from IMAGES[:4]
        raise OSError("the disk is gone")

    found = explained(images())
    assert [int(next(found).label) for _ in range(4)] == [1] * 4
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)


# ------------------------------------------------------------------------------------------------------------ memory


def test_memory_for_many_images_is_that_for_a_few():
    def images(num):
        return (np.full((SIDE, SIDE, 1), 0.5 + 0.5 * (i % 2), np.float32) for i in range(num))

    def peak(num):
        tracemalloc.start()
        for number, _ in enumerate(explained(images(num))):
            if number % 4 == 0:
                gc.collect()  # cycles that wait for the collector are no memory of ours
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(4)  # what is compiled and imported for the first time
    alive = len(jax.live_arrays())
    few, many = peak(40), peak(168)  # so many that what JAX keeps of its first calls does not matter
    assert many - few < 128 * 500  # 128 stored explanations would take 4 kB each
    assert len(jax.live_arrays()) <= alive


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_settings_are_refused_before_anything_is_read():
    with pytest.raises(InputError, match="key is 0.5: give a whole number"):
        explained(iter([]), key=0.5)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([IMAGES[0], IMAGES[1][:4]], {}, r"image 1 is \[4, 8, 1\], those before it \[8, 8, 1\]: give one shape"),
        (IMAGES[:2], dict(labels=[1]), "labels ends after 1 images: give one for each"),
        (IMAGES[:2], dict(labels=[1, 1, 1]), "labels goes on after the last image"),
        (IMAGES[:2], dict(labels=[1, 1], contrast=[0]), "contrast ends after 1 images: give one for each"),
        (IMAGES[:2], dict(labels=[1, 5]), "label 5 is out of range"),
        ([255 * IMAGES[0]], {}, r"give values in \[0, 1\]"),
    ],
)
def test_bad_rows(images, options, message):
    with pytest.raises(InputError, match=message):
        list(explained(images, **options))
