"""The smallest union of cells on oracles for which it is known, the search on the same grid, and the program."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import skimage.io
import test_speed

import evomask
from evomask import InputError, presets
from evomask.perturbations import Perturbations
from evomask.questions import ask
from evomask.search.surrogate import Caution, Screening
from experiments import optimality
from experiments.benchmarks import ablations
from experiments.optimum import enumeration, grid

KEY = jax.random.key(0)
TILES = grid.tiles(3, (12, 12))
LEFT, RIGHT = (5, 1, 2, 2), (5, 9, 2, 2)  # in the middle of tiles 3 and 5, and each other's mirror image
BELOW = (9, 5, 2, 2)  # of tile 7
PLAIN = presets.smallest(500)


def mirrored(key, showing):
    """In three showings of ten, left and right are exchanged."""
    turned = jax.random.bernoulli(key, 0.3)
    return dataclasses.replace(showing, image=jnp.where(turned, showing.image[:, ::-1], showing.image))


SHOWN = dataclasses.replace(presets.evomask(1500), perturbation=Perturbations((mirrored,)), draws=60)


def posed(boxes, rule, lit, config):
    classifier = oracles.BoxOracle(boxes=boxes, rule=rule)
    return classifier, ask(classifier, oracles.lit(lit, 12, 12, 1)[None], None, None, KEY, config.fills)[0]


def union(*tiles):
    return np.asarray(grid.unions(jnp.asarray(TILES), jnp.array([sum(1 << tile for tile in tiles)]), (12, 12))[0])


def smallest(classifier, question, config, **options):
    return enumeration.smallest(classifier, question, TILES, key=KEY, config=config, **options)


@pytest.mark.parametrize(("cells", "shape"), [(2, (12, 12)), (3, (12, 12)), (3, (32, 32)), (2, (9, 14))])
def test_the_unions_of_a_grid_are_different_and_come_from_small_to_large(cells, shape):
    tiles = grid.tiles(cells, shape)
    order, pixels = grid.by_size(tiles, shape)
    masks = np.asarray(grid.unions(jnp.asarray(tiles), jnp.asarray(order), shape))
    assert sorted(order.tolist()) == list(range(2 ** len(tiles)))
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    np.testing.assert_array_equal(masks.sum((1, 2)), pixels)
    assert (np.diff(pixels) >= 0).all() and not masks[0].any() and masks[-1].all()
    assert [grid.number_of(mask, tiles) for mask in masks[:9]] == order[:9].tolist()
    assert grid.number_of(np.eye(*shape, dtype=bool), tiles) is None


@pytest.mark.parametrize("cells", [1, 5, 2.0, True, None])
def test_grids_that_cannot_be_tried(cells):
    with pytest.raises(InputError, match=r"cells is .*: give 2 to 4 along a side"):
        grid.tiles(cells, (32, 32))
    with pytest.raises(InputError, match=r"cells is 4, which does not suit images of 4 x 4 pixels: give less"):
        grid.tiles(4, (4, 4))


@pytest.mark.parametrize(("boxes", "rule"), [((LEFT, BELOW), "all"), ((LEFT, BELOW), "any")])
def test_the_smallest_complete_union_is_found(boxes, rule):
    best = smallest(*posed(boxes, rule, boxes, PLAIN), PLAIN)
    np.testing.assert_array_equal(best.mask, union(3, 7))
    assert best.ended == "found" and best.precision is None and 10 < best.tried <= 46


def test_inverses_are_asked_of_sufficient_unions_only():
    classifier, question = posed((LEFT,), "all", LEFT, PLAIN)
    best = smallest(classifier, question, PLAIN)
    np.testing.assert_array_equal(best.mask, union(3))
    calls = 512 // classifier.batch_size
    assert best.evaluations == (calls + calls // 2) * classifier.batch_size + 2  # half of all unions keep the box


def test_the_smallest_union_that_holds_is_larger_where_the_evidence_moves():
    classifier, question = posed((LEFT, RIGHT), "any", LEFT, SHOWN)
    plain = dataclasses.replace(SHOWN, perturbation=None)
    np.testing.assert_array_equal(smallest(classifier, question, plain).mask, union(3))
    best = smallest(classifier, question, SHOWN, rungs=[(8, 2), (32, 3)])
    np.testing.assert_array_equal(best.mask, union(3, 5))
    assert best.ended == "found" and best.precision.holds and best.precision.finalists == 4
    assert best.precision.counts.complete == 60


def test_unions_are_given_up_when_they_have_failed_too_often():
    classifier, question = posed((LEFT, RIGHT), "any", LEFT, SHOWN)
    asked = enumeration.pose(classifier, question, TILES, KEY, SHOWN, 32)
    turned = np.asarray(asked.bank.showing.image[:, 6, 10, 0] == 1)
    assert 4 < turned.sum() < 16
    numbers = np.array([0, 1 << 3, (1 << 3) + (1 << 5)])
    good, _ = enumeration.seen(asked, np.repeat(numbers, 32), np.tile(np.arange(32), 3))
    np.testing.assert_array_equal(good.reshape(3, 32), [np.zeros(32, bool), ~turned, np.ones(32, bool)])
    climb = functools.partial(enumeration.climb, asked, numbers, np.zeros(3, int), 0)
    left, failed, _ = climb([(32, 31)])
    assert left.tolist() == numbers[1:].tolist() and failed.tolist() == [turned.sum(), 0]
    left, _, spent = climb([(8, int(turned[:8].sum()) - 1), (32, 32)])
    assert left.tolist() == numbers[2:].tolist() and spent < 3 * 2 * 32


def test_what_is_not_found_says_why():
    classifier, question = posed((LEFT, RIGHT), "any", LEFT, SHOWN)
    assert smallest(oracles.constant(), question, PLAIN)[2:] == (512, "none", None)
    limited = smallest(classifier, question, SHOWN, limit=1)
    assert limited.mask is None and limited.ended == "limit"
    judged = smallest(classifier, question, SHOWN, rungs=[(1, 1)], finalists=2)
    assert judged.mask is None and judged.ended == "finalists" and judged.tried == 2


def test_the_search_on_the_grid_finds_what_is_there():
    classifier, question = posed((LEFT, RIGHT), "any", LEFT, SHOWN)
    screening = Screening(memory=64, noise=0.1, caution=Caution())
    config = grid.on_grid(SHOWN.replace(screening=screening, budget=1500), TILES)
    config = dataclasses.replace(config, stages=config.stages[::2])
    mask, spent, held = grid.smallest_held(classifier, question, TILES, key=KEY, config=config)
    assert held.holds[0] and config.first_cost + config.evolving < spent <= config.evaluations <= 1500
    number = grid.number_of(mask, TILES)  # not always the smallest, but a union that has what is needed
    assert number is not None and (mask >= union(3, 5)).all() and not mask.all()


def test_the_program_says_how_far_the_search_is(tmp_path, capsys):
    path, draw = test_speed.write_tiny(tmp_path), np.random.default_rng(0)
    for number in range(2):
        skimage.io.imsave(tmp_path / f"{number}.png", draw.integers(0, 256, (12, 12, 3), np.uint8))
    command = ["model=trained", f"model.path={path}", "data=listed", f"data.path={tmp_path}", "cells=2", "asked=plain"]
    assert optimality.main([*command, "budget.plain=144", f"out={tmp_path}/out"]) == 0
    assert "mean of" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "optimality.json").read_text())
    rows = written["rows"]
    assert [row["image"] for row in rows] == ["0", "1"] and written["config"]["cells"] == 2
    for row in rows:
        assert row["ended"] in ("found", "none") and 0 < row["evaluations"] <= 144
        if row["found_area"] is not None:
            assert row["ratio"] >= 1 and row["is_optimal"] == (row["ratio"] == 1)
    text = (tmp_path / "out" / "optimality.md").read_text().splitlines()
    assert text[0].startswith("| asked | images | smallest union |") and len(text) == 3


def test_means_count_what_was_not_found_as_the_whole_image():
    row = dict(asked="plain", optimal_area=0.25, free_area=0.1, found_area=0.5, ratio=2.0, is_optimal=False)
    failed = row | {"found_area": None, "ratio": None, "is_optimal": None, "optimal_area": 0.5}
    unknown = failed | {"optimal_area": None}
    rows = [row | {"image": "a"}, failed | {"image": "b"}, unknown | {"image": "c"}]
    found = optimality.means(rows, "plain")
    assert {name: figure["mean"] for name, figure in found.items()} == {
        "optimal_area": 0.375,
        "found_area": 0.75,
        "ratio": 2.0,
        "is_optimal": 0.0,
        "free_area": 0.1,
    }
    assert found["ratio"]["images"] == 2
    twice = [rows[0], rows[0] | {"ratio": 1.0}, rows[1]]
    assert optimality.means(twice, "plain")["ratio"]["mean"] == 1.75


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("asked=[best]", "asked is ['best']: give plain, holding or"),
        ("seeds=[-1]", "seeds is [-1]: give a list"),
        ("rungs=[[8,2],[4,1]]", "rungs is [[8, 2], [4, 1]]: give pairs of showings"),
        ("finalists=0", "finalists is 0: give a whole number of 1 or more"),
        ("cells=7", "cells is 7: give 2 to 4 along a side"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(override, message, tmp_path, capsys):
    assert optimality.main([override, f"out={tmp_path}"]) == 2
    assert message in capsys.readouterr().err


def test_bits_without_a_place_stay_off():
    """A population whose places were never filled has such genes, and crossover mixes them with others."""
    genome = jnp.asarray(TILES).at[::2].set(-1)
    space = evomask.search.genome.space(jnp.ones((12, 12), bool), jnp.array([2]))
    flipped = jax.vmap(lambda key: ablations.Flip(1.0)(key, genome, space))(jax.random.split(KEY, 32))
    masks = np.asarray(evomask.search.genome.rasterize(flipped, (12, 12)))
    assert all(grid.number_of(mask, TILES) is not None for mask in masks)
    assert (flipped[:, ::2] == -1).all() and len(np.unique(masks, axis=0)) > 8


def test_founders_leave_bits_without_a_place_off():
    """Of four bits that have a place two are on: any subset of these, or both and any of the others."""
    champion = jnp.asarray(TILES).at[::2].set(-1).at[1::4, 2].set(-1)
    space = evomask.search.genome.space(jnp.ones((12, 12), bool), jnp.array([2]))
    founders = jax.vmap(lambda key: ablations.Around()(key, space, 8, 9, champion))(jax.random.split(KEY, 32))
    masks = np.asarray(evomask.search.genome.rasterize(founders, (12, 12))).reshape(-1, 12, 12)
    assert all(grid.number_of(mask, TILES) is not None for mask in masks)
    assert len(np.unique(masks, axis=0)) == 4 + 4 - 1 and (masks[7::8] == union(1, 3, 5, 7)).all()


def test_founders_around_the_champion_are_unions():
    config = grid.on_grid(presets.smallest(500), TILES)
    assert config.evaluations <= 500 and not any(stage.confines for stage in config.stages)
    space = evomask.search.genome.space(jnp.ones((12, 12), bool), jnp.array([2]))
    champion = jnp.asarray(TILES).at[4:, 2].set(-1)
    founders = config.stages[1].founders(KEY, space, 16, 9, champion)
    masks = np.asarray(evomask.search.genome.rasterize(founders, (12, 12)))
    assert all(grid.number_of(mask, TILES) is not None for mask in masks) and masks[-1].all()
    assert (masks[0] <= union(0, 1, 2, 3)).all() and (masks[8:] >= union(0, 1, 2, 3)).all()


def test_help_names_every_key(capsys):
    assert optimality.main(["--help"]) == 0
    text = capsys.readouterr().out
    keys = ("asked", "data", "model", "cells", "budget", "seeds", "rungs", "finalists", "limit", "target")
    assert "Exit code 0" in text and all(f"\n  {key:9}  " in text for key in keys)
