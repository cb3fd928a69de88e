"""How far is the search from the best mask? `python -m experiments.optimality --help` says how that is known."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import evomask
from evomask import presets
from evomask.files import write_atomically
from evomask.measures.statistics import bootstrap
from evomask.questions import ask
from evomask.report import records
from evomask.search.config import Config
from evomask.types import Classifier, InputError, Question, whole

from .benchmarks import imagesets
from .explain import image_shape
from .optimum import enumeration, grid
from .shared import cli

PRESETS = {"plain": presets.smallest, "holding": presets.evomask}
# What is averaged over images, and how it is called; where no mask was found, the whole image counts as one.
FIGURES = {
    "optimal_area": "smallest union",
    "found_area": "found on the grid",
    "ratio": "found / smallest",
    "is_optimal": "found it exactly",
    "free_area": "found with free patches",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(optimality, "optimality", argv)


def optimality(config: DictConfig) -> int:
    """Enumerates and searches, image by image, and tabulates; what was finished is on disk after each."""
    check(config)
    out = records.prepare_folder(config.out)
    classifier = evomask.as_classifier(cli.instantiate(config.model))
    tiles = grid.tiles(config.cells, image_shape(classifier)[:2])
    images = chosen(config, classifier)
    plain = OmegaConf.to_container(config, resolve=True)
    rows: list[dict[str, Any]] = []
    with _progress() as bar:
        task = bar.add_task("enumerating", total=len(images.names) * len(config.asked))
        for row in compared(config, classifier, images, tiles):
            rows.append(row)
            write(out, plain, rows)
            bar.advance(task, 1 / len(config.seeds))
    if not rows:
        raise InputError("no image is left whose class is the predicted one: set data.only_correct=true")
    Console().print(table(rows))
    print(f"written to {out}/optimality.json, .md")
    return 0


def check(config: DictConfig) -> None:
    """Raises InputError for values that have no meaning, before anything is loaded."""
    asked = list(config.asked) if isinstance(config.asked, ListConfig) else [config.asked]
    if not asked or not set(asked) <= set(PRESETS) or len(set(asked)) < len(asked):
        raise InputError(f"asked is {config.asked}: give plain, holding or [plain,holding]")
    config.asked = asked
    seeds = list(config.seeds) if isinstance(config.seeds, ListConfig) else [None]
    if not seeds or not all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds):
        raise InputError(f"seeds is {config.seeds}: give a list of integers from 0, such as [0,1,2]")
    rungs = OmegaConf.to_container(config.rungs)
    is_pair = lambda rung: isinstance(rung, list) and len(rung) == 2 and all(type(x) is int for x in rung)
    if not rungs or not all(map(is_pair, rungs)) or not all(np.diff([0, *(shown for shown, _ in rungs)]) > 0):
        raise InputError(f"rungs is {config.rungs}: give pairs of showings, ever more, and failures: [[8,2],[64,4]]")
    for name in ("finalists", "limit"):
        whole(name, config[name])


def chosen(config: DictConfig, classifier: Classifier) -> imagesets.ImageSet:
    """The images, as `experiments.benchmark` chooses them."""
    node = OmegaConf.to_container(config.data, resolve=True)
    num, only_correct = node.pop("num"), node.pop("only_correct")
    node |= {"shape": image_shape(classifier), "crop": getattr(classifier, "crop", 1.0)}
    return imagesets.select(cli.instantiate(OmegaConf.create(node)), classifier, num, only_correct, config.target)


def compared(
    config: DictConfig, classifier: Classifier, images: imagesets.ImageSet, tiles: np.ndarray
) -> Iterator[dict[str, Any]]:
    """A row for each image, seed, and thing that is asked; images that are predicted as another class are left out."""
    rungs = [tuple(rung) for rung in config.rungs]
    options = {"rungs": rungs, "finalists": config.finalists, "limit": config.limit}
    for name, image, label in zip(images.names, images.pixels, images.labels, strict=True):
        for asked in config.asked:
            free = PRESETS[asked](config.budget[asked])
            key = jax.random.key(config.seeds[0])
            [question] = ask(classifier, image[None], np.array([label]), None, key, free.fills)
            if question.counterfactual:
                cli.say(f"{name}: left out, since no mask is necessary for another class than the predicted one")
                break
            best = enumeration.smallest(classifier, question, tiles, key=key, config=free, **options)
            enumerated = {
                "image": name,
                "label": images.classes[label],
                "asked": asked,
                "optimal_area": None if best.mask is None else float(best.mask.mean()),
                "ended": best.ended,
                "tried": best.tried,
                "enumeration": best.evaluations,
                "precision": None if best.precision is None else float(best.precision.estimate.complete),
            }
            for seed in config.seeds:
                yield enumerated | searched(classifier, question, tiles, free, seed, best.mask)


def searched(
    classifier: Classifier, question: Question, tiles: np.ndarray, free: Config, seed: int, best: np.ndarray | None
) -> dict[str, Any]:
    """What the search finds on the grid and without it, beside the smallest union there is.

    Areas are None where the mask is not what was asked for.
    """
    key, bits = jax.random.key(seed), grid.on_grid(free, tiles)
    asked = {"images": question.image[None], "labels": [question.label], "key": key}
    anywhere = evomask.explain(classifier, **asked, config=free)
    if free.perturbation is None:
        found = evomask.explain(classifier, **asked, config=bits)
        mask, spent, good = found.mask[0], int(found.evaluations[0]), bool(found.complete[0])
        free_good = bool(anywhere.complete[0])
    else:
        mask, spent, held = grid.smallest_held(classifier, question, tiles, key=key, config=bits)
        good, free_good = bool(held.holds[0]), bool(anywhere.precision.holds[0])
    assert grid.number_of(mask, tiles) is not None, "the search has left the grid"
    comparable = good and best is not None
    return {
        "seed": seed,
        "found_area": float(mask.mean()) if good else None,
        "free_area": float(anywhere.area[0]) if free_good else None,
        "ratio": float(mask.sum() / best.sum()) if comparable else None,
        "is_optimal": bool(mask.sum() == best.sum()) if comparable else None,
        "evaluations": spent,
        "free_evaluations": int(anywhere.evaluations[0]),
    }


def means(rows: Sequence[dict[str, Any]], asked: str) -> dict[str, dict[str, Any]]:
    """Mean and 95 % bootstrap interval of each figure, over the images whose smallest union is known.

    Where the search found nothing, the whole image is its mask; several seeds of an image count as one.
    """
    known = [row for row in rows if row["asked"] == asked and row["optimal_area"] is not None]
    found = {}
    for name in FIGURES if known else ():
        per_image: dict[str, list[float]] = {}
        for row in known:
            failure = {"ratio": 1 / row["optimal_area"], "is_optimal": 0.0}.get(name, 1.0)
            per_image.setdefault(row["image"], []).append(failure if row[name] is None else float(row[name]))
        interval = bootstrap([np.mean(values) for values in per_image.values()], seed=0)
        found[name] = {"mean": interval.value, "low": interval.low, "high": interval.high, "images": len(per_image)}
    return found


def write(out: Any, config: Any, rows: Sequence[dict[str, Any]]) -> None:
    """optimality.json and optimality.md, each whole or not at all."""
    summary = {asked: means(rows, asked) for asked in config["asked"]}
    numbers = {"config": config, "versions": records.versions(), "means": summary, "rows": list(rows)}
    content = {"optimality.json": records.as_json(numbers), "optimality.md": markdown(rows).encode()}
    for name, data in content.items():
        write_atomically(out / name, lambda file, data=data: file.write(data))


def cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line for each thing that is asked: what, how many images, how many failures, and the figures."""
    lines = []
    for asked in dict.fromkeys(row["asked"] for row in rows):
        own, figures = [row for row in rows if row["asked"] == asked], means(rows, asked)
        known = [row for row in own if row["optimal_area"] is not None]
        failures = sum(row["found_area"] is None for row in known), sum(row["free_area"] is None for row in known)
        counted = f"{len({row['image'] for row in known})} of {len({row['image'] for row in own})}"
        texts = [interval_text(name, figures[name]) if figures else "" for name in FIGURES]
        cost = f"{np.mean([row['enumeration'] for row in own]):,.0f}"
        lines.append([asked, counted, *texts, f"{failures[0]} / {failures[1]} of {len(known)}", cost])
    return lines


HEADS = ("asked", "images", *FIGURES.values(), "nothing found (grid / free)", "enumeration")


def interval_text(name: str, figure: dict[str, Any]) -> str:
    """A mean with its interval, in per cent but for ratios.

    >>> interval_text("found_area", {"mean": 0.125, "low": 0.1, "high": 0.2})
    '12.5 % [10.0, 20.0]'
    >>> interval_text("ratio", {"mean": 1.25, "low": 1.0, "high": 1.5})
    '1.25 [1.00, 1.50]'
    """
    mean, low, high = (figure[part] for part in ("mean", "low", "high"))
    if name == "ratio":
        return f"{mean:.2f} [{low:.2f}, {high:.2f}]"
    return f"{100 * mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table of the means, for documents."""
    rules = ["---", *["---:"] * (len(HEADS) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (HEADS, rules, *cells(rows)))


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The same for the console, with a line for each image above."""
    out = Table(title="areas, with 95 % intervals over images", show_lines=False)
    for heading in ("image", *HEADS[:1], *FIGURES.values(), "enumeration"):
        out.add_column(heading, overflow="fold")
    for row in rows:
        texts = ["-" if row[name] is None else f"{float(row[name]):.3g}" for name in FIGURES]
        out.add_row(row["image"], row["asked"], *texts, f"{row['enumeration']:,}")
    out.add_section()
    for asked, counted, *rest in cells(rows):
        out.add_row(f"mean of {counted}", asked, *rest[: len(FIGURES)], rest[-1])
    return out


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
