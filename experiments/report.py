"""One self-contained HTML page about an experiment; `python -m experiments.report --help` says what is on it."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from omegaconf import DictConfig
from PIL import Image

from evomask.files import write_atomically
from evomask.report import plots, records
from evomask.types import InputError

from .benchmarks import runs, sources
from .figures import KINDS, STYLE, rendered
from .results.cells import Cell, Sweep, describe, gather
from .results.columns import COLUMNS
from .results.drawing import blank
from .results.summaries import Table, summary
from .shared import cli

TEMPLATE = Path(__file__).parent / "results" / "report.html"
LEVELS = 32  # shades of a score, which make it a small file
FIGURES = {  # what stands under each kind
    "bars": "Complete area and share of complete explanations, with 95 % intervals",
    "convergence": "How the searches went: the best individual's area and confidence, and on how many it is feasible",
    "front": "Confidence against area, over the prefixes of the heat maps; marks: the methods' own masks",
    "budget": "Complete area against the budget",
}
LARGE = 128  # pixels from which images are embedded as JPEG


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(report, "report", argv, cli.CONF / "results")


def report(config: DictConfig) -> int:
    """Writes the page of an experiment."""
    if type(config.images) is not int or config.images < 1:
        raise InputError(f"images is {config.images!r}: give a whole number of 1 or more")
    sweep = gather(config.runs, config.experiment, config.where, config.mark, config.reference)
    text = page(sweep, config.images)
    path = records.prepare_folder(config.out) / f"{config.experiment}.html"
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))
    print(path)
    return 0


def page(sweep: Sweep, most: int) -> str:
    """The whole page as text, pictures included."""
    try:
        import jinja2
    except ImportError as missing:
        raise InputError("the page needs jinja2: pip install 'evomask[benchmark]'") from missing
    template = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    ).from_string(TEMPLATE.read_text(encoding="utf-8"))
    table = summary(sweep, COLUMNS)
    return template.render(
        experiment=sweep.experiment,
        about=sweep.about,
        caption=table.caption,
        notes=table.notes,
        heads=list(table.text),
        rows=rows(table),
        figures=drawn(sweep, most),
        gallery=gallery(sweep, most),
        runs=[provenance(cell) for cell in sweep.cells if cell.run],
    )


def drawn(sweep: Sweep, most: int) -> list[dict[str, str]]:
    """The figures that the runs have something for, as data URLs; the grid of pictures is the gallery itself."""
    found = []
    with matplotlib.rc_context(STYLE):
        for kind, says in FIGURES.items():
            if (figure := KINDS[kind](sweep, most)) is not None:
                found.append({"says": says, "picture": embedded(rendered(figure, "png"), "png")})
    return found


def rows(table: Table) -> list[list[dict[str, Any]]]:
    """Of every cell of the table: what is read, what is sorted by, and whether it is the best."""

    def sorted_by(name: str, text: str, index: int) -> Any:
        value = table.numbers[name][index] if name in table.numbers else text
        return (
            None
            if value is None or value != value or value == "*"
            else value
            if isinstance(value, str)
            else float(value)
        )

    return [
        [
            {"text": text, "by": sorted_by(name, text, index), "best": bool(table.best[name][index])}
            for name, text in row.items()
        ]
        for index, row in table.text.iterrows()
    ]


def provenance(cell: Cell) -> dict[str, Any]:
    """What a reader needs to make the run again."""
    record = cell.run.record
    code = record["code"]["commit"] or "no repository"
    changed = ", changed since" if record["code"]["dirty"] else ""
    made = {name: record["code"].get(name, {}) for name in ("modules", "own")}
    own = "".join(f", {name} {digest}" for name, digest in made["own"].items())
    return {
        "title": cell.title, "folder": cell.folder.name, "overrides": describe(record), "device": record["device"],
        "code": f"{code[:12]}{changed}, sources {sources.digest(made)}{own}",
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------ the gallery


def gallery(sweep: Sweep, most: int) -> dict[str, Any]:
    """Images, and the explanations of each by every cell; pictures are data URLs, each of them there once."""
    images, items = [], []
    places: dict[tuple[str, int], int] = {}
    for number, cell in enumerate(sweep.sound):
        known, found = runs.images(cell.folder), runs.arrays(cell.folder, "mask", "score")
        count = len(known["images"])
        for index in np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist():
            key = (cell.run.record["images"]["file"], index)
            if key not in places:
                places[key] = len(images)
                images.append({"name": str(known["names"][index]), "picture": picture(known["images"][index])})
            row = int(np.flatnonzero(cell.run.rows["index"] == index)[0])  # of the first seed
            image = known["images"][index].astype(np.float32) / 255
            items.append(explanation(cell, row, known["classes"]) | {
                "cell": number, "image": places[key],
                "mask": outside(found["mask"][row], blank(cell, image, int(cell.run.rows["seed"][row]))),
                "score": heat(found["score"][row].astype(np.float32)),
            })  # fmt: skip
    items.sort(key=lambda item: (item["image"], item["cell"]))
    height, width = runs.images(sweep.sound[0].folder)["images"].shape[1:3]
    return {"cells": [cell.title for cell in sweep.sound], "images": images, "items": items, "ratio": width / height}


def explanation(cell: Cell, row: int, classes: Sequence[str]) -> dict[str, Any]:
    """The numbers below a picture."""
    values = cell.run.rows.iloc[row]
    finite = lambda number, digits: round(float(number), digits) if np.isfinite(number) else None
    return {
        "class": str(values["label_name"]), "complete": bool(values["complete"]),
        "status": values["status"].replace("_", " "),
        "area": finite(values["area"], 4), "cp": finite(values["cp"], 2), "evaluations": int(values["evaluations"]),
        "whole": [str(values["predicted_name"]), finite(values["confidence"], 3)],
        "masked": [str(classes[values["masked_label"]]), finite(values["masked_confidence"], 3)],
        "inverse": [str(classes[values["inverse_label"]]), finite(values["inverse_confidence"], 3)],
    }  # fmt: skip


def picture(image: np.ndarray) -> str:
    """uint8[H, W, C] as a data URL."""
    made = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return data_url(made, "jpeg", quality=85) if min(image.shape[:2]) >= LARGE else data_url(made, "png", optimize=True)


def outside(mask: np.ndarray, filled: np.ndarray) -> str:
    """What lies over the image: the blank f32[H, W, C] where the mask bool[H, W] is not, nothing where it is."""
    colours = (
        np.broadcast_to(np.clip(filled * 255, 0, 255).round().astype(np.uint8), (*mask.shape, 3)) * ~mask[..., None]
    )
    return data_url(
        Image.fromarray(np.dstack([colours, np.where(mask, 0, 255).astype(np.uint8)])), "png", optimize=True
    )


def heat(score: np.ndarray) -> str:
    """f32[H, W] in [0, 1] in the colours of the figures; grey where it is not a number."""
    finite = np.isfinite(score)
    low, high = (score[finite].min(), score[finite].max()) if finite.any() else (0.0, 0.0)
    scaled = np.where(finite, (score - low) / max(high - low, 1e-6), 0)
    made = Image.fromarray(np.where(finite, (scaled * (LEVELS - 1)).round(), LEVELS).astype(np.uint8)).convert("P")
    shades = matplotlib.colormaps[plots.COLORMAP](np.linspace(0, 1, LEVELS), bytes=True)[:, :3]
    made.putpalette([*shades.reshape(-1).tolist(), 128, 128, 128])
    return data_url(made, "png", optimize=True)


def data_url(image: Image.Image, form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return embedded(buffer.getvalue(), form)


def embedded(content: bytes, form: str) -> str:
    """The bytes of a picture as a data URL."""
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


if __name__ == "__main__":
    sys.exit(main())
