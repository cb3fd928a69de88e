"""The cells of an experiment: which runs its sweep stands for, which of them are there, and what is wrong with the
others.

A cell has one value for every key that the experiment sweeps over. Tables, figures and reports begin with `gather`,
which refuses whatever cannot be compared, or notes it if told to.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from evomask.measures.budget import UnequalBudgets
from evomask.types import InputError
from experiments.benchmarks import runs as run_folders
from experiments.shared import cli

OURS = "evomask"
TITLES = {  # of methods, as their authors write them
    "dissertation": "dissertation", "random_search": "random search", "gradcam": "Grad-CAM", "gradcam_plus_plus": "Grad-CAM++",
    "integrated_gradients": "Integrated Gradients", "smoothgrad": "SmoothGrad", "rise": "RISE", "hsic": "HSIC", "lime": "LIME",
    "shap": "SHAP", "rex": "ReX", "heatmaps": "heat maps", "random_patches": "random patches", "random_pixels": "random pixels",
    "centred_square": "centred square",
}  # fmt: skip


class Cell(NamedTuple):
    """One cell of a sweep."""

    values: dict[str, str]  # of every key of the sweep
    folder: Path | None  # None: missing
    run: run_folders.Run | None  # None: there are no numbers
    note: str  # why it must not be compared with the others; empty: nothing is wrong

    @property
    def sound(self) -> bool:
        """Whether it can be compared."""
        return self.run is not None and not self.note

    @property
    def title(self) -> str:
        """Names the cell in tables and figures."""
        return ", ".join(
            TITLES.get(value, value) if key == "method" else f"{short(key)} {value}" if len(self.values) > 1 else value
            for key, value in self.values.items()
        )


class Sweep(NamedTuple):
    """The cells of an experiment that belong together."""

    experiment: str
    about: str  # what the experiment asks, from the head of its file
    keys: tuple[str, ...]
    cells: list[Cell]
    default: dict[str, str]  # the values of the keys if nothing is swept

    @property
    def sound(self) -> list[Cell]:
        """Those that can be compared."""
        return [cell for cell in self.cells if cell.sound]

    def groups(self) -> list[list[int]]:
        """Indices of the cells that are compared with each other: methods under the same circumstances."""
        groups = defaultdict(list)
        for index, cell in enumerate(self.cells):
            rest = [value for key, value in cell.values.items() if key != "method"]
            groups[tuple(rest) if "method" in self.keys else ()].append(index)
        return list(groups.values())

    def ours(self, group: Sequence[int]) -> int | None:
        """The cell of the group with which the others are compared: evomask, or what is the default in an ablation."""
        chosen = {"method": OURS} if "method" in self.keys else self.default
        matches = lambda cell: all(cell.values[key] == value for key, value in chosen.items())
        return next((index for index in group if self.cells[index].sound and matches(self.cells[index])), None)

    def is_ours(self, cell: Cell) -> bool:
        """Whether others are compared with this one."""
        return any(index is not None and self.cells[index] is cell for index in map(self.ours, self.groups()))


def short(key: str) -> str:
    """A key without what goes without saying.

    >>> short("preset.stages.gross.radii"), short("method")
    ('gross radii', 'method')
    """
    return key.removeprefix("preset.").removeprefix("stages.").replace(".", " ").replace("_", " ")


def gather(runs: str | Path, experiment: str | None, where: str | None = None, mark: bool = False) -> Sweep:
    """All cells of an experiment.

    Args:
      runs: the folder that benchmarks write to.
      where: overrides as for experiments.benchmark, "budget=480 method=evomask,rise": only such runs, and of the sweep
        only these values; a list makes the key one of the sweep's.
      mark: give cells that cannot be compared a note, instead of refusing them.

    Raises:
      InputError: no runs, or a cell is missing, failed, unfinished, there twice, or was run under other circumstances.
    """
    wanted, folders = parse(where), run_folders.find(runs, experiment) if experiment else []
    if not experiment or not folders:
        there = sorted({path.parent.parent.name for path in Path(runs).expanduser().glob("*/*/record.json")})
        asked = f"no runs of experiment {experiment!r} in {runs}" if experiment else "experiment is not set"
        raise InputError(f"{asked}: experiment=... takes {', '.join(there) or 'nothing, for there are no runs'}")
    base, params, about = _declared(experiment)
    found = [(folder, run_folders.read_record(folder), _config(folder)) for folder in folders]
    look = lambda key: [_value(record, config, key) for _, record, config in found]
    kept = [all(look(key)[i] in values for key, values in wanted.items()) for i in range(len(found))]
    found = [each for each, keep in zip(found, kept) if keep]
    varied = [key for key, values in wanted.items() if len(values) > 1 and key not in params]
    if not params:  # no experiment of conf/: whatever differs
        given = dict.fromkeys(key for _, record, _ in found for key in record["overrides"])
        varied += [key for key in given if key not in varied and len(set(look(key))) > 1]
    keys = (*params, *varied)
    cells = [_cell(folder, {key: _value(record, config, key) for key in keys}) for folder, record, config in found]
    declared = _product({**{key: params[key] for key in params}, **{key: wanted[key] for key in keys if key in wanted}})
    cells = _in_order(cells, declared if params else [], keys)
    cells = _mixed(_twice(cells), keys)
    problems = [f"{cell_name(cell)} {cell.note}" for cell in cells if cell.note]
    if problems and not mark:
        what = "; ".join(problems[:12]) + (f"; and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise InputError(
            f"{experiment} is not one whole: {what}. Run experiments.benchmark again for these, "
            "leave runs out with where='key=value ...', or set mark=true to have them marked"
        )
    sweep = Sweep(experiment, about, keys, cells, {key: _default(base, key) for key in keys})
    if not sweep.sound:
        why = "; ".join(problems) or f"none fits where={where!r}"
        raise InputError(f"{experiment} has no run that could be shown: {why}")
    for budget in {cell.run.record["budget"] for cell in sweep.sound}:
        run_folders.common_budget([cell.run for cell in sweep.sound if cell.run.record["budget"] == budget])
    return sweep


def parse(where: str | None) -> dict[str, list[str]]:
    """Overrides, separated by blanks, as {key: values}.

    >>> parse("budget=480 method=evomask,rise")
    {'budget': ['480'], 'method': ['evomask', 'rise']}
    """
    parser, found = OverridesParser.create(), {}
    for one in parser.parse_overrides((where or "").split()):
        key = one.key_or_group
        found[key] = list(one.sweep_string_iterator()) if one.is_sweep_override() else [one.get_value_element_as_str()]
    return found


def expected(experiment: str) -> list[dict[str, str]]:
    """The cells that the experiment's own sweep stands for.

    >>> expected("hierarchy")
    [{'stages': 'flat'}, {'stages': 'as_preset'}, {'stages': 'three'}]
    """
    return _product(_declared(experiment)[1])


def not_begun(runs: str | Path, experiment: str) -> list[dict[str, str]]:
    """The cells of the experiment's own sweep for which there is no run, whatever else was overridden."""
    params = _declared(experiment)[1]
    folders = run_folders.find(runs, experiment) if params else []
    begun = [
        {key: _value(run_folders.read_record(folder), _config(folder), key) for key in params} for folder in folders
    ]
    return [values for values in _product(params) if params and values not in begun]


def describe(record: Mapping[str, Any]) -> str:
    """The overrides of a run, in one line."""
    return " ".join(f"{key}={value}" for key, value in record["overrides"].items()) or record["method"]


def _declared(experiment: str) -> tuple[DictConfig, dict[str, list[str]], str]:
    """Configuration of an experiment, values of every key of its sweep, and what it says about itself."""
    path = cli.CONF / "experiment" / f"{experiment}.yaml"
    overrides = [f"+experiment={experiment}"] if path.exists() else []
    hidden = mock.patch.object(GlobalHydra.instance(), "hydra", None)  # we may be in a job of Hydra ourselves
    with hidden, hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = hydra.compose("benchmark", overrides, return_hydra_config=True)
    params = (config.hydra.sweeper.params or {}) if overrides else {}
    one = OverridesParser.create().parse_override
    values = {
        key: [_plain(value) for value in one(f"{key}={text}").sweep_string_iterator()] for key, text in params.items()
    }
    head = itertools.takewhile(lambda line: line.startswith("# ") and not line.startswith("#  "), _head(path))
    return config, values, " ".join(line[2:] for line in head)


def _head(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []


def _config(folder: Path) -> DictConfig:
    return OmegaConf.load(folder / "config.yaml")


def _value(record: Mapping[str, Any], config: DictConfig, key: str) -> str:
    """What a run has for a key: as overridden, or as chosen in a group, or as configured."""
    if key in record["overrides"]:
        return _plain(record["overrides"][key])
    if key in record["choices"]:
        return str(record["choices"][key])
    return _written(OmegaConf.select(config, key))


def _default(base: DictConfig, key: str) -> str:
    choices = base.hydra.runtime.choices
    return str(choices[key]) if key in choices else _written(OmegaConf.select(base, key))


def _written(node: Any) -> str:
    node = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return _plain(json.dumps(node)) if not isinstance(node, str) else node


def _plain(text: str) -> str:
    """The same text for the same value, however it was written."""
    value = yaml.safe_load(text) if text[:1] in "[{" else text
    return str(text).replace(" ", "") if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _product(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    return [dict(zip(values, each)) for each in itertools.product(*values.values())]


def _cell(folder: Path, values: dict[str, str]) -> Cell:
    status = run_folders.status(folder)
    if status == "finished":
        run = run_folders.load(folder)
        try:
            run_folders.common_budget([run])
            return Cell(values, folder, run, "")
        except UnequalBudgets as error:
            return Cell(values, folder, run, f"overspent ({error})")
    error = run_folders.read_record(folder)["error"]
    count, total = run_folders.done(folder)
    why = f"{error['type']}: {error['message']}" if error else f"{count} of {total} explanations"
    return Cell(values, folder, None, f"{'failed' if error else f'unfinished, {status}'} ({why}) in {folder.name}")


def _in_order(cells: list[Cell], expected: list[dict[str, str]], keys: Sequence[str]) -> list[Cell]:
    """In the order of the sweep, with the missing ones in their places; what the sweep does not know comes last."""
    ordered = []
    for values in expected:
        here = [cell for cell in cells if cell.values == values]
        ordered += here or [Cell(values, None, None, "missing")]
    rest = [cell for cell in cells if cell.values not in expected]
    return ordered + sorted(rest, key=lambda cell: ([_sortable(cell.values[key]) for key in keys], cell.folder.name))


def _sortable(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), "" if value == OURS else f" {value}"


def _twice(cells: list[Cell]) -> list[Cell]:
    """Notes where several runs claim one cell, and in which overrides they differ."""
    marked = []
    for cell in cells:
        same = [other for other in cells if other.values == cell.values and other.folder]
        if len(same) > 1 and not cell.note:
            mine, *others = [
                run_folders.read_record(each.folder)["overrides"]
                for each in (cell, *(other for other in same if other is not cell))
            ]
            differ = sorted({key for other in others for key in {*mine, *other} if mine.get(key) != other.get(key)})
            how = (
                " ".join(f"{key}={mine[key]}" if key in mine else f"no {key}" for key in differ) or "the same overrides"
            )
            cell = cell._replace(note=f"is there {len(same)} times ({cell.folder.name}: {how})")
        marked.append(cell)
    return marked


def _mixed(cells: list[Cell], keys: Sequence[str]) -> list[Cell]:
    """Notes cells that were run under other circumstances than most of the others; those swept over may differ."""
    model, data = {"model"} & set(keys), {"data", "model", "target"} & {key.partition(".")[0] for key in keys}
    measured = ("cut_steps", "auc_steps", "cut_areas", "fidelity_subsets")
    circumstances: dict[str, Callable[[run_folders.Run], Any]] = {
        "code version": lambda run: run.record["code"]["digest"],
        "package versions": lambda run: run.record["versions"],
        "device": lambda run: run.record["device"],
        "budget": None if "budget" in keys else lambda run: run.record["budget"],
        "seeds": None if "seeds" in keys else lambda run: run.record["seeds"],
        "weights": None if model else lambda run: run.record["weights"],
        "images": None if data else lambda run: Path(run.record["images"]["file"]).stem,
        "confidence_ratio": None
        if "preset.confidence_ratio" in keys
        else lambda run: run.config["preset"]["confidence_ratio"],
        **{name: None if name in keys else lambda run, name=name: run.config[name] for name in measured},
        "fill": None if "fill" in keys else lambda run: run.config["preset"]["fill"],
    }
    notes = defaultdict(list)
    for name, of in circumstances.items():
        texts = {i: json.dumps(of(cell.run), sort_keys=True) for i, cell in enumerate(cells) if of and cell.sound}
        usual = Counter(texts.values()).most_common(1)[0][0] if texts else None
        for index, text in texts.items():
            if text != usual:
                notes[index].append(f"other {name} than the others ({_difference(text, usual)})")
    return [cell._replace(note=f"has {', '.join(notes[i])}") if i in notes else cell for i, cell in enumerate(cells)]


def _difference(text: str, usual: str) -> str:
    """`this, not that`; of records only the entries that differ."""
    this, that = json.loads(text), json.loads(usual)
    if isinstance(this, dict) and isinstance(that, dict):
        differ = sorted(key for key in {*this, *that} if this.get(key) != that.get(key))
        return ", ".join(f"{key} {this.get(key)}, not {that.get(key)}" for key in differ)
    return f"{this}, not {that}"


def cell_name(cell: Cell) -> str:
    return " ".join(f"{key}={value}" for key, value in cell.values.items()) or (
        cell.folder.name if cell.folder else "?"
    )
