"""`conf/method/<name>.yaml` is the baseline of that name with the defaults that it has in Python, each written out."""

import dataclasses

import jax
import pytest
from omegaconf import OmegaConf

from evomask.baselines import BASELINES, OUTSIDE
from experiments.shared import cli

METHODS = cli.CONF / "method"


def test_every_baseline_has_a_file():
    known = {**BASELINES, **OUTSIDE}
    assert sorted(path.stem for path in METHODS.glob("*.yaml") if path.stem in known) == sorted(known)


@pytest.mark.parametrize("name", [*BASELINES, *OUTSIDE])
def test_yaml_equals_python(name, monkeypatch):
    monkeypatch.delenv("EVOMASK_REX", raising=False)
    mandatory = {"path": "heatmaps.npz"} if name == "heatmaps" else {}
    config = OmegaConf.merge(OmegaConf.load(METHODS / f"{name}.yaml"), mandatory)
    kind = {**BASELINES, **OUTSIDE}[name]
    built, default = cli.instantiate(config), kind(**mandatory)
    assert type(built) is kind
    assert jax.tree.structure(built) == jax.tree.structure(default)  # static fields included
    assert jax.tree.leaves(built) == jax.tree.leaves(default)
    # Every field is in the file, so that an override finds it: method.keep=0.3
    assert set(config) == {"_target_", *(field.name for field in dataclasses.fields(default))}


def test_a_method_is_changed_by_override():
    config = OmegaConf.merge(OmegaConf.load(METHODS / "rise.yaml"), OmegaConf.from_dotlist(["keep=0.3", "grid=5"]))
    assert cli.instantiate(config) == BASELINES["rise"](keep=0.3, grid=5)


def test_the_interpreter_of_rex_is_a_variable_of_the_environment(monkeypatch):
    monkeypatch.setenv("EVOMASK_REX", "elsewhere/bin/python")
    assert cli.instantiate(OmegaConf.load(METHODS / "rex.yaml")) == OUTSIDE["rex"]("elsewhere/bin/python")


def test_the_sweep_of_every_method_has_them_all():
    swept = OmegaConf.load(cli.CONF / "sweep" / "every_method.yaml").hydra.sweeper.params.method.split(",")
    assert sorted(swept) == sorted([*BASELINES, "evomask", "dissertation", "random_search"])
