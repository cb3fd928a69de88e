"""The README's Python runs as it is printed there."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from evomask import presets
from evomask.search.genome import space

BLOCKS = re.findall(r"```python\n(.*?)```", (pathlib.Path(__file__).parent.parent / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict:
    """What all blocks define, one after the other; where a block leaves the configuration to evomask, a quick one."""
    config = presets.smallest(200)
    plain = dataclasses.replace(config.operators, screening=None)
    quick = dataclasses.replace(config, stages=config.stages[:1], operators=plain)
    found: dict = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(presets, "evomask", lambda: quick)
        for block in BLOCKS:
            exec(block, found)
    return found | {"quick": quick}


def test_own_classifier_is_explained(names):
    assert names["found"].mask.shape == (4, 32, 32)
    assert names["found"].evaluations.tolist() == [names["quick"].evaluations] * 4


def test_parts_are_replaced_before_the_budget_is_applied(names):
    config = names["config"]
    assert len(config.fills) == 2 and config.confidence_ratio == 0.8
    assert {stage.genes for stage in config.stages} == {16}
    assert 1800 < config.evaluations <= 2000


def test_own_operator_moves_patches_by_no_more_than_it_says(names):
    genome = jnp.array([[0, 5, 1], [31, 8, 2]], jnp.int32)
    everywhere = space(jnp.ones((32, 32), bool), jnp.array([1]))
    moved = jax.jit(names["Jitter"](3.0))(jax.random.key(2), genome, everywhere)
    assert moved.dtype == genome.dtype
    assert (moved[:, 2] == genome[:, 2]).all()
    assert 0 < jnp.abs(moved - genome).max() <= 3
    assert (moved[:, :2] >= 0).all() and (moved[:, :2] <= 31).all()
