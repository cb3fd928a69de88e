"""`Config.together`: images searched side by side get the masks they get in turn, and none depends on another."""

import dataclasses

import jax
import numpy as np
import pytest
from test_explain import CONFIG, IMAGES, LEFT, LINEAR, assert_same, batch, explain, row

import evomask
from evomask import presets
from evomask.search import sharding
from evomask.search.surrogate import Screening
from evomask.types import InputError
from experiments.shared.compiling import compile_seconds

SCREENED = dataclasses.replace(
    CONFIG,
    operators=dataclasses.replace(CONFIG.operators, screening=Screening(candidates=4, grid=8, samples=8, memory=64)),
)


def together(num, config=CONFIG):
    return dataclasses.replace(config, together=num)


def test_side_by_side_is_as_in_turn():
    found = explain(config=together(2))
    # Sums of a batch of batches may be rounded otherwise.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, batch())
    np.testing.assert_array_equal(found.mask, batch().mask)


def test_a_screened_search_ends_and_finds_the_evidence():
    """Batched factorizations once waited for each other for ever, most times of three."""
    for seed in range(3):
        found = explain(config=together(3, SCREENED), key=jax.random.key(seed))
        assert found.complete.all() and found.mask.sum((1, 2)).max() <= LEFT.astype(bool).sum() + 2


def test_no_bit_depends_on_the_neighbours():
    found = explain(config=together(3, SCREENED))
    for index in (0, 7):
        assert_same(explain(images=IMAGES[index : index + 1], config=together(3, SCREENED)), row(found, index))
    stream = evomask.explain_stream(LINEAR, iter(IMAGES), key=jax.random.key(3), config=together(3, SCREENED))
    assert_same(jax.tree.map(lambda *rows: np.stack(rows), *stream), found)


def test_a_mesh_has_as_many_on_each_device():
    mesh = sharding.images_mesh(jax.local_devices()[:2])
    assert_same(explain(config=together(2), mesh=mesh), explain(config=together(2)))


def test_one_program_and_progress_reaches_the_total():
    told = []
    config = together(2)
    evomask.precompile(LINEAR, IMAGES, config=config)
    with compile_seconds() as compiled:
        explain(config=config, progress=lambda done, total: told.append((done, total)))
    assert not compiled
    assert told[-1] == (8 * config.evaluations, 8 * config.evaluations)
    assert all(done % 2 == 0 for done, _ in told)  # two images at a time


def test_a_black_box_is_called_for_all_of_them_at_once():
    sizes = []

    def left(images):
        sizes.append(len(images))
        return np.asarray(LINEAR(images))

    small = presets.with_budget(CONFIG, 16 * 4 + 20 * 6)
    found = explain(evomask.BlackBox(left, 2, batch_size=50), IMAGES[:4], together(4, small))
    np.testing.assert_array_equal(found.mask, explain(images=IMAGES[:4], config=small).mask)
    searched = [size for size in sizes if size > 1]
    assert set(searched) == {50, 4 * 16 - 50, 4 * 20 - 50}  # masks and inverses of four images, never more than 50


@pytest.mark.parametrize("num", [0, -1, 1.5, "all", True])
def test_a_number_that_is_none_is_refused(num):
    with pytest.raises(InputError, match="together is .*: give a whole number of 1 or more"):
        explain(config=together(num))
