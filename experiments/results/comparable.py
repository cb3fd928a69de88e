"""One cell of a sweep, and what keeps it from being compared with the others."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..benchmarks import runs as run_folders
from ..shared import cli


class Cell(NamedTuple):
    """One cell of a sweep."""

    values: dict[str, str]  # of every key of the sweep
    folder: Path | None  # None: missing
    run: run_folders.Run | None  # None: there are no numbers
    note: str  # why it must not be compared with the others; empty: nothing is wrong
    title: str = ""  # names it in tables and figures, by the keys in which the cells differ

    @property
    def sound(self) -> bool:
        """Whether it can be compared."""
        return self.run is not None and not self.note


def cell_name(cell: Cell) -> str:
    return " ".join(f"{key}={value}" for key, value in cell.values.items()) or (
        cell.folder.name if cell.folder else "?"
    )


def twice(cells: list[Cell]) -> list[Cell]:
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


def mixed(cells: list[Cell], keys: Sequence[str]) -> list[Cell]:
    """Notes cells that were run under other circumstances than most of the others; those swept over may differ."""
    model, data = {"model"} & set(keys), {"data", "model", "target"} & {key.partition(".")[0] for key in keys}
    measured = ("cut_steps", "auc_steps", "cut_areas", "fidelity_subsets")
    circumstances: dict[str, Callable[[run_folders.Run], Any]] = {
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
    notes = _other_code(cells)
    for name, of in circumstances.items():
        texts = {i: json.dumps(of(cell.run), sort_keys=True) for i, cell in enumerate(cells) if of and cell.sound}
        usual = Counter(texts.values()).most_common(1)[0][0] if texts else None
        for index, text in texts.items():
            if text != usual:
                notes[index].append(f"other {name} than the others ({_difference(text, usual)})")
    return [cell._replace(note=f"has {', '.join(notes[i])}") if i in notes else cell for i, cell in enumerate(cells)]


def _other_code(cells: Sequence[Cell]) -> defaultdict[int, list[str]]:
    """Notes for cells of which a module is not as in most of the others that use it."""
    known = {i: _modules(cell.run.record) for i, cell in enumerate(cells) if cell.sound}
    digests = defaultdict(list)
    for modules in known.values():
        for name, digest in modules.items():
            digests[name].append(digest)
    usual = {name: Counter(each).most_common(1)[0][0] for name, each in digests.items()}
    notes = defaultdict(list)
    for i, modules in known.items():
        differ = [f"{name} {modules[name]}, not {usual[name]}" for name in modules if modules[name] != usual[name]]
        if differ:
            more = f" and {len(differ) - 3} more modules" if len(differ) > 3 else ""
            notes[i].append(f"other code than the others ({'; '.join(differ[:3])}{more})")
    return notes


def _modules(record: dict[str, Any]) -> dict[str, str]:
    return {**record["code"].get("modules", {}), **record["code"].get("own", {})}


def current(found: Sequence[Any]) -> list[Any]:
    """Of runs that differ in nothing but the state of the user's own files, those that were asked for last; the others
    are named. `found` have a `record` and a `folder`.
    """
    alike = defaultdict(list)
    for one in found:
        same = {name: one.record[name] for name in ("overrides", "choices", "weights", "images", "seeds", "budget")}
        own = sorted(one.record["code"].get("own", {}))
        alike[json.dumps([same, own] if own else one.folder.name, sort_keys=True)].append(one)
    kept = [max(runs, key=lambda one: one.record.get("asked") or "") for runs in alike.values()]
    for one in found:
        if not any(one is each for each in kept):
            own = ", ".join(one.record["code"]["own"])
            cli.say(f"passed over: run {one.folder.name}, made by an earlier state of {own}")
    return kept


def _difference(text: str, usual: str) -> str:
    """`this, not that`; of records only the entries that differ."""
    this, that = json.loads(text), json.loads(usual)
    if isinstance(this, dict) and isinstance(that, dict):
        differ = sorted(key for key in {*this, *that} if this.get(key) != that.get(key))
        return ", ".join(f"{key} {this.get(key)}, not {that.get(key)}" for key in differ)
    return f"{this}, not {that}"
