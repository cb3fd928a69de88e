"""Image sets as arrays: CIFAR-10 archives, class-per-folder trees, image folders, samples and generated sets.

Files are decoded once; the result, `uint8` images and `int32` labels, is kept as `.npz` in a cache folder
(`EVOMASK_CACHE`, by default `~/.cache/evomask`). Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import io
import os
import pickle
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from evomask.types import Array, InputError, Key

SHIPPED = Path(__file__).parent.parent / "samples"
IMAGENET_LABELS = Path(__file__).parent.parent / "classifiers" / "weights" / "imagenet_labels.txt"
IMAGENET_WNIDS = IMAGENET_LABELS.with_name("imagenet_wnids.txt")
CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_BYTES = 170498071
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TEST_FOLDERS = ("test", "val")


class DataError(InputError):
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
            raise DataError(
                f"labels must be 0 .. {len(self.names) - 1}, the found range is "
                f"{self.labels.min()} .. {self.labels.max()}"
            )

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
            f"{CIFAR10_MD5}), for Imagenette 'imagenette2-320.tgz', and give the place where you put it as data.path=..."
        )
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
        np.savez(
            file,
            train_images=train.images,
            train_labels=train.labels,
            test_images=test.images,
            test_labels=test.labels,
            names=np.array(train.names),
        )
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
    walk = os.walk(path, followlinks=True)  # rglob passes over linked folders
    files = sorted(Path(folder, name) for folder, _, names in walk for name in names)
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
            raise DataError(
                f"'{path}' holds no image under {split}/<class>/: put {', '.join(IMAGE_SUFFIXES)} files there"
                + (" (val/ is taken as well)" if split == "test" else "")
            )
    classes = sorted({c for c, _ in found["train"]})
    unknown = sorted({c for c, _ in found["test"]} - set(classes))
    if unknown:
        raise DataError(f"'{path}': classes {unknown} occur under test/ but not under train/")
    names = class_names(classes)

    def collect(split: str) -> Dataset:
        shapes = {image.shape for _, image in found[split]}
        if len(shapes) > 1:
            raise DataError(
                f"'{path}': images of {len(shapes)} sizes, such as {sorted(shapes)[:2]}: give data.size=... pixels"
            )
        labels = np.array([classes.index(c) for c, _ in found[split]], np.int32)
        return Dataset(np.stack([image for _, image in found[split]]), labels, names)

    return collect("train"), collect("test")


def class_names(folders: Sequence[str]) -> tuple[str, ...]:
    """What the folders of a tree are called; those of ImageNet's WordNet ids get the names of its classes.

    >>> class_names(["n01440764", "dragonfly"])
    ('tench', 'dragonfly')
    """
    names = dict(zip(_lines(IMAGENET_WNIDS), _lines(IMAGENET_LABELS), strict=True))
    return tuple(names.get(folder, folder) for folder in folders)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


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
        image = image.crop((left, top, left + side, top + side)).resize((size, size), PILImage.Resampling.BICUBIC)
    return np.asarray(image)


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
    folder, kind = (SHIPPED / "cifar10" if name == "cifar10" else _foolbox_folder()), folders[name]
    files = sorted(f for f in folder.glob(f"{kind}_*") if f.suffix in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"no {kind} samples in '{folder}': install the package again")
    names = CIFAR10_LABELS if kind == "cifar10" else tuple(_lines(IMAGENET_LABELS))
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

    raw = load_digits()
    images = np.round(raw.images * (255 / 16)).astype(np.uint8).repeat(2, 1).repeat(2, 2)[..., None]
    labels, names = raw.target.astype(np.int32), tuple(str(digit) for digit in range(10))
    test = np.arange(len(images)) % 5 == 0
    return Dataset(images[~test], labels[~test], names), Dataset(images[test], labels[test], names)


PLANTED_SIDE = 6  # pixels; every pattern has as many bright as dark ones
PLANTED_LABELS = ("rows", "columns", "checks", "diagonals")


def planted_evidence(key: Key, num: int, size: int = 32, distractors: int = 3) -> tuple[Array, Array, Array]:
    """Images whose class is decided by one small patch at a random place and by nothing else.

    The background is smooth grey noise. The evidence is a 6 x 6 pattern of rows, columns, checks or diagonals, the
    class. Each distractor is a patch of the same size, contrast and share of bright pixels in random order. Patches
    never
    overlap: each lies in a cell of its own of an 8 x 8 grid, at a random offset, in a random tint.

    Args:
      key: one key.
      num: images.
      size: height and width in pixels, a multiple of 8 with more cells than patches.
      distractors: patches that say nothing.

    Returns:
      images f32[num, size, size, 3] in [0, 1], labels int32[num] in 0 .. 3 (`PLANTED_LABELS`), and the truth
      bool[num, size, size], True on the evidence.

    Raises:
      InputError: when the patches do not fit.

    >>> images, labels, truth = jax.jit(planted_evidence, static_argnums=1)(jax.random.key(0), 5)
    >>> images.shape, truth.sum((1, 2))
    ((5, 32, 32, 3), Array([36, 36, 36, 36, 36], dtype=int32))
    """
    cell = PLANTED_SIDE + 2
    if size % cell or (size // cell) ** 2 <= distractors:
        raise InputError(
            f"size {size} must be a multiple of {cell} with more than {distractors} cells of {cell} x {cell}"
        )
    return jax.vmap(lambda k: _planted(k, size, distractors))(jax.random.split(key, num))


def _planted(key: Key, size: int, distractors: int) -> tuple[Array, Array, Array]:
    background_key, label_key, cell_key, offset_key, shuffle_key, tint_key, noise_key = jax.random.split(key, 7)
    side, cell, patches = PLANTED_SIDE, PLANTED_SIDE + 2, distractors + 1
    label = jax.random.randint(label_key, (), 0, len(PLANTED_LABELS))
    coarse = jax.random.uniform(background_key, (4, 4, 1), minval=0.35, maxval=0.65)
    image = jnp.broadcast_to(jax.image.resize(coarse, (size, size, 1), "linear"), (size, size, 3))
    shuffled = jax.vmap(lambda k: jax.random.permutation(k, jnp.arange(side * side) % 2))
    random_patches = shuffled(jax.random.split(shuffle_key, distractors)).reshape(distractors, side, side)
    bright = jnp.concatenate([_patterns()[label][None], random_patches]).astype(jnp.float32)
    tints = jax.random.uniform(tint_key, (patches, 1, 1, 3), minval=0.7, maxval=1.0)
    across = size // cell
    cells = jax.random.choice(cell_key, across * across, (patches,), replace=False)
    corners = cell * jnp.stack([cells // across, cells % across], axis=1)
    corners += jax.random.randint(offset_key, (patches, 2), 0, cell - side + 1)
    truth = jnp.zeros((size, size), bool)
    for i in range(patches):
        start = (corners[i, 0], corners[i, 1])
        image = jax.lax.dynamic_update_slice(image, bright[i][..., None] * tints[i], (*start, 0))
        if i == 0:
            truth = jax.lax.dynamic_update_slice(truth, jnp.ones((side, side), bool), start)
    noise = 0.03 * jax.random.normal(noise_key, image.shape)
    return jnp.clip(image + noise, 0.0, 1.0), label, truth


def _patterns() -> Array:
    """int32[4, 6, 6] of zeros and ones, half of each."""
    row, col = jnp.mgrid[:PLANTED_SIDE, :PLANTED_SIDE]
    return jnp.stack([row % 2, col % 2, (row // 3 + col // 3) % 2, (row + col) % 6 // 3])


def planted(num: int = 4096, seed: int = 0, size: int = 32) -> tuple[Dataset, Dataset]:
    """`planted_evidence` as a training set of `num` images and a test set of a quarter as many.

    >>> [len(part) for part in planted(64)]
    [64, 16]
    """

    def read(key: Key, count: int) -> Dataset:
        images, labels, _ = jax.jit(planted_evidence, static_argnums=(1, 2))(key, count, size)
        return Dataset(np.asarray(jnp.round(255 * images), np.uint8), np.asarray(labels), PLANTED_LABELS)

    train_key, test_key = jax.random.split(jax.random.key(seed))
    return read(train_key, num), read(test_key, num // 4)
