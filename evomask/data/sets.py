"""Image sets as arrays: CIFAR-10 archives, class-per-folder trees, samples and scikit-learn's digits.

Of a folder only pictures are read. Archives are decoded once; the result, `uint8` images and `int32` labels, is kept as
`.npz` in a cache folder (`EVOMASK_CACHE`, by default `~/.cache/evomask`). Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from evomask.data import pictures
from evomask.data.classes import CIFAR10_LABELS, IMAGENET_LABELS, class_names, lines
from evomask.data.pictures import DataError, ImageError, decode, printable
from evomask.files import write_atomically
from evomask.settings import cache_folder

SAMPLES = Path(__file__).parent.parent / "samples"
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_BYTES = 170498071
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TEST_FOLDERS = ("test", "val")
READER = 2  # raised whenever the same archive is read to other arrays, so that older caches are left alone


@dataclasses.dataclass(frozen=True)
class Dataset:
    """uint8[N, H, W, C] images, int32[N] labels and the K class names."""

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise DataError(f"images must be uint8[N, H, W, C], not {self.images.dtype}{list(self.images.shape)}")
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(f"{len(self.images)} images, but labels of shape {list(self.labels.shape)}: give one each")
        if not len(self.images):
            raise DataError("an image set without images: check the folder that it was read from")
        if self.labels.min() < 0 or self.labels.max() >= len(self.names):
            raise DataError(
                f"labels must be 0 .. {len(self.names) - 1}, the found range is "
                f"{self.labels.min()} .. {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.images)


class Found(NamedTuple):
    """A picture of a tree: its split ("train" or "test"), its class, what messages call it, and where its bytes are."""

    split: str
    folder: str
    name: str
    source: Path | bytes


def load(path: str | Path, size: int | None = None) -> tuple[Dataset, Dataset]:
    """Reads the training and the test set found at `path`.

    Args:
      path: CIFAR-10's official python archive or its unpacked folder `cifar-10-batches-py`; or a folder, or a `.tar` or
        `.tar.gz` of it, that holds `train/<class>/<image>` and `test/` (or `val/`) in the same way, as Imagenette does.
        Hidden files and folders, pipes, and whatever else is no picture by its name are passed over.
      size: resize the shorter side to `size` and keep the central square; None takes the images as they are.

    Returns:
      (train, test) with the same class names, in alphabetical order of the folders.

    Raises:
      DataError: for a missing, empty or damaged input, classes that differ, or sizes that differ while `size` is None.
        All pictures that cannot be read are counted, and the first ones named.
    """
    path = pictures.located(path)
    if not path.exists():
        raise DataError(
            f"no image set at '{path}': for CIFAR-10 get '{CIFAR10_ARCHIVE}' (Krizhevsky 2009; {CIFAR10_BYTES:,} "
            f"bytes, md5 {CIFAR10_MD5}), for Imagenette 'imagenette2-320.tgz', and give the place where you put it as "
            "data.path=..."
        )
    if path.is_dir():
        return _read_folder(path, size)
    if not path.is_file() or not path.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise DataError(f"'{path}' is neither a folder nor one of {', '.join(ARCHIVE_SUFFIXES)}")
    cached = _cache_file(path, size)
    return _read_cache(cached) or _write_cache(cached, *_read_archive(path, size))


# --------------------------------------------------------------------------------------------------------- the cache


def _cache_file(path: Path, size: int | None) -> Path:
    stat = path.stat()
    identity = os.fsencode(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {size} {READER}")
    return cache_folder() / f"{printable(path.name).split('.')[0]}-{hashlib.sha256(identity).hexdigest()[:16]}.npz"


def _read_cache(path: Path) -> tuple[Dataset, Dataset] | None:
    """None where nothing is kept, or where what is kept is damaged: the archive is read again then."""
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            names = tuple(arrays["names"].tolist())
            return tuple(Dataset(arrays[f"{s}_images"], arrays[f"{s}_labels"], names) for s in ("train", "test"))  # pyright: ignore[reportReturnType]
    except (FileNotFoundError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError):
        return None


def _write_cache(path: Path, train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    arrays = {"train_images": train.images, "train_labels": train.labels, "names": np.array(train.names)}
    arrays |= {"test_images": test.images, "test_labels": test.labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: np.savez(file, **arrays))
    return train, test


# ------------------------------------------------------------------------------------------- archives and folders


def _read_archive(path: Path, size: int | None) -> tuple[Dataset, Dataset]:
    try:
        with tarfile.open(path) as archive:
            members = sorted((m for m in archive.getmembers() if not m.isdir() and not m.isdev()), key=lambda m: m.name)
            if any(member.name.endswith("/data_batch_1") for member in members):
                if path.name == CIFAR10_ARCHIVE:
                    _check_official(path)
                return _cifar10(
                    {PurePosixPath(m.name).name: lambda m=m: archive.extractfile(m).read() for m in members},  # pyright: ignore[reportOptionalMemberAccess]
                    path,  # pyright: ignore[reportOptionalMemberAccess]
                )
            return _assemble((found for m in members if (found := _member(archive, m, path))), path, size)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"'{path}' is damaged ({error}): get it again") from error


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Found | None:
    """The picture that a member of an archive is, at `.../<split>/<class>/<picture>`; a link is what it leads to."""
    parts = PurePosixPath(member.name).parts
    if len(parts) < 3 or not pictures.is_picture(parts[-1]) or any(part.startswith(".") for part in parts[-3:]):
        return None
    split = _split(parts[-3])
    if split is None:
        return None
    name = f"{member.name} in '{path}'"
    try:
        return Found(split, parts[-2], name, archive.extractfile(member).read())  # pyright: ignore[reportOptionalMemberAccess]
    except KeyError as error:
        raise DataError(f"{name} is a link to '{member.linkname}', which is not in it: pack it again") from error


def _split(folder: str) -> str | None:
    folder = folder.lower()
    return "test" if folder in TEST_FOLDERS else folder if folder == "train" else None


def _read_folder(path: Path, size: int | None) -> tuple[Dataset, Dataset]:
    if (path / "data_batch_1").is_file():
        return _cifar10({file.name: file.read_bytes for file in path.iterdir() if file.is_file()}, path)
    return _assemble(
        (
            Found(split, folder, f"{file.relative_to(path)} in '{path}'", file)
            for split, top in _split_folders(path)
            for folder, files in pictures.by_folder(top).items()
            for file in files
        ),
        path,
        size,
    )


def _split_folders(path: Path) -> list[tuple[str, Path]]:
    """The folders train, test and val that lie highest: an archive may have been unpacked into a folder around them."""
    for level in pictures.levels(path):
        children = [child for folder in level for child in pictures.folders(folder)]
        found = [(split, child) for child in children if (split := _split(child.name))]
        if found:
            return found
    return []


def _check_official(path: Path) -> None:
    if path.stat().st_size != CIFAR10_BYTES:
        raise DataError(f"'{path}' has {path.stat().st_size:,} bytes instead of {CIFAR10_BYTES:,}: get it again")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != CIFAR10_MD5:
        raise DataError(f"'{path}' has md5 {found} instead of {CIFAR10_MD5}: get it again")


def _cifar10(files: Mapping[str, Callable[[], bytes]], path: Path) -> tuple[Dataset, Dataset]:
    def read(names: list[str]) -> Dataset:
        missing = [n for n in names if n not in files]
        if missing:
            raise DataError(f"'{path}' lacks {', '.join(missing)}: unpack '{CIFAR10_ARCHIVE}' again")
        try:
            batches = [pickle.loads(files[n](), encoding="bytes") for n in names]
            images = np.concatenate([b[b"data"] for b in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            labels = np.concatenate([np.asarray(b[b"labels"], np.int32) for b in batches])
        except (pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
            raise DataError(f"a batch in '{path}' is damaged ({error}): unpack '{CIFAR10_ARCHIVE}' again") from error
        return Dataset(np.ascontiguousarray(images), labels, CIFAR10_LABELS)

    return read([f"data_batch_{i}" for i in range(1, 6)]), read(["test_batch"])


def _assemble(files: Iterable[Found], path: Path, size: int | None) -> tuple[Dataset, Dataset]:
    found: dict[str, list[tuple[str, np.ndarray]]] = {"train": [], "test": []}
    errors = []
    for split, folder, name, source in files:
        try:
            found[split].append((folder, pictures.read(source, name, size and (size, size, 3))[0]))
        except ImageError as error:
            errors.append(str(error))
    if errors:
        more = f" ({len(errors)} pictures cannot be read, these are the first)" if errors[3:] else ""
        raise DataError("; ".join(errors[:3]) + more)
    for split, images in found.items():
        if not images:
            raise DataError(
                f"'{path}' holds no image under {split}/<class>/: put {', '.join(pictures.SUFFIXES)} files there"
                + (" (val/ is taken as well)" if split == "test" else "")
            )
    classes = sorted({folder for folder, _ in found["train"]})
    unknown = sorted({folder for folder, _ in found["test"]} - set(classes))
    if unknown:
        raise DataError(f"'{path}': classes {unknown} occur under test/ but not under train/")
    names = class_names(classes)
    return tuple(_stacked(images, classes, names, path) for images in found.values())  # pyright: ignore[reportReturnType]


def _stacked(images: list[tuple[str, np.ndarray]], classes: list[str], names: tuple[str, ...], path: Path) -> Dataset:
    shapes = {image.shape for _, image in images}
    if len(shapes) > 1:
        raise DataError(
            f"'{path}': images of {len(shapes)} sizes, such as {sorted(shapes)[:2]}: give data.size=... pixels"
        )
    labels = np.array([classes.index(folder) for folder, _ in images], np.int32)
    return Dataset(np.stack([image for _, image in images]), labels, names)


# -------------------------------------------------------------------------------------------- what needs no download


def samples(name: str = "cifar10") -> Dataset:
    """A few labelled images that need no download.

    Args:
      name: "cifar10", ten test images that ship with evomask; "foolbox_cifar10", the twenty of
        the package foolbox (MIT), among them those ten; or "foolbox_imagenet", its twenty ImageNet photographs at 224 x
        224.

    Raises:
      DataError: for another name, or when foolbox is asked for and not installed.

    >>> samples("cifar10").images.shape
    (10, 32, 32, 3)
    """
    folders = {"cifar10": "cifar10", "foolbox_cifar10": "cifar10", "foolbox_imagenet": "imagenet"}
    if name not in folders:
        raise DataError(f"no samples named {name!r}: choose one of {', '.join(folders)}")
    folder, kind = (SAMPLES / "cifar10" if name == "cifar10" else _foolbox_folder()), folders[name]
    files = sorted(f for f in folder.glob(f"{kind}_*") if pictures.is_picture(f.name))
    if not files:
        raise DataError(f"no {kind} samples in '{folder}': install the package again")
    names = CIFAR10_LABELS if kind == "cifar10" else lines(IMAGENET_LABELS)
    images = np.stack([decode(f.read_bytes(), str(f), None if kind == "cifar10" else 224) for f in files])
    labels = np.array([f.stem.split("_")[2] for f in files], np.int32)  # <kind>_<number>_<label>.<suffix>
    return Dataset(images, labels, names)


def _foolbox_folder() -> Path:
    found = importlib.util.find_spec("foolbox")  # located, not imported: the import takes seconds
    if found is None:
        raise DataError("these samples are in the package foolbox: pip install foolbox, or use samples('cifar10')")
    return Path(found.origin).parent / "data"


def digits() -> tuple[Dataset, Dataset]:
    """Scikit-learn's 8 x 8 digits (Alpaydin & Kaynak 1998), each pixel doubled: uint8[N, 16, 16, 1], 1,437 and 360
    images.

    Raises:
      DataError: when scikit-learn is missing.

    >>> train, test = digits()
    >>> train.images.shape, len(test)
    ((1437, 16, 16, 1), 360)
    """
    if importlib.util.find_spec("sklearn") is None:
        raise DataError("the digits come with scikit-learn: pip install scikit-learn")
    from sklearn.datasets import load_digits

    raw: Any = load_digits()
    images = np.round(raw.images * (255 / 16)).astype(np.uint8).repeat(2, 1).repeat(2, 2)[..., None]
    labels, names = raw.target.astype(np.int32), tuple(str(digit) for digit in range(10))
    test = np.arange(len(images)) % 5 == 0
    return Dataset(images[~test], labels[~test], names), Dataset(images[test], labels[test], names)
