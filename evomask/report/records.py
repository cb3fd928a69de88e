"""Results on disk: the three files of one explained image, each written whole or not at all.

`explanation.json` is strict JSON: a number that is not finite (CP of an empty mask is infinite, the inverse confidence
of a search that never asked for it is NaN) is written as null.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from matplotlib.figure import Figure

from evomask.report.reasons import fills_held, reasons
from evomask.types import Explanation, InputError, Missing, Status

PACKAGES = ("evomask", "jax", "jaxlib", "flax", "numpy")


class OutputError(InputError):
    """A folder that cannot be written to; the message is one line, names the folder, and says what to do."""


def prepare_folder(folder: str | Path) -> Path:
    """Make `folder` if it is missing and try to write in it: OutputError now rather than after a long search.

    >>> prepare_folder("/dev/null/results")
    Traceback (most recent call last):
    evomask.report.records.OutputError: cannot write in /dev/null/results (Not a directory); choose another output
    folder
    """
    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write in {folder} ({error.strerror}); choose another output folder") from error
    return folder


def select(explanation: Explanation, index: int) -> Explanation:
    """The explanation of one image out of a batch: every field loses its leading axis."""
    return jax.tree.map(lambda field: np.asarray(field)[index], explanation)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def summary(explanation: Explanation, labels: Sequence[str]) -> dict[str, Any]:
    """The numbers of one image's explanation as plain Python values, in the order of `explanation.json`.

    Confidences and areas are fractions of one, `label` is the name of the class, `cp` is confidence over area, and
    `status` is the name of a `Status` in lower case. `missing_nats` and `missing_probability` say how far the mask is
    from each condition, `reasons` says the same in words.
    """
    name = lambda index: None if index < 0 else labels[int(index)]
    numbers = {
        "class_index": int(explanation.label),
        "label": name(explanation.label),
        "contrast": name(explanation.contrast),
        "confidence": float(explanation.confidence),
        "masked_confidence": float(explanation.masked_confidence),
        "inverse_confidence": float(explanation.inverse_confidence),
        "blank_confidence": float(explanation.blank_confidence),
        "area": float(explanation.area),
        "cp": float(explanation.cp),
        "cp_floored": float(explanation.cp_floored),
        "sufficient": bool(explanation.sufficient),
        "necessary": bool(explanation.necessary),
        "complete": bool(explanation.complete),
        "status": Status(int(explanation.status)).name.lower(),
        "reasons": list(reasons(explanation, labels)),
        "missing_nats": _amounts(explanation.missing),
        "missing_probability": _amounts(explanation.missing_probability),
        "complete_under": list(fills_held(explanation)),
        "evaluations": int(explanation.evaluations),
    }
    return {name: finite(x) for name, x in numbers.items()}


def _amounts(missing: Missing) -> dict[str, float | None]:
    return {name: finite(float(amount)) for name, amount in dataclasses.asdict(missing).items()}


def finite(value: Any) -> Any:
    """A number as JSON can say it: None for one that is not finite.

    >>> finite(float("nan")), finite(0.5)
    (None, 0.5)
    """
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_explanation(
    folder: str | Path,
    image: np.ndarray,
    explanation: Explanation,
    figure: Figure,
    *,
    labels: Sequence[str],
    seed: int,
    compile_seconds: float,
    run_seconds: float,
    config: Mapping[str, Any],
    certificate: Mapping[str, Any] | None = None,
) -> Path:
    """Write `explanation.png`, `.json` and `.npz` into `folder`, which is made if missing and returned.

    Args:
      folder: one folder per image; older results in it are replaced.
      image: f32[H, W, C] in [0, 1], as the classifier saw it.
      explanation: of this image alone, see `select`.
      figure: what becomes `explanation.png`.
      labels: the K class names.
      seed, compile_seconds, run_seconds: how the run went; the seconds are those of the whole batch.
      config: the resolved configuration, JSON values only.
      certificate: see `certificate.report`; None: nobody asked for one.

    The arrays in the .npz file: `image` f32[H, W, C], `mask` bool[H, W], `stage_masks` bool[S, H, W],
    `score` f32[H, W] in [0, 1], `genome` int32[G, 3].

    Raises:
      OutputError: if the folder cannot be written to.
    """
    folder = prepare_folder(folder)
    record = summary(explanation, labels) | {
        "certificate": certificate,
        "seed": seed,
        "compile_seconds": round(compile_seconds, 3),
        "run_seconds": round(run_seconds, 3),
        "config": config,
        "versions": versions(),
        "device": jax.devices()[0].device_kind,
    }
    arrays = {
        "image": np.asarray(image, np.float32),
        "mask": np.asarray(explanation.mask, bool),
        "stage_masks": np.asarray(explanation.stage_masks, bool),
        "score": np.asarray(explanation.score, np.float32),
        "genome": np.asarray(explanation.genome, np.int32),
    }
    text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(folder / "explanation.png", lambda file: figure.savefig(file, format="png"))
    write_atomically(folder / "explanation.npz", lambda file: np.savez_compressed(file, **arrays))
    write_atomically(
        folder / "explanation.json", lambda file: file.write(text.encode())
    )  # last: its presence says done
    return folder


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place: no reader ever sees half a file."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
