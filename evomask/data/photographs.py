"""Photographs in, arrays out: find the files that are asked for, and fit each to the size that a classifier takes."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from evomask.data import arrays, pictures
from evomask.data.pictures import ImageError, unique_names
from evomask.types import InputError

__all__ = [
    "SAMPLES",
    "SMALL",
    "ImageError",
    "Photo",
    "default_for",
    "expand",
    "load",
    "sample",
    "unique_names",
    "upright",
]

SAMPLES = Path(__file__).parent.parent / "samples"  # photographs in the public domain that ship with the package
SMALL = 64  # pixels on the shorter side, up to which a classifier is shown CIFAR-10 pictures by default


@dataclasses.dataclass(frozen=True)
class Photo:
    """A decoded photograph: `image` f32[H, W, C] in [0, 1], a `name`, its file, what was changed on the way, and what
    its channels are called if they are not simply red, green and blue, or grey.
    """

    image: np.ndarray
    name: str
    path: Path
    notices: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


def sample(name: str = "coffee") -> Path:
    """The path of a shipped photograph.

    >>> sample().name
    'coffee.jpg'
    >>> sample("dog")
    Traceback (most recent call last):
    evomask.data.pictures.ImageError: no shipped photograph is called 'dog'; choose from: cat, coffee, rocket
    """
    path = SAMPLES / f"{name}.jpg"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in SAMPLES.glob("*.jpg")))
        raise ImageError(f"no shipped photograph is called {name!r}; choose from: {names}")
    return path


def default_for(shape: tuple[int, int, int]) -> Path:
    """What to explain when nothing is named: a photograph, or for small inputs a folder of ten CIFAR-10 pictures.

    >>> default_for((224, 224, 3)).name, default_for((32, 32, 3)).name
    ('coffee.jpg', 'cifar10')
    """
    return SAMPLES / "cifar10" if min(shape[:2]) <= SMALL else sample()


def expand(inputs: str | Path | Iterable[str | Path]) -> list[Path]:
    """Files, folders and glob patterns -> paths of files, each once, in the order given; folders and globs sorted.

    A folder stands for the pictures directly in it (by suffix, see `pictures.SUFFIXES`, and not hidden); `**` in a
    pattern reaches further down; `~` is the home folder. What leads to no file is kept as it is, and `load` says what
    is wrong with it, so that one bad input does not hide the others.

    >>> [path.name for path in expand(SAMPLES)]
    ['cat.jpg', 'coffee.jpg', 'rocket.jpg']
    >>> expand("nothing/*.jpg")
    [PosixPath('nothing/*.jpg')]
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    return list(dict.fromkeys(path for item in inputs for path in _expand_one(pictures.located(item))))


def _expand_one(path: Path) -> list[Path]:
    if os.path.isdir(path):
        return (pictures.inside(path) if os.access(path, os.R_OK | os.X_OK) else []) or [path]
    if glob.has_magic(str(path)) and not os.path.lexists(path):
        return pictures.matching(str(path)) or [path]
    return [path]


def load(
    path: str | Path,
    shape: tuple[int, int, int],
    crop: float = 1.0,
    fit: str = "crop",
    *,
    channels: str | int | Sequence[str | int] | None = None,
    levels: Sequence[float] | None = None,
) -> Photo:
    """Decode the image at `path` into f32[H, W, C] in [0, 1].

    A photograph becomes RGB (C = 3) or grey (C = 1). Arrays (`.npy`, `.npz`), and any file where C is another number
    or `channels` or `levels` are chosen, are read channel by channel, see `arrays.read`. How it is cut and resized, the
    part that `crop` stands for, and how else it may `fit`: see `pictures.read`.

    Raises:
      InputError: the shape, `levels` or `fit` is not what it must be.
      ImageError: for a file that is missing, empty, no image, damaged, too small or too large, or has other channels.

    >>> photo = load(sample("cat"), (224, 224, 3))
    >>> photo.image.shape, photo.image.dtype.name, photo.name, photo.notices
    ((224, 224, 3), 'float32', 'cat', ())
    >>> load(sample("cat"), (224, 224, 1), channels="green").channels
    ('green',)
    """
    path = Path(path)
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"an image shape is (height, width, channels), got {tuple(shape)}")
    name = pictures.folder_name(path)
    if arrays.is_asked(path, shape[2], channels, levels):
        whole = arrays.read(path, str(path), shape[2], channels=channels, levels=levels)
        found = arrays.fitted(whole, tuple(shape), crop, fit)
        return Photo(found.values, name, path, found.notices, found.channels)
    pixels, notices = pictures.read(path, str(path), tuple(shape), crop, fit)
    return Photo(pixels.astype(np.float32) / np.float32(255), name, path, notices)


def upright(
    path: Path,
    count: int,
    *,
    channels: str | int | Sequence[str | int] | None = None,
    levels: Sequence[float] | None = None,
) -> np.ndarray:
    """All of what `load` read, at its own size, for people: uint8[H, W, 3], see `arrays.as_rgb`.

    Args:
      path, channels, levels: as `load` had them.
      count: C of the network.

    Raises:
      ImageError: see `load`.
    """
    if not arrays.is_asked(path, count, channels, levels):
        return pictures.read(path, str(path))[0]
    found = arrays.read(path, str(path), count, channels=channels, levels=levels)
    return np.round(255 * arrays.as_rgb(found.values)).astype(np.uint8)
