"""Slides: the tiles and pixels that decide are found, what is said of a grid is true of the slide, files are read in
rows of tiles, and bad input is refused before anything is searched."""

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

import evomask
from evomask import presets, slides
from evomask.decisions import Threshold

TILE, SIDE = 16, 88  # a grid of 6 x 6, whose last row and column are half empty
QUICK = presets.smallest(500)


def embed(tiles):
    """How much red, how much green: a quarter of a tile is as good as all of it."""
    return jnp.clip(4 * tiles[..., :2].mean((1, 2)), 0, 1)


def decide(grids):
    """Red where two tiles are red, green where one is."""
    red = jnp.sort(grids[..., 0].reshape(len(grids), -1), axis=1)[:, -2:].mean(1)
    return 12.0 * jnp.stack([red - 0.6, grids[..., 1].max((1, 2))], 1)


def slide() -> np.ndarray:
    """Two red places, of which one is the left half of a tile, and nothing green."""
    found = np.zeros((SIDE, SIDE, 3), np.uint8)
    found[16:32, 32:48, 0] = 255
    found[64:80, 0:8, 0] = 255
    return found


@pytest.fixture(scope="module")
def found() -> slides.SlideExplanation:
    return evomask.explain_slide(slide(), embed, decide, key=0, tile=TILE, into=5, config=QUICK)


def test_the_tiles_and_the_pixels_that_decide(found):
    assert found.overview.complete and np.argwhere(found.overview.mask).tolist() == [[1, 2], [4, 0]]
    assert set(found.tiles) == {(1, 2), (4, 0)} and found.tile == TILE
    np.testing.assert_allclose(found.overview.image[1, 2], (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(found.overview.image[4, 0], (0.5, 0, 0), atol=1e-6)
    for one in found.tiles.values():
        assert one.complete and not one.mask[0, 0]
    first, second = found.tiles[1, 2].mask.sum(), found.tiles[4, 0].mask[:, :8].sum()
    assert 36 <= first <= 44  # red ones are enough beside the whole second tile,
    assert second >= 64 - (first - 36)  # and then so many of that one's


def confidence(shown: np.ndarray) -> float:
    """Of the slide itself, of which bool[96, 96] pixels are shown, cut into tiles anew."""
    padded = np.pad(slide() / np.float32(255), [(0, 96 - SIDE)] * 2 + [(0, 0)]) * shown[..., None]
    tiles = padded.reshape(6, TILE, 6, TILE, 3).swapaxes(1, 2).reshape(36, TILE, TILE, 3).astype(np.float32)
    red, green = np.asarray(decide(embed(jnp.asarray(tiles)).reshape(1, 6, 6, 2)))[0]
    return float(1 / (1 + np.exp(green - red)))


def test_what_is_said_is_true_of_the_slide(found):
    """Of the mask of tiles, and of the same with the pixels of one tile after the other in its place."""
    shown = np.repeat(np.repeat(found.overview.mask, TILE, 0), TILE, 1)
    for one, place in [(found.overview, None), *((one, place) for place, one in found.tiles.items())]:
        if place is not None:
            row, column = (TILE * number for number in place)
            shown[row : row + TILE, column : column + TILE] = one.mask
        assert one.confidence == pytest.approx(confidence(np.ones_like(shown)), abs=1e-5)
        assert one.masked_confidence == pytest.approx(confidence(shown), abs=1e-5)
        assert one.inverse_confidence == pytest.approx(confidence(~shown), abs=1e-5)
        assert one.blank_confidence == pytest.approx(confidence(np.zeros_like(shown)), abs=1e-5)
        assert one.fills == ("constant",) and one.blanks.shape[-1] == one.image.shape[-1] == 3


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_a_file_is_as_good_as_an_array(tmp_path, found, suffix):
    path = tmp_path / f"slide{suffix}"
    if suffix == ".npy":
        np.save(path, slide())
    else:
        tifffile.imwrite(path, slide(), photometric="rgb")
    told = []
    options = {"tile": TILE, "into": 1, "config": QUICK, "progress": lambda *counts: told.append(counts)}
    read = evomask.explain_slide(path, embed, decide, key=0, **options)
    np.testing.assert_array_equal(read.overview.mask, found.overview.mask)
    assert told == [(6 * row, 36) for row in range(1, 7)]
    [place] = read.tiles
    assert place == next(iter(found.tiles))
    np.testing.assert_array_equal(read.tiles[place].mask, found.tiles[place].mask)


def test_any_decision(found):
    redness = lambda grids: grids[:, :3, :, 0].max((1, 2))  # of the upper half
    high = Threshold(0.6, scale=0.05, name="redness")
    own = evomask.explain_slide(slide(), embed, redness, key=0, tile=TILE, into=0, decision=high, config=QUICK)
    assert own.overview.complete and np.argwhere(own.overview.mask).tolist() == [[1, 2]] and own.tiles == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"slide": np.zeros((64, 64), np.uint8)}, r"the slide is .*: give bytes or floats in \[0, 1\], \[H, W, C\]"),
        ({"slide": np.zeros((64, 64, 3), np.int32)}, r"the slide is .*: give bytes or floats in \[0, 1\], \[H, W, C\]"),
        (
            {"slide": np.full((64, 64, 3), 2.0)},
            "the slide has values from 2 to 2 in row 0, column 0 of its tiles: give",
        ),
        (
            {"slide": "slide.jpg"},
            "slide slide.jpg is of an unknown kind: give a .npy, an uncompressed .tif, or an array",
        ),
        (
            {"slide": "none.npy"},
            r"slide none.npy cannot be read \(FileNotFoundError: .*: give a .npy or an uncompressed",
        ),
        ({"tile": 64}, "the slide has 1 x 1 tiles of 64 pixels: give a smaller tile"),
        ({"tile": 0}, "tile is 0: give a whole number of 1 or more"),
        ({"into": -1}, "into is -1: give a whole number of 0 or more"),
        ({"blank": 1.5}, r"blank is 1.5: give a number in \[0, 1\], such as 0 for black"),
        (
            {"embed": lambda tiles: tiles.mean()},
            r"embed returns .* for one tile: it must return embeddings f32",
        ),
        ({"embed": lambda tiles: tiles @ jnp.ones((7, 2))}, r"embed fails on tiles f32\[1, 16, 16, 3\] \(TypeError: "),
        ({"embed": lambda tiles: embed(tiles) / 0.0}, "embed returned NaN or infinity: check its weights"),
        ({"decide": lambda grids: grids}, "it must return logits"),
        ({"config": presets.evomask(2000)}, "config draws showings, which are of a photograph: give presets.smallest"),
    ],
)
def test_bad_input_is_refused(changed, message):
    given = {"slide": np.zeros((64, 64, 3), np.uint8), "embed": embed, "decide": decide, "tile": TILE, "config": QUICK}
    given |= changed
    with pytest.raises(evomask.InputError, match=message):
        evomask.explain_slide(given.pop("slide"), given.pop("embed"), given.pop("decide"), key=0, **given)


def test_grids_and_tiles_go_in_as_many_at_a_time_as_the_network_says():
    sizes = set()

    def decide_few(grids):
        sizes.add(len(grids))
        return decide(grids)

    few = evomask.as_classifier(decide_few, batch_size=4)
    evomask.explain_slide(slide(), embed, few, key=0, tile=TILE, config=QUICK)
    assert max(sizes) == 4
