"""Pictures of any number of channels: NumPy's arrays, TIFF stacks, or chosen channels of a photograph.

What a channel is called is taken from the file where it says so: an array `channels` beside the image in an `.npz`, the
metadata of OME, ImageJ and GDAL in a TIFF.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

import numpy as np

from evomask.data import framing, pictures
from evomask.data.pictures import MAX_PIXELS, MIN_SIDE, ImageError, Shape
from evomask.types import InputError

if TYPE_CHECKING:
    from tifffile import TiffFile  # imported where a file is decoded, as Pillow is

NUMPY, TIFF = (".npy", ".npz"), (".tif", ".tiff")
DESCRIPTIONS = 42112  # the TIFF tag in which GDAL keeps what bands are called


class Bands(NamedTuple):
    """A picture f32[H, W, C] in [0, 1], what its C channels are called, and what was changed unasked."""

    values: np.ndarray
    channels: tuple[str, ...]
    notices: tuple[str, ...] = ()


def is_asked(path: Path, count: int, channels: object, levels: object) -> bool:
    """Whether a file is read here rather than as a photograph: by what it is, or by what is wanted of it."""
    return path.suffix.lower() in NUMPY or count not in (1, 3) or channels is not None or levels is not None


def read(
    path: Path,
    name: str,
    count: int,
    *,
    channels: str | int | Sequence[str | int] | None = None,
    levels: Sequence[float] | None = None,
) -> Bands:
    """Reads a picture of `count` channels at its own size.

    Args:
      path: an `.npy` or `.npz` of [H, W], [H, W, C] or [C, H, W]; a TIFF of one picture in one or more channels; or any
        photograph, whose channels are red, green and blue.
      name: what messages call it.
      channels: which of the file's, in this order, by name or by index from 0; None: all of them, as they come.
      levels: (low, high), the values that become 0 and 1, what lies beyond is cut; None: 0 and the greatest of the type
        for `uint8` and `uint16`; floats are in [0, 1] as they are.

    Raises:
      ImageError: for a file that cannot be read, or whose shape, channels or values are not those.
      InputError: `levels` are not two rising numbers.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "scan.npz")
    ...     np.savez(path, image=np.full((2, 8, 8), 51, np.uint8), channels=["nir", "red"])
    ...     found = read(path, "scan", 1, channels=["red"])
    >>> found.values.shape, float(found.values.max()), found.channels
    ((8, 8, 1), 0.20000000298023224, ('red',))
    """
    span = _span(levels)
    channels = [channels] if isinstance(channels, str | int) else channels
    pictures.check_file(path, name)
    try:
        values, names, notices = _opened(path, name, count if channels is None else None)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders fail on damaged files with almost any exception
        if "imagecodecs" in str(error):
            remedy = "pip install imagecodecs, or save it without compression"
            raise ImageError(f"{name} is compressed in a way that wants another package ({error}): {remedy}") from error
        raise ImageError(f"{name} cannot be decoded ({error}); it is damaged or cut short, get it again") from error
    height, width = values.shape[:2]
    if min(height, width) < MIN_SIDE or height * width > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width} x {height} pixels: give one of at least {MIN_SIDE} x {MIN_SIDE}, "
            f"and at most {MAX_PIXELS // 10**6} million"
        )
    names = names or tuple(map(str, range(values.shape[2])))
    if len(names) != values.shape[2]:
        raise ImageError(f"{name} names {len(names)} channels ({_listed(names)}) and has {values.shape[2]}")
    chosen = _chosen(names, channels, count, name)
    unit, cut = _unit(values[..., chosen], name, span)
    return Bands(unit, tuple(names[index] for index in chosen), notices + cut)


def fitted(found: Bands, shape: Shape, crop: float = 1.0, fit: str = "crop") -> Bands:
    """The picture at the size (H, W, C) that a network takes, each channel as `pictures.read` does it."""
    from PIL import Image

    framing.check(fit)
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(found.values, -1, 0)]
    size = found.values.shape[:2]
    small = np.stack([np.asarray(pictures.fitted(plane, size, shape[:2], crop, fit)) for plane in planes], -1)
    notices = pictures.fit_notices(size[::-1], shape[1], shape[0], fit)
    return Bands(np.clip(small, 0.0, 1.0), found.channels, (*found.notices, *notices))


def as_rgb(values: np.ndarray) -> np.ndarray:
    """A picture [H, W, C] as people see it, [H, W, 3]: its first three channels as red, green and blue; grey where it
    has one; red and green where it has two.

    >>> as_rgb(np.array([[[1, 2]]])).tolist(), as_rgb(np.array([[[1, 2, 3, 4]]])).tolist()
    ([[[1, 2, 0]]], [[[1, 2, 3]]])
    """
    if values.shape[-1] == 1:
        return values.repeat(3, -1)
    shown = values[..., :3]
    return np.concatenate([shown, np.zeros_like(shown[..., : 3 - shown.shape[-1]])], -1)


# ----------------------------------------------------------------------------------------------------------- the files


def _opened(path: Path, name: str, count: int | None) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Values [H, W, C] of any type, the names of the channels if the file has them, and notices."""
    suffix = path.suffix.lower()
    if suffix in NUMPY:
        values, names = _from_numpy(path, name)
        return *_channels_last(values, name, count, len(names)), names, ()
    if suffix in TIFF:
        return _from_tiff(path, name)
    pixels, notices = pictures.read(path, name)
    return pixels, ("red", "green", "blue"), notices


def _from_numpy(path: Path, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The array of a file; of an archive the one called `image`, or the only one beside `channels`."""
    if not zipfile.is_zipfile(path):
        return np.load(path, allow_pickle=False), ()
    with np.load(path, allow_pickle=False) as file:
        rest = [key for key in file.files if key != "channels"]
        key = "image" if "image" in rest else rest[0] if len(rest) == 1 else None
        if key is None:
            raise ImageError(f"{name} holds {_listed(rest) or 'nothing'}: call the one to explain `image`")
        return file[key], tuple(map(str, np.ravel(file["channels"]))) if "channels" in file.files else ()


def _channels_last(values: np.ndarray, name: str, count: int | None, named: int) -> tuple[np.ndarray]:
    """[H, W], [H, W, C] or [C, H, W] -> [H, W, C]: the channels are those that were named or are wanted, else the
    shortest axis at either end.
    """
    if values.ndim == 2:
        return (values[..., None],)
    if values.ndim != 3:
        raise ImageError(f"{name} is {values.dtype}{list(values.shape)}: give [H, W, C], [C, H, W] or [H, W]")
    first, last = values.shape[0], values.shape[2]
    wanted = named or count or min(first, last)
    is_first = last != wanted and (first == wanted or first < last)
    return (np.moveaxis(values, 0, -1) if is_first else values,)


def _from_tiff(path: Path, name: str) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """The first picture of a file, with its channels last."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        first = file.series[0]
        values, axes = first.asarray(), first.axes
        spare = [axis for axis, length in zip(axes, values.shape) if axis not in "YX" and length > 1]
        if len(spare) > 1 or not {"Y", "X"} <= set(axes):
            raise ImageError(
                f"{name} has the axes {axes} {list(values.shape)}: give one picture, [C, H, W] or [H, W, C]"
            )
        rest = [index for index, axis in enumerate(axes) if axis not in "YX"]
        values = values.transpose(axes.index("Y"), axes.index("X"), *rest)
        notices = (f"has {len(file.series)} pictures, only the first is explained",) * (len(file.series) > 1)
        return values.reshape(*values.shape[:2], -1), _names(file), notices


def _names(file: TiffFile) -> tuple[str, ...]:
    """What OME, ImageJ or GDAL call the channels of a TIFF; empty where none does for all of them."""
    if file.ome_metadata:
        pixels = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels")
        names = [] if pixels is None else [channel.get("Name", "") for channel in pixels.iterfind("{*}Channel")]
    elif file.imagej_metadata:
        names = [str(label) for label in file.imagej_metadata.get("Labels") or ()]
    else:
        tag = file.pages.first.tags.get(DESCRIPTIONS)
        items = ElementTree.fromstring(tag.value).iter("Item") if tag else ()
        of = {int(item.get("sample", 0)): item.text or "" for item in items if item.get("role") == "description"}
        names = [of[sample] for sample in sorted(of)]
    return tuple(names) if all(names) else ()


# ---------------------------------------------------------------------------------------------------------- the values


def _span(levels: Sequence[float] | None) -> tuple[float, float] | None:
    if levels is None:
        return None
    numbers = [value for value in levels if isinstance(value, int | float)] if isinstance(levels, Sequence) else []
    if len(numbers) != 2 or len(levels) != 2 or not -math.inf < numbers[0] < numbers[1] < math.inf:
        raise InputError(f"levels are {levels!r}: give two numbers [low, high] that become 0 and 1, low < high")
    return float(numbers[0]), float(numbers[1])


def _chosen(names: Sequence[str], channels: Sequence[str | int] | None, count: int, name: str) -> list[int]:
    """Indices of the channels that are wanted, as many as the network takes."""
    if channels is None:
        chosen = list(range(len(names)))
    else:
        chosen = [_index(names, channel, name) for channel in channels]
    if len(chosen) != count:
        given = (
            f"has {len(names)} channels ({_listed(names)})" if channels is None else f"is to give {_listed(channels)}"
        )
        raise ImageError(f"{name} {given} and the network takes {count}: choose with channels=[...], by name or from 0")
    return chosen


def _index(names: Sequence[str], channel: str | int, name: str) -> int:
    if isinstance(channel, int) and not isinstance(channel, bool) and 0 <= channel < len(names):
        return channel
    if str(channel) in names:
        return names.index(str(channel))
    raise ImageError(f"{name} has no channel {channel!r}: choose from {_listed(names)}, or by number from 0")


def _unit(values: np.ndarray, name: str, span: tuple[float, float] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values of any type -> f32 in [0, 1], and a notice where some were cut."""
    if values.dtype.kind not in "buif":
        raise ImageError(f"{name} is of type {values.dtype}: give numbers")
    if bad := int((~np.isfinite(values)).sum()):
        raise ImageError(f"{name} has {bad} values that are no numbers (NaN or infinite): replace them first")
    if span is not None:
        unit = (values.astype(np.float32) - np.float32(span[0])) / np.float32(span[1] - span[0])
        beyond = float(((unit < 0) | (unit > 1)).mean())
        notice = f"has {100 * beyond:.2g}% of its values beyond levels={list(span)}, which were cut"
        return np.clip(unit, 0.0, 1.0), (notice,) * (beyond > 0)
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max), ()
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ImageError(
            f"{name} is {values.dtype} from {low:.4g} to {high:.4g}: say what becomes 0 and 1, levels=[low,high]"
        )
    return values.astype(np.float32), ()


def _listed(names: Sequence[object], most: int = 12) -> str:
    """The names with commas; of many the first ones.

    >>> _listed(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join([*map(str, names[:most]), *["..."] * (len(names) > most)])
