"""The film of a search: the best mask of every generation, and what is drawn of it."""

import dataclasses
import io

import jax
import numpy as np
import oracles
import pytest
from PIL import Image

import evomask
from evomask import operators
from evomask.report import film, records, sheets
from evomask.search import fitness
from evomask.search.config import Config
from evomask.types import InputError

SIDE = 10  # no multiple of eight, for masks are packed
BOX = (2, 2, 4, 2)
ORACLE = oracles.BoxOracle(boxes=(BOX,), threshold=0.25, sharpness=6.0)
IMAGES = np.stack([oracles.lit(BOX, SIDE, SIDE, 1)] * 2)
CONFIG = Config(
    stages=(
        evomask.Stage("gross", population=8, genes=3, radii=(1, 2), generations=7),
        evomask.Stage("fine", population=8, genes=4, radii=(0.05, 1), generations=6, cycles=2),
    ),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
    film=True,
)


@pytest.fixture(scope="module")
def found():
    return evomask.explain(ORACLE, IMAGES, key=0, config=CONFIG)


def test_a_film_has_the_best_mask_of_every_generation_and_changes_nothing(found):
    plain = evomask.explain(ORACLE, IMAGES, key=0, config=dataclasses.replace(CONFIG, film=False))
    assert plain.film is None
    jax.tree.map(np.testing.assert_array_equal, dataclasses.replace(found, film=None), plain)
    rounds = [stage.rounds for stage in CONFIG.stages]
    assert found.film.shape == (2, sum(rounds), SIDE, SIDE) and found.film.dtype == bool
    np.testing.assert_allclose(found.film.mean((2, 3)), found.history.area, rtol=1e-6)
    ends = found.film[:, np.cumsum(rounds) - 1]
    np.testing.assert_array_equal(ends, found.stage_masks)
    assert not np.array_equal(found.film[0, 0], found.film[0, -1])


def test_moments_are_even_and_end_with_the_mask_that_was_chosen(found):
    one, total = found[0], found.film.shape[1]
    few = film.moments(one, 5)
    assert [moment.generation for moment in few] == [*np.linspace(0, total - 1, 4).round().astype(int), None]
    assert [moment.stage for moment in few] == ["gross", "gross", "fine", "fine", "chosen"]
    assert few[1].evaluations == one.history.evaluations[few[1].generation]
    np.testing.assert_array_equal(few[2].mask, one.film[few[2].generation])
    np.testing.assert_array_equal(few[-1].mask, one.mask)
    assert len(film.moments(one, 1000)) == total + 1


def test_the_moving_picture_has_a_frame_for_each_moment_and_all_have_one_size(found, tmp_path):
    sheet = sheets.film(found[1], name="a photograph of this name")
    moving = Image.open(io.BytesIO(sheet.moving))
    assert moving.n_frames == found.film.shape[1] + 1 and moving.info["loop"] == 0
    assert moving.info["duration"] == film.RATE
    moving.seek(moving.n_frames - 1)
    assert moving.info["duration"] == film.REST and moving.size[0] == 512
    assert sheet.numbers["area"] == found.history.area[1].tolist() and sheet.numbers["stages"] == ["gross", "fine"]
    folder = records.write(tmp_path, [sheet])
    assert sorted(path.name for path in folder.iterdir()) == ["film.gif", "film.json", "film.npz", "film.png"]
    assert (folder / "film.gif").read_bytes() == sheet.moving
    plain = dataclasses.replace(found[1], film=None)
    plain.save(tmp_path)  # a film of another time does not stay beside it
    assert (folder / "explanation.png").exists() and not (folder / "film.gif").exists()
    assert (found[1].save(tmp_path) / "film.gif").exists()


def test_who_did_not_ask_for_a_film_is_told_how_to():
    plain = evomask.explain(ORACLE, IMAGES[:1], key=0, config=dataclasses.replace(CONFIG, film=False))
    with pytest.raises(InputError, match="has no film: search with a configuration whose film=True"):
        film.gif(plain[0])
    with pytest.raises(InputError, match="of 1 images"):
        film.gif(plain)
