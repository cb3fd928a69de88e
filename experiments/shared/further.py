"""What else can be asked about one photograph: its area-confidence front, several masks, how far seeds agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from evomask import stability
from evomask.data.photographs import Photo
from evomask.niches import several
from evomask.report import plots, records
from evomask.search.config import Config
from evomask.types import Classifier, Explanation, InputError


class Further(NamedTuple):
    """Which of these are asked for; None: not."""

    front: int | None  # bins of area
    several: int | None  # masks
    demand: str
    disjoint: bool
    seeds: int | None


def check(further: Further) -> Further:
    """Refuses numbers that make no sense, before anything is searched."""
    for name, least in (("front", 1), ("several", 2), ("seeds", 2)):
        value = getattr(further, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InputError(f"{name} is {value!r}: give a whole number from {least}, or null")
    if further.demand not in ("complete", "sufficient"):
        raise InputError(f"demand is {further.demand!r}: give complete or sufficient")
    return further


def write(
    folder: Path,
    further: Further,
    classifier: Classifier,
    photo: Photo,
    found: Explanation,
    names: Sequence[str],
    *,
    key: jax.Array,
    config: Config,
    blank: np.ndarray,
) -> list[str]:
    """Searches as often as it takes, writes front.*, several.* and stability.* into the folder, and says what came of
    it.

    Args:
      found: the explanation of this photograph alone (no batch axis); its class, and its contrast, are asked about.
      blank: f32[H, W, C], for the pictures.
    """
    shown = {"blank": blank, "name": photo.name}
    asked = {
        "key": key,
        "labels": [int(found.label)],
        "contrast": None if found.contrast < 0 else [int(found.contrast)],
        "config": config,
    }
    image, lines = photo.image[None], []
    if found.front is not None:
        points = np.isfinite(found.front.area)
        of_points = lambda name: getattr(found.front, name)[points].tolist()
        columns = {name: of_points(name) for name in ("area", "confidence")}
        columns["inverse_confidence"] = [records.finite(value) for value in of_points("inverse_confidence")]
        unseen = np.isnan(found.front.inverse_confidence[points])
        columns["necessary"] = np.where(unseen, None, found.front.necessary[points]).tolist()
        figure = plots.front_figure(photo.image, found, names, **shown)
        _write(folder, "front", figure, columns, {"masks": found.front.mask[points]})
        lines.append(f"front of {points.sum()} masks: front.png, .json, .npz")
    if further.several is not None:
        batch = several(classifier, image, further.several, demand=further.demand, disjoint=further.disjoint, **asked)
        one = records.select(batch, 0)
        numbers = {
            "demanded": list(one.demanded),
            "iou": one.iou.tolist(),
            "shared": one.shared.tolist(),
            "masks": [records.summary(each, names) for each in one.explanations],
        }
        figure = plots.several_figure(photo.image, one, names, **shown)
        _write(folder, "several", figure, numbers, {"masks": np.stack([each.mask for each in one.explanations])})
        complete = sum(bool(each.complete) for each in one.explanations)
        lines.append(
            f"{complete} of {further.several} masks complete, at most {one.shared.max():.0%} of one in earlier ones: "
            "several.png, .json, .npz"
        )
    if further.seeds is not None:
        batch, _ = stability.across_seeds(classifier, image, further.seeds, **asked)
        one = records.select(batch, 0)
        numbers = stability.summary(one)
        arrays = {name: getattr(one, name) for name in ("iou", "area", "cp", "complete", "kept", "score", "score_std")}
        _write(folder, "stability", plots.stability_figure(photo.image, one, name=photo.name), numbers, arrays)
        lines.append(
            f"{further.seeds} seeds, {numbers['complete']} complete, area {numbers['area']['mean']:.1%} ± "
            f"{numbers['area']['std']:.1%}, mean IoU {numbers['mean_iou']:.2f}: stability.png, .json, .npz"
        )
    return lines


def _write(folder: Path, name: str, figure: Figure, numbers: Any, arrays: dict[str, np.ndarray]) -> None:
    text = json.dumps(numbers, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    records.write_atomically(folder / f"{name}.png", lambda file: figure.savefig(file, format="png"))
    records.write_atomically(folder / f"{name}.npz", lambda file: np.savez_compressed(file, **arrays))
    records.write_atomically(folder / f"{name}.json", lambda file: file.write(text.encode()))
