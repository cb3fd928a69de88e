"""A mask as it lies in the photograph, at the photograph's own size."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from evomask.data import framing
from evomask.report.sheets import Sheet
from evomask.types import Explanation

DIMMED = 0.3  # of its brightness, that a pixel beside the mask keeps
VEIL = 235, 0.65  # grey level, and its share in what the network did not see


def full(found: Explanation, photograph: np.ndarray, *, fit: str = "crop", crop: float = 1.0) -> Sheet:
    """The overlay, numbers and mask of one explained image at the size of its photograph.

    What the mask keeps is shown as it is and outlined, the rest dimmed; what the network did not see is veiled.

    Args:
      found: of one image (no batch axis).
      photograph: uint8[H, W, 3], upright.
      fit, crop: how it was made the image that was explained, see `framing.frame`.

    The arrays: `mask` bool[H, W].
    """
    size = photograph.shape[:2]
    within = framing.frame(size, np.shape(found.mask), fit, crop)
    mask = framing.full_size(np.asarray(found.mask), within, size)
    seen = framing.full_size(np.ones(np.shape(found.mask), bool), within, size)
    record = {
        "size": [size[1], size[0]],
        "fit": fit,
        "frame": within._asdict(),
        "seen": float(seen.mean()),
        "area": float(mask.mean()),
    }
    return Sheet("full", overlay(photograph, mask, seen), record, {"mask": mask})


def overlay(photograph: np.ndarray, mask: np.ndarray, seen: np.ndarray) -> Image.Image:
    """A photograph uint8[H, W, 3] with a mask bool[H, W] of what was seen bool[H, W] of it."""
    picture, kept, known = Image.fromarray(photograph), _as_image(mask), _as_image(seen)
    level, share = VEIL
    veiled = Image.blend(picture.convert("L").convert("RGB"), Image.new("RGB", picture.size, (level,) * 3), share)
    dimmed = picture.point(lambda value: round(DIMMED * value))
    shown = Image.composite(dimmed, veiled, known)
    shown.paste(picture, mask=kept)
    width = max(1, round(min(picture.size) / 400))
    for colour, side in (("black", 2 * width), ("white", width)):  # white inside black is seen on any ground
        shown.paste(Image.new("RGB", picture.size, colour), mask=_border(kept, side))
    return shown


def _as_image(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _border(mask: Image.Image, width: int) -> Image.Image:
    """The pixels within `width` of the mask's border, on either side of it."""
    grown, shrunk = (mask.filter(kind(2 * width + 1)) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    return ImageChops.subtract(grown, shrunk)
