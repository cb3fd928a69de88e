"""Checkpoints of a run and the recipe that they were written by, in one folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomask.files import write_atomically
from evomask.training.recipe import Recipe
from evomask.types import InputError

if TYPE_CHECKING:
    import orbax.checkpoint as ocp  # importing it adds a handler to the root logger: only for those who train

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
    text = json.dumps(dataclasses.asdict(recipe), indent=1)
    write_atomically(folder / RECIPE_FILE, lambda file: file.write(text.encode()))
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    return ocp.CheckpointManager(folder, options=options, item_handlers=ocp.StandardCheckpointHandler())


def newest(manager: ocp.CheckpointManager, like: Any) -> Any:
    """What the newest checkpoint holds, as a pytree of the structure, shapes and dtypes of `like`."""
    from orbax.checkpoint.args import StandardRestore

    return manager.restore(manager.latest_step(), args=StandardRestore(like))


def save(manager: ocp.CheckpointManager, step: int, state: Any) -> None:
    """Writes the checkpoint of a step, and returns when it is on disk."""
    from orbax.checkpoint.args import StandardSave

    manager.save(step, args=StandardSave(state))
    manager.wait_until_finished()
