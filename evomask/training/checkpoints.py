"""Checkpoints of a run and the recipe that they were written by, in one folder."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import orbax.checkpoint as ocp

from evomask.training.recipe import Recipe
from evomask.types import InputError

RECIPE_FILE = "recipe.json"  # beside the checkpoints


def saved_recipe(folder: str | Path) -> Recipe | None:
    """The recipe that the checkpoints in `folder` were written by; None where there are none."""
    written = Path(folder) / RECIPE_FILE
    try:
        return Recipe(**json.loads(written.read_text())) if written.exists() else None
    except (TypeError, ValueError) as error:
        raise InputError(f"'{written}' is damaged ({error}): give another out=... or delete that folder") from error


def open_checkpoints(folder: str | Path, recipe: Recipe) -> ocp.CheckpointManager:
    """The two newest checkpoints in `folder`; InputError when they were written by another recipe."""
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if saved_recipe(folder) not in (None, recipe):
        raise InputError(f"'{folder}' holds checkpoints of another recipe: give another out=... or delete that folder")
    temporary = folder / f"{RECIPE_FILE}.tmp"
    temporary.write_text(json.dumps(dataclasses.asdict(recipe), indent=1))
    os.replace(temporary, folder / RECIPE_FILE)
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    return ocp.CheckpointManager(folder, options=options, item_handlers=ocp.StandardCheckpointHandler())
