"""Heat maps from a file, for tools that run elsewhere: they are cut and measured like those of every other method."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evomask.baselines.base import on_host
from evomask.data import pictures
from evomask.measures.budget import Account, Spent, UnequalBudgets
from evomask.types import InputError, Key, record, static


@record
class HeatMaps:
    """The heat maps of an .npz file, found by the pixels and the label of what is to be explained.

    The file holds, for N explanations:
      images       uint8[N, H, W, C], the pixels that were explained
      labels       integer[N], the classes that were explained
      score        float[N, H, W], larger where there is more evidence for the label; range as the tool likes
      evaluations  integer[N], images that the tool sent through the classifier
      backward     integer[N], gradients pulled back through it; may be left out: none
      budget       integer, evaluations that were allowed for each

    Every run of `evomask benchmark` leaves images and labels in this form in <out>/<experiment>/images/. What
    is charged is what the file says, which nobody has counted here. Neither the classifier nor the key is used.

    Raises:
      InputError: no such file, or it is not as above, or has no heat map of an image for its label.
      UnequalBudgets: the file was made under another budget. BudgetExceeded: it was exceeded.

    >>> import os, tempfile, jax
    >>> from evomask.classifiers import as_classifier
    >>> path = os.path.join(tempfile.mkdtemp(), "heatmaps.npz")
    >>> np.savez(path, images=np.zeros((1, 2, 2, 1), np.uint8), labels=[1], score=[[[0.5, 0.0], [-1.0, 2.0]]],
    ...          evaluations=[20], budget=20)
    >>> classifier = as_classifier(lambda images: images.mean((1, 2, 3))[:, None] * np.ones((1, 2), np.float32))
    >>> HeatMaps(path)(classifier, np.zeros((1, 2, 2, 1), np.float32), [1], key=jax.random.key(0), budget=20).tolist()
    [[[0.5, 0.0], [-1.0, 2.0]]]
    """

    path: str = static()

    __call__ = on_host

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return max(self._maps(budget).spent, key=lambda spent: spent.total)

    def explain(self, predict: Account, image: np.ndarray, label: int, key: Key, budget: int) -> np.ndarray:
        maps = self._maps(budget)
        row = maps.rows.get((np.round(255 * image).astype(np.uint8).tobytes(), label))
        if row is None:
            raise InputError(
                f"'{self.path}' has no heat map of the image for class {label}, but {len(maps.rows)} others: have "
                "those images and labels explained that the benchmark leaves in <out>/<experiment>/images/"
            )
        predict.spent += maps.spent[row]
        return maps.score[row]

    def _maps(self, budget: int) -> Maps:
        path = pictures.located(self.path)
        if not path.is_file():
            raise InputError(f"no heat maps at '{self.path}': give the .npz file as path=...")
        maps = _read(path, path.stat().st_mtime_ns)
        if maps.budget != budget:
            raise UnequalBudgets(
                f"the heat maps of '{self.path}' were made under a budget of {maps.budget}, not of {budget}"
            )
        return maps


class Maps(NamedTuple):
    """A file of heat maps."""

    score: np.ndarray  # float[N, H, W]
    spent: list[Spent]
    budget: int
    rows: dict[tuple[bytes, int], int]  # by pixels and label


@functools.lru_cache(maxsize=1)
def _read(path: Path, changed: int) -> Maps:
    """The file as it was at the time `changed`; InputError where it is not as `HeatMaps` says."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = dict(file)
    except (
        ValueError,
        TypeError,
        EOFError,
        OSError,
        zipfile.BadZipFile,
    ) as error:  # .npy: an array is no context manager
        raise InputError(f"'{path}' is not an .npz file of numbers: write it with numpy.savez") from error
    missing = [name for name in ("images", "labels", "score", "evaluations", "budget") if name not in found]
    if missing:
        raise InputError(f"'{path}' has no {', no '.join(missing)}, only {', '.join(found) or 'nothing'}")
    images = found["images"]
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise InputError(f"images in '{path}' are {images.dtype}{list(images.shape)}: must be uint8 [N, H, W, C]")
    found.setdefault("backward", np.zeros_like(found["evaluations"]))
    numbers = {"labels": images.shape[:1], "evaluations": images.shape[:1], "backward": images.shape[:1], "budget": ()}
    for name, shape in {"score": images.shape[:3], **numbers}.items():
        array, kinds = found[name], "f" if name == "score" else "iu"
        if array.dtype.kind not in kinds or array.shape != shape or (name != "score" and (array < 0).any()):
            wanted = "floats" if name == "score" else "integers from 0"
            raise InputError(
                f"{name} in '{path}' is {array.dtype}{list(array.shape)}: must be {wanted} of shape {list(shape)}"
            )
    keys = [(image.tobytes(), int(label)) for image, label in zip(images, found["labels"], strict=True)]
    rows = {key: row for row, key in enumerate(keys)}
    if len(rows) < len(keys):
        raise InputError(f"'{path}' has two heat maps of one image for one class: leave one out")
    spent = [Spent(int(f), int(b)) for f, b in zip(found["evaluations"], found["backward"], strict=True)]
    return Maps(found["score"], spent, int(found["budget"]), rows)
