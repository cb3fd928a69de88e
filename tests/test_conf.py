"""The YAML presets are the Python presets, and every part that a name stands for can be built and explained."""

import dataclasses

import jax
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from evomask import fills, operators, presets
from evomask.search.config import Config
from experiments.explain import build_config
from experiments.shared import cli

GROUPS = ("selection", "crossover", "mutation", "survival", "screening", "scoring", "fitness", "fill", "perturbation")
NAMES = {group: sorted(path.stem for path in (cli.CONF / group).glob("*.yaml")) for group in GROUPS}


def _compose(*overrides):
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return compose("explain", overrides=list(overrides))


def _same(a, b):
    """Two pytrees of the same structure (static fields included) and the same leaves."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.leaves(a) == jax.tree.leaves(b)


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_yaml_equals_python(name):
    _same(build_config(_compose(f"preset={name}")), presets.PRESETS[name]())


def test_every_python_preset_has_a_file():
    assert sorted(path.stem for path in (cli.CONF / "preset").glob("*.yaml")) == sorted(presets.PRESETS)


def test_the_budget_of_the_command_line_counts():
    config = _compose("budget=1000")
    _same(build_config(config), presets.evomask(1000))
    assert config.preset.budget == 1000  # and is what the results will say


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_the_demand_of_the_command_line_is_that_of_the_preset(name):
    config = _compose(f"preset={name}", "demand=sufficient", "budget=1000")
    _same(build_config(config), presets.PRESETS[name](1000, demand="sufficient"))
    assert build_config(_compose(f"preset={name}", "preset.demand=necessary")).demand == "necessary"


@pytest.mark.parametrize("name", sorted(path.stem for path in (cli.CONF / "decision").glob("*.yaml")))
def test_a_decision_has_the_defaults_of_its_record(name, tmp_path):
    given = {"between": ["label=a", "other=b"], "threshold": ["threshold=3"], "box": ["box=[0,0,8,8]"]}
    given |= {"similarity": ["references=[[1,0],[0,1]]"], "segment": [f"region.file={tmp_path}/region.npy"]}
    np.save(tmp_path / "region.npy", np.ones((8, 8), bool))
    config = _compose(f"decision={name}", *(f"decision.{one}" for one in given.get(name, [])))
    built = cli.instantiate(config.decision)
    defaults = {field.name: field.default for field in dataclasses.fields(built)}
    for key, default in defaults.items():
        assert default is dataclasses.MISSING or tuple_of(getattr(built, key)) == default
    assert hasattr(built, "alternatives")


def tuple_of(value):
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in NAMES[group]])
def test_every_part_takes_its_place_in_either_preset(group, name):
    for preset in presets.PRESETS:
        config = _compose(f"preset={preset}", f"{group}={name}")
        built = build_config(config)
        assert isinstance(built, Config)
        part = getattr(built if group in ("fitness", "fill", "perturbation", "scoring") else built.operators, group)
        alone = OmegaConf.load(cli.CONF / group / f"{name}.yaml")  # nothing of the part that it replaces is left
        _same(part, None if name == "none" else cli.instantiate(alone))


def test_every_operator_of_the_library_has_a_name():
    tables = (operators.SELECTIONS, operators.CROSSOVERS, operators.MUTATIONS, operators.SURVIVALS)
    for group, table in zip(GROUPS, tables):
        assert set(table) <= set(NAMES[group])


def test_fills_do_what_their_names_say():
    image = np.linspace(0, 1, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
    blank = {
        name: np.asarray(fills.blank(build_config(_compose(f"fill={name}")).fill, jax.random.key(0), image))
        for name in fills.SHIPPED
    }
    for name, value in (("black", 0.0), ("grey", 0.5), ("white", 1.0)):
        np.testing.assert_array_equal(blank[name], value)
    np.testing.assert_allclose(blank["mean"], np.broadcast_to(image.mean((0, 1)), image.shape), rtol=1e-6)
    assert 0 < np.abs(blank["blur"] - image).max() < 0.2
    assert blank["noise"].std() == pytest.approx(12**-0.5, rel=0.15)
    for name, fill in fills.SHIPPED.items():  # the library's own under that name
        _same(fill, build_config(_compose(f"fill={name}")).fill)
    assert {*fills.SHIPPED, "several", "drop"} == set(NAMES["fill"])
    _same(build_config(_compose("fill=drop")).fill, fills.Drop())
    _same(build_config(_compose("fill=several")).fill, tuple(fills.SHIPPED[name] for name in ("black", "mean", "blur")))


def test_help_names_every_option():
    config = OmegaConf.load(cli.CONF / "explain.yaml")
    text = config.hydra.help.template
    for group in (*GROUPS, "decision", "model", "preset"):
        line = next(line for line in text.splitlines() if line.strip().startswith(group + "  "))
        for path in (cli.CONF / group).glob("*.yaml"):
            assert path.stem in line.replace(",", " ").replace("(", " ").split(), (group, path.stem)
