"""Image sets as arrays: CIFAR-10 archives, class-per-folder trees, image folders, samples and generated sets.

Files are decoded once; the result, `uint8` images and `int32` labels, is kept as `.npz` in a cache folder
(`EVOMASK_CACHE`, by default `~/.cache/evomask`). Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pickle
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_BYTES = 170498071
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
IMAGENETTE_LABELS = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TEST_FOLDERS = ("test", "val")


class DataError(ValueError):
    """An image set that is missing, empty, damaged or of the wrong shape; the text names it and the remedy."""


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
            raise DataError(f"labels must be 0 .. {len(self.names) - 1}, the found range is "
                            f"{self.labels.min()} .. {self.labels.max()}")

    def __len__(self) -> int:
        return len(self.images)


def load(path: str | Path, size: int | None = None) -> tuple[Dataset, Dataset]:
    """Reads the training and the test set found at `path`.

    Args:
      path: CIFAR-10's official python archive or its unpacked folder `cifar-10-batches-py`; or a folder, or a `.tar` or
        `.tar.gz` of it, that holds `train/<class>/<image>` and `test/` (or `val/`) in the same way, as Imagenette does.
      size: resize the shorter side to `size` and keep the central square; None takes the images as they are.

    Returns:
      (train, test) with the same class names, in alphabetical order of the folders.

    Raises:
      DataError: for a missing, empty or damaged input, classes that differ, or sizes that differ while `size` is None.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(
            f"no image set at '{path}': for CIFAR-10 get '{CIFAR10_ARCHIVE}' (Krizhevsky 2009; {CIFAR10_BYTES:,} bytes, md5 "
            f"{CIFAR10_MD5}), for Imagenette 'imagenette2-320.tgz', and give the place where you put it as data.path=...")
    if path.is_file() and not path.name.endswith(ARCHIVE_SUFFIXES):
        raise DataError(f"'{path}' is neither a folder nor one of {', '.join(ARCHIVE_SUFFIXES)}")
    if path.is_dir():
        return _read_folder(path, size)
    cached = _cache_file(path, size)
    if not cached.exists():
        _write_cache(cached, *_read_archive(path, size))
    with np.load(cached) as arrays:
        names = tuple(arrays["names"].tolist())
        return tuple(Dataset(arrays[f"{s}_images"], arrays[f"{s}_labels"], names) for s in ("train", "test"))


def _cache_file(path: Path, size: int | None) -> Path:
    stat = path.stat()
    identity = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {size}".encode()
    folder = Path(os.environ.get("EVOMASK_CACHE", Path.home() / ".cache" / "evomask"))
    return folder / f"{path.name.split('.')[0]}-{hashlib.sha256(identity).hexdigest()[:16]}.npz"


def _write_cache(path: Path, train: Dataset, test: Dataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez(file, train_images=train.images, train_labels=train.labels, test_images=test.images,
                 test_labels=test.labels, names=np.array(train.names))
    os.replace(file.name, path)


def _read_archive(path: Path, size: int | None) -> tuple[Dataset, Dataset]:
    try:
        with tarfile.open(path) as archive:
            members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda m: m.name)
            official = any(m.name.endswith("/data_batch_1") for m in members)
            if official:
                if path.name == CIFAR10_ARCHIVE:
                    _check_official(path)
                files = {Path(m.name).name: archive.extractfile(m).read() for m in members}
                return _cifar10(files, path)
            return _splits(((m.name, archive.extractfile(m).read()) for m in members), path, size)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"'{path}' is damaged ({error}): get it again") from error


def _read_folder(path: Path, size: int | None) -> tuple[Dataset, Dataset]:
    if (path / "data_batch_1").is_file():
        return _cifar10({f.name: f.read_bytes() for f in path.iterdir() if f.is_file()}, path)
    files = sorted(f for f in path.rglob("*") if f.is_file())
    return _splits(((str(f.relative_to(path)), f.read_bytes()) for f in files), path, size)


def _check_official(path: Path) -> None:
    if path.stat().st_size != CIFAR10_BYTES:
        raise DataError(f"'{path}' has {path.stat().st_size:,} bytes instead of {CIFAR10_BYTES:,}: get it again")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != CIFAR10_MD5:
        raise DataError(f"'{path}' has md5 {found} instead of {CIFAR10_MD5}: get it again")


def _cifar10(files: dict[str, bytes], path: Path) -> tuple[Dataset, Dataset]:
    def read(names: list[str]) -> Dataset:
        missing = [n for n in names if n not in files]
        if missing:
            raise DataError(f"'{path}' lacks {', '.join(missing)}: unpack '{CIFAR10_ARCHIVE}' again")
        try:
            batches = [pickle.loads(files[n], encoding="bytes") for n in names]
            images = np.concatenate([b[b"data"] for b in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            labels = np.concatenate([np.asarray(b[b"labels"], np.int32) for b in batches])
        except (pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
            raise DataError(f"a batch in '{path}' is damaged ({error}): unpack '{CIFAR10_ARCHIVE}' again") from error
        return Dataset(np.ascontiguousarray(images), labels, CIFAR10_LABELS)

    return read([f"data_batch_{i}" for i in range(1, 6)]), read(["test_batch"])


def _splits(files: Iterator[tuple[str, bytes]], path: Path, size: int | None) -> tuple[Dataset, Dataset]:
    found: dict[str, list[tuple[str, np.ndarray]]] = {"train": [], "test": []}
    for name, content in files:
        parts = Path(name).parts
        if len(parts) < 3 or not name.lower().endswith(IMAGE_SUFFIXES):
            continue
        split = "test" if parts[-3] in TEST_FOLDERS else parts[-3]
        if split in found:
            found[split].append((parts[-2], decode(content, f"{name} in '{path}'", size)))
    for split, images in found.items():
        if not images:
            raise DataError(f"'{path}' holds no image under {split}/<class>/: put {', '.join(IMAGE_SUFFIXES)} files there"
                            + (" (val/ is taken as well)" if split == "test" else ""))
    classes = sorted({c for c, _ in found["train"]})
    unknown = sorted({c for c, _ in found["test"]} - set(classes))
    if unknown:
        raise DataError(f"'{path}': classes {unknown} occur under test/ but not under train/")
    names = tuple(IMAGENETTE_LABELS.get(c, c) for c in classes)

    def collect(split: str) -> Dataset:
        shapes = {image.shape for _, image in found[split]}
        if len(shapes) > 1:
            raise DataError(f"'{path}': images of {len(shapes)} sizes, such as {sorted(shapes)[:2]}: give data.size=... pixels")
        labels = np.array([classes.index(c) for c, _ in found[split]], np.int32)
        return Dataset(np.stack([image for _, image in found[split]]), labels, names)

    return collect("train"), collect("test")


def decode(content: bytes, name: str, size: int | None = None) -> np.ndarray:
    """Decodes one image file to uint8[H, W, 3]; with `size`, its central square resized to size x size.

    Raises:
      DataError: when the bytes are no image; `name` is named.
    """
    try:
        image = PILImage.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{name} is no readable image ({error}): remove it or get it again") from error
    if size is not None:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.resize((size, size), PILImage.Resampling.BICUBIC, (left, top, left + side, top + side))
    return np.asarray(image)
