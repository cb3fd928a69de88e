"""Photographs in, arrays out: find the files, decode them, and fit them to the size that a classifier takes.

Every way in which a file can be unusable ends in an `ImageError` of one line that names the file and the remedy;
what was changed on the way without the user asking (a transparent background, an animation) is a *notice*.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from evomask.types import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")  # looked for in a folder
SAMPLES = Path(__file__).parent.parent / "samples"  # photographs in the public domain that ship with the package
SMALL = 64  # pixels on the shorter side, up to which a classifier is shown CIFAR-10 pictures by default
MIN_SIDE = 8  # pixels; anything smaller has nothing to explain
MAX_PIXELS = 80_000_000  # 20,000 x 4,000; decoding stays below about 1 GB of memory


class ImageError(InputError):
    """A file that cannot be explained; the message is one line, names the file, and says what to do."""


@dataclasses.dataclass(frozen=True)
class Photo:
    """A decoded photograph: `image` f32[H, W, C] in [0, 1], a short `name`, and what was changed on the way."""

    image: np.ndarray
    name: str
    notices: tuple[str, ...] = ()


def sample(name: str = "coffee") -> Path:
    """The path of a shipped photograph.

    >>> sample().name
    'coffee.jpg'
    >>> sample("dog")
    Traceback (most recent call last):
    evomask.data.photographs.ImageError: no shipped photograph is called 'dog'; choose from: cat, coffee, rocket
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

    A folder stands for the images directly in it (by suffix, see `SUFFIXES`); `**` in a pattern reaches further
    down; `~` is the home folder. What leads to no file is kept as it is, and `load` says what is wrong with it, so
    that one bad input does not hide the others.

    >>> [path.name for path in expand(SAMPLES)]
    ['cat.jpg', 'coffee.jpg', 'rocket.jpg']
    >>> expand("nothing/*.jpg")
    [PosixPath('nothing/*.jpg')]
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    return list(dict.fromkeys(path for item in inputs for path in _expand_one(Path(item).expanduser())))


def _expand_one(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()) or [path]
    if glob.has_magic(str(path)) and not path.exists():
        return sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()) or [path]
    return [path]


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path that no other has, even where capitals do not count: the stem, then stem_2, stem_3 ...

    >>> unique_names([Path("a/cat.jpg"), Path("b/Cat.png"), Path("dog.jpg")])
    ['cat', 'Cat_2', 'dog']
    """
    stems = {path.stem.lower() for path in paths}
    taken: set[str] = set()
    names = []
    for path in paths:
        name, number = path.stem, 1
        while name.lower() in taken or (number > 1 and name.lower() in stems):
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def load(path: str | Path, shape: tuple[int, int, int], crop: float = 1.0) -> Photo:
    """Decode the image at `path` into f32[H, W, C] in [0, 1], `shape` = (H, W, C) with C = 3 (RGB) or 1 (grey).

    The largest centred rectangle of the target's proportions, times `crop` (the part that a network is used to see), is
    cut out and resized with an antialiasing bicubic filter; a smaller picture is enlarged. EXIF orientation is
    honoured; grey, CMYK, palette and 16-bit images are converted, transparency is laid on white; of an animation the
    first frame is taken.

    Raises:
      ImageError: for a file that is missing, empty, no image, damaged, smaller than `MIN_SIDE` on a side, or has
        more than `MAX_PIXELS` pixels.

    >>> photo = load(sample("cat"), (224, 224, 3))
    >>> photo.image.shape, photo.image.dtype.name, photo.name, photo.notices
    ((224, 224, 3), 'float32', 'cat', ())
    """
    path = Path(path)
    if len(shape) != 3 or shape[0] < 1 or shape[1] < 1 or shape[2] not in (1, 3):
        raise ValueError(f"an image shape is (height, width, 3 or 1), got {tuple(shape)}")
    _check_file(path)
    try:
        # Pillow's warnings (damaged metadata, mostly) become notices; its own limit on pixels is above ours.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Image.open(path) as file:
                picture, notices = _decode(file, path, shape, crop)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more than 170 million") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{path} is not an image in a known format; save it as JPEG or PNG") from error
    except Exception as error:  # decoders fail on damaged files with almost any exception
        raise ImageError(f"{path} cannot be decoded ({error}); it is damaged or cut short, get it again") from error
    warned = [f"{w.message}" for w in caught if not issubclass(w.category, Image.DecompressionBombWarning)]
    image = np.asarray(picture, np.float32).reshape(shape) / np.float32(255)
    return Photo(image, path.stem, tuple(notices + warned))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ImageError(
            f"{path} is a folder without images ({' '.join(SUFFIXES)}); "
            f"for images in its subfolders give a pattern such as '{path}/**/*.jpg'"
        )
    if not path.exists():
        if glob.has_magic(str(path)):
            raise ImageError(f"nothing matches the pattern {path}; check the path")
        raise ImageError(f"no such file: {path}; check the path")
    if not path.is_file():
        raise ImageError(f"{path} is not a regular file; give an image file, a folder or a pattern")
    if not os.access(path, os.R_OK):
        raise ImageError(f"{path} cannot be read; check its permissions")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes); get it again")


def _too_large(path: Path, pixels: str) -> ImageError:
    return ImageError(f"{path} has {pixels} pixels, the limit is {MAX_PIXELS // 10**6} million; scale it down first")


def _decode(file: Image.Image, path: Path, shape: tuple[int, int, int], crop: float) -> tuple[Image.Image, list[str]]:
    """An opened file -> an 8-bit picture of the target size ("RGB" or "L"), and notices."""
    height, width, channels = shape
    if min(file.size) < MIN_SIDE:
        raise ImageError(
            f"{path} is {file.width} x {file.height} pixels, at least {MIN_SIDE} x {MIN_SIDE} are needed; "
            "use a larger image"
        )
    if file.width * file.height > MAX_PIXELS:
        raise _too_large(path, f"{file.width} x {file.height}")
    notices = []
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":  # an MPO is a phone's photograph with a preview attached
        notices.append(f"has {frames} frames, only the first is explained")
        file.seek(0)
    file.draft(None, (4 * max(height, width),) * 2)  # a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    picture = ImageOps.exif_transpose(file)
    if picture.mode == "F":
        raise ImageError(f"{path} has floating-point pixels, whose range is unknown; save it as JPEG or PNG")
    if picture.mode.startswith("I"):
        picture = _from_16_bit(picture, path)
    transparent = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    picture = picture.convert("RGBA" if transparent else "RGB")
    notices += _fit_notices(picture, width, height)
    # What `fit` calls bleed is the share cut off on each side.
    picture = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC, bleed=(1 - crop) / 2)
    if transparent:
        if picture.getextrema()[3][0] < 255:
            notices.append("is transparent in places, shown on white")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if channels == 1 else "RGB"), notices


def _from_16_bit(picture: Image.Image, path: Path) -> Image.Image:
    """Grey levels 0..65535 -> 8 bits; Pillow's own conversion would clip them at 255."""
    levels = np.asarray(picture)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError(f"{path} has 32-bit pixels, whose range is unknown; save it as JPEG or PNG")
    return Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _fit_notices(picture: Image.Image, width: int, height: int) -> list[str]:
    """Say so where the picture is enlarged, or where most of it is cut off."""
    scale = max(width / picture.width, height / picture.height)
    kept = width * height / (scale * picture.width * scale * picture.height)
    notices = []
    if scale > 1:
        notices.append(f"is enlarged from {picture.width} x {picture.height} to fill {width} x {height}")
    if kept < 0.5:
        notices.append(f"is long and narrow, only the central {100 * kept:.2g}% of it is seen")
    return notices
