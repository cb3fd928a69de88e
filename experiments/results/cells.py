"""The cells of an experiment: which runs its sweep stands for, which of them are there, and what is wrong with the
others.

A cell has one value for every key that the experiment sweeps over. Tables, figures and reports begin with `gather`,
which refuses whatever cannot be compared, or notes it if told to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from evomask.measures.budget import UnequalBudgets
from evomask.types import InputError

from ..benchmarks import damage, sweeps
from ..benchmarks import runs as run_folders
from ..shared import cli
from . import comparable
from .comparable import Cell, cell_name

OURS = "evomask"
TITLES = {  # of methods, as their authors write them
    "dissertation": "dissertation", "random_search": "random search", "gradcam": "Grad-CAM",
    "gradcam_plus_plus": "Grad-CAM++",
    "integrated_gradients": "Integrated Gradients", "smoothgrad": "SmoothGrad", "rise": "RISE", "hsic": "HSIC",
    "sobol": "Sobol", "greedy_regions": "SMDL", "lima": "LiMA", "phasewin": "PhaseWin", "drise": "D-RISE",
    "lime": "LIME", "shap": "SHAP", "kernelshap": "KernelSHAP", "rex": "ReX", "heatmaps": "heat maps",
    "random_patches": "random patches", "random_pixels": "random pixels",
    "centred_square": "centred square",
}  # fmt: skip


class Sweep(NamedTuple):
    """The cells of an experiment that belong together."""

    experiment: str
    about: str  # what the experiment asks, from the head of its file
    keys: tuple[str, ...]
    cells: list[Cell]
    default: dict[str, str]  # the values of the keys if nothing is swept
    reference: dict[str, str]  # values of the cells that the others are compared with, as asked for; empty: the usual

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
        """The cell of the group with which the others are compared: evomask, or what is the default in an ablation, or
        what was asked for.
        """
        matches = lambda cell: all(cell.values[key] == value for key, value in self.usual.items())
        return next((index for index in group if self.cells[index].sound and matches(self.cells[index])), None)

    @property
    def usual(self) -> dict[str, str]:
        """The values of the cells with which the others are compared."""
        return self.reference or ({"method": OURS} if "method" in self.keys else self.default)

    def is_ours(self, cell: Cell) -> bool:
        """Whether others are compared with this one."""
        return any(index is not None and self.cells[index] is cell for index in map(self.ours, self.groups()))


def short(key: str) -> str:
    """A key without what goes without saying.

    >>> short("preset.stages.gross.radii"), short("method")
    ('gross radii', 'method')
    """
    return key.removeprefix("preset.").removeprefix("stages.").replace(".", " ").replace("_", " ")


def gather(
    runs: str | Path,
    experiment: str | None,
    where: str | None = None,
    mark: bool = False,
    reference: str | None = None,
) -> Sweep:
    """All cells of an experiment.

    Args:
      runs: the folder that benchmarks write to.
      where: overrides as for evomask benchmark, "budget=480 method=evomask,rise": only such runs, and of the sweep
        only these values; a list makes the key one of the sweep's.
      mark: give cells that cannot be compared a note, instead of refusing them.
      reference: the cells that the others are compared with, "method=rise" or, where no other key has it, "rise".

    Raises:
      InputError: no runs, or a cell is missing, failed, unfinished, there twice, or was run under other circumstances.
    """
    wanted, names = parse(where), run_folders.experiments(runs)
    if experiment not in names:
        asked = f"no runs of experiment {experiment!r} in {runs}" if experiment else "experiment is not set"
        raise InputError(f"{asked}: experiment=... takes {', '.join(names) or 'nothing, for there are no runs'}")
    declared = sweeps.declared(runs, experiment)
    found = [one for one in _read(runs, experiment) if all(one.value(key) in wanted[key] for key in wanted)]
    keys = _keys(declared, wanted, found)
    cells = [_cell(one, {key: one.value(key) for key in keys}) for one in found]
    asked = sweeps.product(
        {key: wanted.get(key) or declared.values[key] for key in keys if key in {*wanted, *declared.values}}
    )
    cells = _in_order(cells, asked if declared.values else [], keys)
    cells = comparable.mixed(comparable.twice(cells), keys)
    _refuse(experiment, cells, mark)
    default = {key: declared.standard(key) for key in keys}
    sweep = Sweep(experiment, declared.about, keys, _titled(cells), default, _reference(reference, cells))
    if not sweep.sound:
        why = "; ".join(_problems(cells)) or f"none fits where={where!r}"
        raise InputError(f"{experiment} has no run that could be shown: {why}")
    for budget in {cell.run.record["budget"] for cell in sweep.sound}:
        run_folders.common_budget([cell.run for cell in sweep.sound if cell.run.record["budget"] == budget])
    return sweep


class _Found(NamedTuple):
    """A run folder, and what says which cell it is."""

    folder: Path
    record: dict[str, Any]
    config: DictConfig

    def value(self, key: str) -> str:
        """What the run has for a key: as overridden, or as chosen in a group, or as configured."""
        if key in self.record["overrides"]:
            return sweeps.plain(self.record["overrides"][key])
        if key in self.record["choices"]:
            return str(self.record["choices"][key])
        return sweeps.written(OmegaConf.select(self.config, key))


def _read(runs: str | Path, experiment: str) -> list[_Found]:
    """The runs of an experiment that can be read; the others are named."""
    found = []
    for folder in run_folders.find(runs, experiment):
        try:
            found.append(_Found(folder, run_folders.read_record(folder), damage.config(folder)))
        except InputError as error:
            cli.say(f"passed over: {error}")
    return comparable.current(found)


def _keys(declared: sweeps.Declared, wanted: Mapping[str, Sequence[str]], found: Sequence[_Found]) -> tuple[str, ...]:
    """The keys of a sweep: those declared, those that `where` lists and, if none is declared, whatever differs."""
    varied = [key for key, values in wanted.items() if len(values) > 1 and key not in declared.values]
    if not declared.values:
        given = dict.fromkeys(key for one in found for key in one.record["overrides"])
        varied += [key for key in given if key not in varied and len({one.value(key) for one in found}) > 1]
    return (*declared.values, *varied)


def _problems(cells: Sequence[Cell]) -> list[str]:
    return [f"{cell_name(cell)} {cell.note}" for cell in cells if cell.note]


def _refuse(experiment: str, cells: Sequence[Cell], mark: bool) -> None:
    problems = _problems(cells)
    if problems and not mark:
        what = "; ".join(problems[:12]) + (f"; and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise InputError(
            f"the cells of {experiment} cannot be compared: {what}. Run evomask benchmark again for these, "
            "leave runs out with where='key=value ...', or set mark=true to have them marked"
        )


def _titled(cells: Sequence[Cell]) -> list[Cell]:
    """Cells are called by the keys in which they differ."""
    keys = list(cells[0].values) if cells else []
    keys = [key for key in keys if len({cell.values[key] for cell in cells}) > 1] or keys
    return [cell._replace(title=titled(cell, keys) or (cell.folder.name if cell.folder else "?")) for cell in cells]


def titled(cell: Cell, keys: Sequence[str]) -> str:
    """The values of these keys in words; a method, and a single value, says enough without its key."""
    names = {
        key: TITLES.get(cell.values[key], cell.values[key]) if key == "method" else cell.values[key] for key in keys
    }
    alone = len(keys) == 1
    return ", ".join(name if alone or key == "method" else f"{short(key)} {name}" for key, name in names.items())


def _reference(text: str | None, cells: Sequence[Cell]) -> dict[str, str]:
    """`reference=` as {key: value}; InputError if it names no cell."""
    if text is None:
        return {}
    values: dict[str, str] = {}
    for part in str(text).split():
        key, equals, value = part.partition("=")
        if not equals:
            keys = {key for cell in cells for key in cell.values if cell.values[key] == part}
            key, value = (keys.pop(), part) if len(keys) == 1 else ("", part)
        values[key] = sweeps.plain(value)
    if not values or not any(values.items() <= cell.values.items() for cell in cells):
        rows = "; ".join(dict.fromkeys(cell_name(cell) for cell in cells))
        raise InputError(f"reference is {text!r}, which names no row: choose from {rows}")
    return values


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


def not_begun(runs: str | Path, experiment: str) -> list[dict[str, str]]:
    """The cells of the experiment's own sweep for which there is no run, whatever else was overridden."""
    declared = sweeps.declared(runs, experiment)
    begun = [{key: one.value(key) for key in declared.values} for one in _read(runs, experiment)]
    return [values for values in declared.cells if values not in begun]


def describe(record: Mapping[str, Any]) -> str:
    """The overrides of a run, in one line."""
    return " ".join(f"{key}={value}" for key, value in record["overrides"].items()) or record["method"]


def _cell(found: _Found, values: dict[str, str]) -> Cell:
    folder, status = found.folder, run_folders.status(found.folder)
    if status == "finished":
        try:
            run = run_folders.load(folder)
        except InputError as error:
            return Cell(values, folder, None, f"is damaged ({error})")
        try:
            run_folders.common_budget([run])
            return Cell(values, folder, run, "")
        except UnequalBudgets as error:
            return Cell(values, folder, run, f"overspent ({error})")
    error = found.record["error"]
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
