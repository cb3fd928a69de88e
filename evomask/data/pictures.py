"""The one decoder of pictures, and what is looked at in a folder of them.

Training, explaining and benchmarks read every file here, so that one file has the same pixels everywhere. A file that
cannot be used ends in an `ImageError` of one line that names the file and the remedy; what was changed on the way
without the user asking (a transparent background, an animation) is a *notice*.
"""

from __future__ import annotations

import glob
import io
import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evomask.data import framing
from evomask.types import InputError

if TYPE_CHECKING:
    from PIL import Image  # imported where a file is decoded: `import evomask` is to be cheap

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")  # looked for in a folder
MIN_SIDE = 8  # pixels; anything smaller has nothing to explain
MAX_PIXELS = 80_000_000  # 20,000 x 4,000; decoding stays below about 1 GB of memory

Shape = tuple[int, int, int]  # height, width, channels


class DataError(InputError):
    """Files that are missing, empty, damaged or of the wrong shape; the text names them and the remedy."""


class ImageError(DataError):
    """A file that is no usable picture; the message is one line, names the file, and says what to do."""


# ------------------------------------------------------------------------------------------------- files and folders


def located(path: str | Path) -> Path:
    """The path with `~` as the home folder, unless a file is really called that.

    >>> located("~evomask-nobody/cat.png")
    PosixPath('~evomask-nobody/cat.png')
    """
    text = os.fspath(path)
    return Path(text if os.path.lexists(text) else os.path.expanduser(text))


def is_picture(name: str) -> bool:
    """By its name, whether a file in a folder is taken for a picture: a known suffix, and not hidden.

    >>> [is_picture(name) for name in ("a.PNG", "._a.png", "a.png.part")]
    [True, False, False]
    """
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def inside(folder: Path) -> list[Path]:
    """The pictures directly in a folder, sorted. Hidden files, folders, pipes and sockets are passed over; a link that
    leads nowhere is kept, for the decoder to name it.
    """
    there = lambda path: path.is_file() or (path.is_symlink() and not path.exists())
    return sorted(path for path in folder.iterdir() if is_picture(path.name) and there(path))


def folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted; links to folders too, hidden ones (`.ipynb_checkpoints`) not."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def by_folder(folder: Path) -> dict[str, list[Path]]:
    """The pictures of every class in `<folder>/<class>/<picture>`; folders without pictures are no classes."""
    found = {child.name: inside(child) for child in folders(folder)}
    return {name: files for name, files in found.items() if files}


def levels(folder: Path) -> Iterator[list[Path]]:
    """The folder, then those in it, and so on: each real folder once, however links lead back and forth. As with
    `glob`, folders that may not be read are passed over.
    """
    level, seen = [folder], set()
    while level:
        new = {(path.stat().st_dev, path.stat().st_ino): path for path in level if os.access(path, os.R_OK | os.X_OK)}
        level = [path for identity, path in new.items() if identity not in seen]
        seen |= new.keys()
        yield level
        level = [child for path in level for child in folders(path)]


def matching(pattern: str) -> list[Path]:
    """Files that a pattern matches, sorted; `**/` stands for any number of folders, hidden ones are passed over.

    Brackets in the names of folders that exist are taken literally.
    """
    head, stars, rest = f"/{pattern}".partition("/**/")
    if stars:
        tops = [path for path in matches(head[1:] or ("/" if pattern.startswith("/") else ".")) if path.is_dir()]
        every = [Path(glob.escape(str(folder)), rest) for top in tops for level in levels(top) for folder in level]
        return sorted({file for path in every for file in matching(str(path))})
    return sorted(path for path in matches(pattern) if path.is_file())


def matches(pattern: str) -> list[Path]:
    """What a pattern without `**/` matches."""
    parts = Path(pattern).parts
    known = 0
    while known < len(parts) and os.path.lexists(Path(*parts[: known + 1])):
        known += 1
    literal = glob.escape(str(Path(*parts[:known]))) if known else ""
    return [Path(found) for found in glob.glob(os.path.join(literal, *parts[known:]))]


def printable(text: str) -> str:
    """The text as any terminal, file and picture takes it: control characters and bytes that are no UTF-8 become %XX.

    >>> printable(os.fsdecode(b"caf\\xe9 au lait")), printable("two\\nlines")
    ('caf%E9 au lait', 'two%0Alines')
    """
    odd = lambda char: unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
    code = lambda char: "".join(f"%{byte:02X}" for byte in _bytes(char))
    return "".join(code(char) if odd(char) else char for char in text)


def _bytes(char: str) -> bytes:
    lone = "\ud800" <= char <= "\udfff"
    return char.encode("utf-8", "surrogateescape" if lone and "\udc80" <= char <= "\udcff" else "surrogatepass")


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path that no other has, even where capitals do not count: the stem, then stem_2, stem_3 ...

    Each can be the name of a visible folder: leading dots become underscores, and see `printable`.

    >>> unique_names([Path("a/cat.jpg"), Path("b/Cat.png"), Path("dog.jpg"), Path("...png")])
    ['cat', 'Cat_2', 'dog', '__']
    """
    wanted = [folder_name(path) for path in paths]
    lower = {name.lower() for name in wanted}
    taken: set[str] = set()
    names = []
    for first in wanted:
        name, number = first, 1
        while name.lower() in taken or (number > 1 and name.lower() in lower):
            number += 1
            name = f"{first}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def folder_name(path: Path) -> str:
    """The stem of a file as the name of a folder that is visible and lies where it is made.

    >>> folder_name(Path("...png")), folder_name(Path("..png")), folder_name(Path("a/.cat.jpg"))
    ('__', '_', '_cat')
    """
    stem = printable(path.stem)
    rest = stem.lstrip(".")
    return "_" * (len(stem) - len(rest)) + rest


# ------------------------------------------------------------------------------------------------------------ decoding


def decode(content: bytes, name: str, size: int | None = None) -> np.ndarray:
    """Decodes one image file to uint8[H, W, 3]; with `size`, its central square resized to size x size. See `read`.

    Raises:
      ImageError: when the bytes are no usable picture; `name` is named.
    """
    return read(content, name, None if size is None else (size, size, 3))[0]


def read(
    source: Path | bytes, name: str, shape: Shape | None = None, crop: float = 1.0, fit: str = "crop"
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes a picture from a file or from its bytes.

    The largest centred rectangle of the target's proportions, times `crop` (the part that a network is used to see), is
    cut out and resized with an antialiasing bicubic filter; a smaller picture is enlarged. Other ways to `fit` it show
    all of it: squeezed, or with black beside it. EXIF orientation is honoured; grey, CMYK, palette and 16-bit images
    are converted, transparency is laid on white; of an animation the first frame is taken.

    Args:
      source: a file, or what was in it.
      name: what messages call it.
      shape: (H, W, C) with C = 3 (RGB) or 1 (grey); None keeps the picture's own size, in RGB.
      crop: in (0, 1].
      fit: one of `framing.FITS`.

    Returns:
      uint8[H, W, C], and what was changed without being asked for.

    Raises:
      ImageError: for a file that is missing, empty, no image, damaged, smaller than `MIN_SIDE` on a side, or has
        more than `MAX_PIXELS` pixels.
      InputError: `fit` is none of its kinds.
    """
    from PIL import Image

    framing.check(fit)
    if isinstance(source, Path):
        check_file(source, name)
    elif not source:
        raise ImageError(f"{name} is empty (0 bytes); get it again")
    try:
        # Pillow's warnings (damaged metadata, mostly) become notices; its own limit on pixels is above ours.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as file:
                picture, notices = _decoded(file, name, shape, crop, fit)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "more than 170 million") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image in a known format; save it as JPEG or PNG") from error
    except Exception as error:  # decoders fail on damaged files with almost any exception
        raise ImageError(f"{name} cannot be decoded ({error}); it is damaged or cut short, get it again") from error
    warned = [f"{w.message}" for w in caught if not issubclass(w.category, Image.DecompressionBombWarning)]
    pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], -1), tuple(notices + warned)


def check_file(path: Path, name: str | None = None) -> None:
    """Raises ImageError, which says why, unless the path is a file that can be read."""
    name = str(path) if name is None else name
    if os.path.isdir(path):
        if not os.access(path, os.R_OK | os.X_OK):
            raise ImageError(f"{name} is a folder that cannot be read; check its permissions")
        raise ImageError(
            f"{name} is a folder without images ({' '.join(SUFFIXES)}); "
            f"for images in its subfolders give a pattern such as '{path}/**/*.jpg'"
        )
    if not os.path.exists(path):
        if os.path.islink(path):
            raise ImageError(f"{name} is a link to '{os.readlink(path)}', which does not exist; get the file again")
        if glob.has_magic(str(path)):
            raise ImageError(f"nothing matches the pattern {name}; check the path")
        raise ImageError(f"no such file: {name}; check the path")
    if not os.path.isfile(path):
        raise ImageError(f"{name} is not a regular file; give an image file, a folder or a pattern")
    if not os.access(path, os.R_OK):
        raise ImageError(f"{name} cannot be read; check its permissions")
    if os.path.getsize(path) == 0:
        raise ImageError(f"{name} is empty (0 bytes); get it again")


def _too_large(name: str, pixels: str) -> ImageError:
    return ImageError(f"{name} has {pixels} pixels, the limit is {MAX_PIXELS // 10**6} million; scale it down first")


def _decoded(file: Image.Image, name: str, shape: Shape | None, crop: float, fit: str) -> tuple[Image.Image, list[str]]:
    """An opened file -> an 8-bit picture of the target size ("RGB" or "L"), and notices."""
    from PIL import Image, ImageOps

    if min(file.size) < MIN_SIDE:
        raise ImageError(
            f"{name} is {file.width} x {file.height} pixels, at least {MIN_SIDE} x {MIN_SIDE} are needed; "
            "use a larger image"
        )
    if file.width * file.height > MAX_PIXELS:
        raise _too_large(name, f"{file.width} x {file.height}")
    notices = []
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":  # an MPO is a phone's photograph with a preview attached
        notices.append(f"has {frames} frames, only the first is explained")
        file.seek(0)
    own_size = _upright_size(file)  # before it is a draft's
    if shape is not None:
        file.draft(None, (4 * max(shape[:2]),) * 2)  # a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    picture = ImageOps.exif_transpose(file)
    if picture.mode == "F":
        raise ImageError(f"{name} has floating-point pixels, whose range is unknown; save it as JPEG or PNG")
    if picture.mode.startswith("I"):
        picture = _from_16_bit(picture, name)
    transparent = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    picture = picture.convert("RGBA" if transparent else "RGB")
    if shape is not None:
        notices += fit_notices(picture.size, shape[1], shape[0], fit)
        picture = fitted(picture, own_size, shape[:2], crop, fit)
    if transparent:
        if picture.getextrema()[3][0] < 255:  # pyright: ignore[reportIndexIssue, reportGeneralTypeIssues]
            notices.append("is transparent in places, shown on white")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if shape is not None and shape[2] == 1 else "RGB"), notices


def _upright_size(file: Image.Image) -> tuple[int, int]:
    """Height and width of an opened file, once it is turned as its EXIF orientation says."""
    from PIL import ExifTags

    is_turned = file.getexif().get(ExifTags.Base.Orientation, 1) > 4  # by a quarter
    width, height = file.size
    return (width, height) if is_turned else (height, width)


def fitted(
    picture: Image.Image, own_size: tuple[int, int], target: tuple[int, int], crop: float, fit: str
) -> Image.Image:
    """An upright picture (or a channel of one), of (height, width) `own_size` before it was a draft, at the target's
    (height, width).
    """
    from PIL import Image, ImageOps

    size, resampling = target[::-1], Image.Resampling.BICUBIC
    if fit == "squeeze":
        return picture.resize(size, resampling)
    if fit == "crop":  # what `ImageOps.fit` calls bleed is the share cut off on each side
        return ImageOps.fit(picture, size, resampling, bleed=(1 - crop) / 2)
    top, left, height, width = framing.padded(own_size, target)
    fitted = Image.new(picture.mode, size, "black")
    fitted.paste(picture.resize((width, height), resampling), (left, top))
    return fitted


def _from_16_bit(picture: Image.Image, name: str) -> Image.Image:
    """Grey levels 0..65535 -> 8 bits; Pillow's own conversion would clip them at 255."""
    from PIL import Image

    levels = np.asarray(picture)
    if levels.min() < 0 or levels.max() > 65535:
        raise ImageError(f"{name} has 32-bit pixels, whose range is unknown; save it as JPEG or PNG")
    return Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8))


def fit_notices(size: tuple[int, int], width: int, height: int, fit: str) -> list[str]:
    """Say so where a picture of (width, height) is enlarged, or where most of it is cut off."""
    scales = width / size[0], height / size[1]
    scale = min(scales) if fit == "pad" else max(scales)
    kept = width * height / (scale * size[0] * scale * size[1])
    notices = []
    if scale > 1:
        notices.append(f"is enlarged from {size[0]} x {size[1]} to fill {width} x {height}")
    if kept < 0.5 and fit == "crop":
        notices.append(f"is long and narrow, only the central {100 * kept:.2g}% of it is seen")
    return notices
