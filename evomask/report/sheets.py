"""What becomes of results before any of it is written: for each part of a report its picture, numbers and arrays."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL.Image import Image

from evomask import certificate as certificates
from evomask import stability as seeds
from evomask.certificate import Certificate
from evomask.niches import Several
from evomask.report import film as films
from evomask.report import picture, plots, wording
from evomask.report.reasons import fills_held, reasons
from evomask.stability import Stability
from evomask.types import Explanation, Missing, Status

PACKAGES = ("evomask", "jax", "jaxlib", "flax", "numpy")


class Sheet(NamedTuple):
    """One part of a report: what becomes `<name>.png`, `<name>.json` and `<name>.npz`."""

    name: str
    figure: Figure | Image
    numbers: Mapping[str, Any]  # JSON values
    arrays: Mapping[str, np.ndarray]
    moving: bytes | None = None  # becomes `<name>.gif`


def explanation(
    found: Explanation,
    *,
    name: str = "",
    certificate: Certificate | None = None,
    run: Mapping[str, Any] | None = None,
    channels: Sequence[str] = (),
) -> Sheet:
    """The explanation of one image.

    Args:
      found: of one image (no batch axis).
      name: of the image, for the picture's heading.
      certificate: of this image alone; None: nobody asked for one.
      run: what else is to stand in the JSON, such as the seed and the configuration; JSON values only.
      channels: what the picture's are called, where that is not red, green and blue.

    The arrays: `image` and `blank` (of the first fill) f32[H, W, C], `mask` bool[H, W], `stage_masks` bool[S, H, W],
    `score` f32[H, W] in [0, 1], `genome` int32[G, 3].
    """
    minimal = certificate and bool(certificate.minimal)
    figure = picture.explanation_figure(found, name=name, minimal=minimal, channels=channels)
    record = numbers(found) | {
        "line": wording.line(found, name),
        "certificate": certificate and certificates.facts(certificate, found.genome),
        **({"channels": list(channels)} if channels else {}),
        **(run or {}),
        "versions": versions(),
        "device": jax.devices()[0].device_kind,
    }
    arrays = {
        "image": np.asarray(found.image, np.float32),
        "blank": np.asarray(found.blanks[0], np.float32),
        "mask": np.asarray(found.mask, bool),
        "stage_masks": np.asarray(found.stage_masks, bool),
        "score": np.asarray(found.score, np.float32),
        "genome": np.asarray(found.genome, np.int32),
    }
    return Sheet("explanation", figure, record, arrays)


def own(found: Explanation, *, name: str = "") -> list[Sheet]:
    """What else the search of one image was asked to keep: its front, its film."""
    kept = {"front": front, "film": film}
    return [sheet(found, name=name) for part, sheet in kept.items() if getattr(found, part) is not None]


def front(found: Explanation, *, name: str = "") -> Sheet:
    """The area-confidence front of one image; an array `masks` bool[N, H, W]."""
    points = np.isfinite(found.front.area)  # pyright: ignore[reportOptionalMemberAccess]
    columns = {field.name: getattr(found.front, field.name)[points] for field in dataclasses.fields(found.front)}
    masks, unseen = columns.pop("mask"), np.isnan(columns["inverse_confidence"])
    columns["necessary"] = np.where(unseen, None, columns["necessary"])
    record = {column: [finite(value) for value in values.tolist()] for column, values in columns.items()}
    return Sheet("front", plots.front_figure(found, name=name), record, {"masks": masks})


def film(found: Explanation, *, name: str = "") -> Sheet:
    """How the mask of one image evolved; an array `masks` bool[T, H, W], of every generation."""
    columns = {field.name: getattr(found.history, field.name) for field in dataclasses.fields(found.history)}
    record = {column: [finite(value) for value in values.tolist()] for column, values in columns.items()}
    record |= {"stages": list(found.stages), "ends": found.ends.tolist()}
    moving = films.gif(found, name=name)
    return Sheet("film", films.strip_figure(found, name=name), record, {"masks": np.asarray(found.film)}, moving)


def effect(found: Explanation, *, name: str = "") -> Sheet:
    """Which pixels of one image speak for the class and which against it; `effect`, `effect_error` f32[H, W]."""
    figure = plots.effect_figure(found, name=name)
    arrays = {"effect": np.asarray(found.effect), "effect_error": np.asarray(found.effect_error)}
    clear = plots.clear_effect(*arrays.values())
    shares = {"for": (clear & (arrays["effect"] > 0)).mean(), "against": (clear & (arrays["effect"] < 0)).mean()}
    return Sheet("effect", figure, {side: float(share) for side, share in shares.items()}, arrays)


def several(found: Several, *, name: str = "") -> Sheet:
    """Several masks of one image; an array `masks` bool[N, H, W]."""
    record = {
        "demanded": list(found.demanded),
        "iou": found.iou.tolist(),
        "shared": found.shared.tolist(),
        "holds": [bool(one.holds) for one in found.explanations],
        "several_reasons": bool(found.several_reasons),
        "least_shared": float(found.least_shared),
        "masks": [numbers(one) for one in found.explanations],
    }
    masks = np.stack([one.mask for one in found.explanations])
    return Sheet("several", plots.several_figure(found, name=name), record, {"masks": masks})


def stability(image: np.ndarray, found: Stability, *, name: str = "") -> Sheet:
    """What several seeds agree on for one image f32[H, W, C]; arrays as in `Stability`."""
    kept = ("iou", "area", "cp", "complete", "met", "holds", "kept", "score", "score_std")
    arrays = {field: getattr(found, field) for field in kept}
    return Sheet("stability", plots.stability_figure(image, found, name=name), seeds.facts(found), arrays)


def numbers(found: Explanation) -> dict[str, Any]:
    """The numbers of one image's explanation as plain Python values, in the order of `explanation.json`.

    Confidences and areas are fractions of one, `label` is the name of the class, `cp` is confidence over area, `demand`
    is what was asked of the mask, and `status` is the name of a `Status` in lower case. `missing_nats` and
    `missing_probability` say how far the mask is from each condition, `reasons` says so in words of those demanded, and
    `complete_under` (or `sufficient_under`, `necessary_under`) names the fills under which it meets them. What is not
    finite (CP of an empty mask is infinite, the inverse confidence of a search that never asked for it is NaN) is None.
    """
    record = {
        "class_index": int(found.label),
        "label": found.name(found.label),
        "contrast": None if found.contrast < 0 else found.name(found.contrast),
        "predicted": found.name(found.predicted),
        "predicted_confidence": float(found.predicted_confidence),
        "confidence": float(found.confidence),
        "masked_confidence": float(found.masked_confidence),
        "inverse_confidence": float(found.inverse_confidence),
        "blank_confidence": float(found.blank_confidence),
        "area": float(found.area),
        "cp": float(found.cp),
        "cp_floored": float(found.cp_floored),
        "sufficient": bool(found.sufficient),
        "necessary": None if found.status == Status.COUNTERFACTUAL else bool(found.necessary),
        "complete": bool(found.complete),
        "demand": found.demand,
        "status": Status(int(found.status)).name.lower(),
        "reasons": list(reasons(found)),
        "missing_nats": _amounts(found.missing),
        "missing_probability": _amounts(found.missing_probability),
        f"{found.demand}_under": list(fills_held(found)),
        "evaluations": int(found.evaluations),
        "precision": found.precision and found.precision.summary(),
    }
    return {key: finite(value) for key, value in record.items()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def finite(value: Any) -> Any:
    """A number as JSON can say it: None for one that is not finite.

    >>> finite(float("nan")), finite(0.5)
    (None, 0.5)
    """
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _amounts(missing: Missing) -> dict[str, float | None]:
    return {field.name: finite(float(getattr(missing, field.name))) for field in dataclasses.fields(missing)}
