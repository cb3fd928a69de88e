"""`conf/method/<name>.yaml` is the baseline of that name with the defaults that it has in Python, each written out."""

import dataclasses

import jax
import pytest
from omegaconf import OmegaConf

from evomask.baselines import BASELINES
from experiments import _cli

METHODS = _cli.CONF / "method"


def test_every_baseline_has_a_file():
    assert sorted(path.stem for path in METHODS.glob("*.yaml") if path.stem in BASELINES) == sorted(BASELINES)


@pytest.mark.parametrize("name", BASELINES)
def test_yaml_equals_python(name):
    config = OmegaConf.load(METHODS / f"{name}.yaml")
    built, default = _cli.instantiate(config), BASELINES[name]()
    assert type(built) is BASELINES[name]
    assert jax.tree.structure(built) == jax.tree.structure(default)  # static fields included
    assert jax.tree.leaves(built) == jax.tree.leaves(default)
    # Every field is in the file, so that an override finds it: method.keep=0.3
    assert set(config) == {"_target_", *(field.name for field in dataclasses.fields(default))}


def test_a_method_is_changed_by_override():
    config = OmegaConf.merge(OmegaConf.load(METHODS / "rise.yaml"), OmegaConf.from_dotlist(["keep=0.3", "grid=5"]))
    assert _cli.instantiate(config) == BASELINES["rise"](keep=0.3, grid=5)
