"""The Python of the README and of the pages in docs/ runs as it is printed there, and no link leads nowhere."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from evomask import presets
from evomask.search.genome import space

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def pages() -> dict[str, dict]:
    """What the blocks of each page define, one after the other; where they leave the configuration to evomask, a quick
    one."""
    config = presets.smallest(200)
    plain = dataclasses.replace(config.operators, screening=None)
    quick = dataclasses.replace(config, stages=config.stages[:1], operators=plain)
    found: dict[str, dict] = {page.stem: {"quick": quick} for page in PAGES}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(presets, "evomask", lambda: quick)
        for page in PAGES:
            if page.stem == "recipes":  # which tests/test_recipes.py runs, as its readers do: under standard promotion
                continue
            for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
                exec(block, found[page.stem])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) < 8192


@pytest.mark.parametrize("page", ["README", "networks"])
def test_own_classifier_is_explained(pages, page):
    names = pages[page]
    assert names["found"].mask.shape == (4, 32, 32)
    assert names["found"].evaluations.tolist() == [names["quick"].evaluations] * 4


def test_a_heat_map_is_checked_against_shuffled_weights(pages):
    rank, similarity = pages["metrics"]["rank"], pages["metrics"]["similarity"]
    assert rank.shape == similarity.shape == (4,) and (abs(rank) < 0.9).all() and (abs(similarity) < 0.9).all()


def test_parts_are_replaced_before_the_budget_is_applied(pages):
    config = pages["algorithm"]["config"]
    assert len(config.fills) == 2 and config.confidence_ratio == 0.8
    assert {stage.genes for stage in config.stages} == {16}
    assert 1800 < config.evaluations <= 2000


def test_own_operator_moves_patches_by_no_more_than_it_says(pages):
    genome = jnp.array([[0, 5, 1], [31, 8, 2]], jnp.int32)
    everywhere = space(jnp.ones((32, 32), bool), jnp.array([1]))
    moved = jax.jit(pages["algorithm"]["Jitter"](3.0))(jax.random.key(2), genome, everywhere)
    assert moved.dtype == genome.dtype
    assert (moved[:, 2] == genome[:, 2]).all()
    assert 0 < jnp.abs(moved - genome).max() <= 3
    assert (moved[:, :2] >= 0).all() and (moved[:, :2] <= 31).all()
