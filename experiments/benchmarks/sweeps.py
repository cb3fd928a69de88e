"""What the sweep of an experiment declares: written beside its runs as sweep.json, so that tables know what was asked
even after the file in conf/experiment has been edited.

sweep.json
    about      what the experiment asks, from the head of its file
    values     {key: [value, ...]} of every key that it sweeps over, in this order
    default    {key: value} of every key of the configuration, if nothing is swept: groups by their choices
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from evomask.data import pictures
from evomask.files import write_atomically
from evomask.report import records

from ..shared import cli

FILE = "sweep.json"


class Declared(NamedTuple):
    """A sweep, as its experiment declares it."""

    about: str
    values: dict[str, list[str]]
    default: dict[str, Any]  # nested as the configuration is; the choices of groups under "choices"

    @property
    def cells(self) -> list[dict[str, str]]:
        """One {key: value} for each job; none if nothing is swept."""
        return product(self.values) if self.values else []

    def standard(self, key: str) -> str:
        """What a key is if nothing is swept."""
        choices = self.default["choices"]
        return str(choices[key]) if key in choices else written(OmegaConf.select(OmegaConf.create(self.default), key))


def declared(out: str | Path, experiment: str) -> Declared:
    """What was declared when the runs were made; of runs without a (readable) sweep.json, what conf/ says today."""
    path = pictures.located(out) / experiment / FILE
    try:
        return Declared(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return of_conf(experiment)
    except (OSError, ValueError, TypeError) as error:
        cli.say(f"{path} cannot be read ({error}): the sweep is taken from conf/experiment as it is today")
        return of_conf(experiment)


def write(folder: Path, experiment: str) -> None:
    """Writes what the experiment of this job declares beside its runs, unless it stands there."""
    sources = HydraConfig.get().runtime.config_sources
    added = tuple(each.path for each in sources if each.schema == "file" and Path(each.path) != cli.CONF)
    text = records.as_json(of_conf(experiment, added)._asdict())
    path = folder / FILE
    if not path.is_file() or path.read_bytes() != text:
        write_atomically(path, lambda file: file.write(text))


@functools.lru_cache(maxsize=32)
def of_conf(experiment: str, added: tuple[str, ...] = ()) -> Declared:
    """What the experiment's file declares now; `added` are folders of configuration beside conf/ (`--config-dir`).

    >>> of_conf("hierarchy").cells
    [{'stages': 'flat'}, {'stages': 'two'}, {'stages': 'as_preset'}]
    """
    files = (Path(folder) / "experiment" / f"{experiment}.yaml" for folder in (*added, cli.CONF))
    path = next((path for path in files if path.is_file()), None)
    overrides = [f"+experiment={experiment}"] if path else []
    config = composed([*overrides, *([f"hydra.searchpath=[{','.join(added)}]"] if added else [])])
    params = (config.hydra.sweeper.params or {}) if path else {}
    one = OverridesParser.create().parse_override
    given = {key: one(f"{key}={text}") for key, text in params.items()}
    values = {
        key: [plain(each) for each in (asked.sweep_string_iterator() if asked.is_sweep_override() else [params[key]])]
        for key, asked in given.items()
    }
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path else []
    head = itertools.takewhile(lambda line: line.startswith("# ") and not line.startswith("#  "), lines)
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    unresolved = OmegaConf.to_container(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))
    return Declared(" ".join(line[2:] for line in head), values, {**unresolved, "choices": choices})


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration of a benchmark, Hydra's own part included; we may be in a job of Hydra ourselves."""
    hidden = mock.patch.object(GlobalHydra.instance(), "hydra", None)
    with hidden, hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return hydra.compose("benchmark", list(overrides), return_hydra_config=True)


def product(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination, the last key fastest."""
    return [dict(zip(values, each)) for each in itertools.product(*values.values())]


def written(node: Any) -> str:
    """A value of a configuration as text."""
    node = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return plain(json.dumps(node)) if not isinstance(node, str) else node


def plain(text: str) -> str:
    """The same text for the same value, however it was written.

    >>> plain("[0.5, 1]"), plain('["a"]')
    ('[0.5,1]', '["a"]')
    """
    value = yaml.safe_load(text) if text[:1] in "[{" else text
    return str(text).replace(" ", "") if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
