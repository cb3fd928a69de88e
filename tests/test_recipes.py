"""The recipes of docs/recipes.md run as they are printed there, one after the other, and find what was put there."""

import pathlib
import re

import jax
import numpy as np
import pytest

from evomask import Status

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "recipes.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> tuple[dict, list]:
    """What the blocks define, and the explanations that they tell of."""
    names, told = {}, []
    with pytest.MonkeyPatch.context() as patched, jax.numpy_dtype_promotion("standard"):
        patched.chdir(tmp_path_factory.mktemp("recipes"))
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)):
            exec(block, names)
            if number == 0:
                names["say"] = told.append
    return names, told


def test_every_mask_is_complete(page):
    names, told = page
    assert [Status(one.status) for one in told] == [Status.COMPLETE] * 6
    assert all(0 < one.area < 0.2 for one in told)
    assert [one.name(one.label) for one in told[:2]] == ["fluid", "nodule"] and names["present"].shape == (200, 3)


def test_the_blot_is_found_to_the_pixel(page):
    rows, columns = np.nonzero(page[0]["blot"].mask)
    assert set(zip(rows.tolist(), columns.tolist())) <= {(3, 3), (3, 4), (4, 3), (4, 4)} and len(rows) >= 1


def test_the_detector_looks_into_its_box(page):
    names, told = page
    left, top, right, bottom = np.round(names["there"].box).astype(int)
    rows, columns = np.nonzero(told[4].mask)
    near = (rows >= top - 3) & (rows < bottom + 3) & (columns >= left - 3) & (columns < right + 3)
    assert near.mean() > 0.9


def test_the_slide_names_its_one_tile(page):
    names, _ = page
    assert np.argwhere(names["spot"].overview.mask).tolist() == [[5, 8]]
    assert Status(names["inside"].status) is Status.COMPLETE
    purple = np.zeros((128, 128), bool)
    purple[: 700 - 640, 1040 - 1024 : 1110 - 1024] = True
    assert (names["inside"].mask & purple).sum() > 0.05 * names["inside"].mask.sum()


def test_the_service_was_asked_again(page):
    assert page[0]["Service"].calls > 10
