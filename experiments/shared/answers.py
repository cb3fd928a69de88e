"""What the table says of one photograph, from a search of now or, where the same was asked before, from its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from evomask.report import records, sheets

from ..benchmarks import sources
from . import cli

ASIDE = ("image", "out", "again")  # keys that change nothing of what is found about a picture


class Answer(NamedTuple):
    """A row of the table, and the lines under it."""

    name: str
    numbers: Mapping[str, Any]  # see `sheets.numbers`
    remarks: Sequence[str]


def code(config: Mapping[str, Any], program: str = "explain") -> dict[str, Any]:
    """What decides the answers of a program beside picture and settings: sources, versions and the device."""
    made_by = {"versions": sheets.versions(), "device": jax.devices()[0].device_kind}
    return {**sources.of_run(config, f"{cli.PROGRAMS}.{program}"), **made_by}


def request(image: np.ndarray, config: Mapping[str, Any], made_by: Mapping[str, Any]) -> str:
    """Digest of everything that an answer about f32[H, W, C] follows from."""
    settings = {key: value for key, value in config.items() if key not in ASIDE}
    return sources.digest({"image": image, "settings": settings, "code": made_by})


def before(folder: Path, asked: str) -> Answer | None:
    """The answer whose whole report is in a folder, if it is that to the same request."""
    try:
        record = json.loads((folder / records.DONE).read_bytes())
    except (OSError, ValueError):  # none, or not from here
        return None
    if not isinstance(record, dict) or record.get("request") != asked:
        return None
    whole = all((folder / name).is_file() for name in record["files"])
    return Answer(folder.name, record, record["remarks"]) if whole else None
