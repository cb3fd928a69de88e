"""The judge of benchmarks: whether masks hold, found by other means than those by which they were searched.

NumPy throughout, with draws of its own; of evomask only the network and the blanks are used. What `local`, `fills` and
`all` mean is written down once more, so that a fault in one of the two shows as a disagreement.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from evomask.types import Classifier, InputError

CONFIDENCE = 0.95  # one-sided
LEVEL = 0.9


class Changes(NamedTuple):
    """What is drawn anew in every showing; None: not changed."""

    shift: float | None = None  # of the shorter side, at least one pixel
    brightness: float | None = None  # of the factor
    noise: float | None = None  # its greatest standard deviation
    fills: bool = False  # the blank is one of all shipped ones


CHANGES = {
    "none": Changes(),
    "local": Changes(0.02, 0.05, 0.02),
    "fills": Changes(fills=True),
    "all": Changes(0.02, 0.05, 0.02, True),
}


class Case(NamedTuple):
    """One decision about one picture, and what shows where a mask does not."""

    image: np.ndarray  # f32[H, W, C] in [0, 1]
    label: int
    blanks: np.ndarray  # f32[F, H, W, C]: a mask must do under each what it must do
    fills: np.ndarray  # f32[6, H, W, C], of all shipped fills
    ratio: float  # of the whole picture's confidence, that a sufficient mask keeps


class Counts(NamedTuple):
    """In how many showings it was so."""

    draws: int
    decision: int  # the whole picture keeps its class
    sufficient: int
    necessary: int
    complete: int

    def share(self, what: str = "complete") -> float:
        return getattr(self, what) / self.draws

    def holds(self, what: str = "complete") -> bool:
        """Whether the bound of Clopper & Pearson reaches the level: the chance to see so many is small below it.

        >>> Counts(200, 200, 188, 200, 187).holds("sufficient"), Counts(200, 200, 188, 200, 187).holds()
        (True, False)
        """
        from scipy.stats import binom

        return bool(binom.sf(getattr(self, what) - 1, self.draws, LEVEL) <= 1 - CONFIDENCE)


def judge(
    classifier: Classifier, case: Case, mask: np.ndarray, rng: np.random.Generator, changes: Changes, draws: int
) -> Counts:
    """Counts over showings drawn from `rng`; of several blanks the worst counts in each of them."""
    shown = [_show(rng, case, mask, changes) for _ in range(draws)]
    pictures = np.concatenate([np.stack([picture for picture, _, _ in shown]), *_blanked(shown)])
    margin, confidence = _said(classifier, pictures, case.label)
    margin, confidence = (each.reshape(-1, draws) for each in (margin, confidence))
    kept, lost = slice(1, None, 2), slice(2, None, 2)
    decision = margin[0] > 0
    sufficient = ((margin[kept] > 0) & (confidence[kept] >= case.ratio * confidence[0])).all(0)
    necessary = (margin[lost] <= 0).all(0)
    return Counts(draws, *(int(each.sum()) for each in (decision, sufficient, necessary, sufficient & necessary)))


def _show(
    rng: np.random.Generator, case: Case, mask: np.ndarray, changes: Changes
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture f32[H, W, C], blanks f32[F, H, W, C] and mask bool[H, W] of one showing."""
    picture, blanks = case.image, case.blanks
    if changes.fills:
        blanks = case.fills[rng.integers(len(case.fills))][None]
    if changes.shift is not None:
        most = max(int(changes.shift * min(mask.shape) + 1e-4), 1)
        rows, cols = rng.integers(-most, most + 1, 2)
        picture, mask = moved(picture, rows, cols, most), moved(mask, rows, cols, most)
        blanks = np.stack([moved(blank, rows, cols, most) for blank in blanks])
    if changes.brightness is not None:
        picture = np.clip(picture * rng.uniform(1 - changes.brightness, 1 + changes.brightness), 0, 1)
    if changes.noise is not None:
        picture = np.clip(picture + rng.normal(0, rng.uniform(0, changes.noise), picture.shape), 0, 1)
    return picture.astype(np.float32), blanks, mask


def moved(values: np.ndarray, rows: int, cols: int, most: int) -> np.ndarray:
    """[H, W, ...] moved down and to the right, by `most` pixels at most; the edge is repeated.

    >>> moved(np.arange(6).reshape(2, 3), 1, -1, 1).tolist()
    [[1, 2, 2], [1, 2, 2]]
    """
    height, width = values.shape[:2]
    wide = np.pad(values, [(most, most)] * 2 + [(0, 0)] * (values.ndim - 2), mode="edge")
    return wide[most - rows : most - rows + height, most - cols : most - cols + width]


def _blanked(shown: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    """Under each blank in turn f32[draws, H, W, C]: the masked pictures, then the inverse-masked ones."""
    for number in range(len(shown[0][1])):
        for keeps in (True, False):
            yield np.stack([np.where((mask == keeps)[..., None], x, blanks[number]) for x, blanks, mask in shown])


def _said(classifier: Classifier, pictures: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Of pictures f32[N, H, W, C] the label's margin in nats and its probability, f64[N] each."""
    logits = outputs(classifier, pictures)
    others = np.delete(logits, label, axis=1)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return logits[:, label] - others.max(1), odds[:, label] / odds.sum(1)


def outputs(classifier: Classifier, pictures: np.ndarray) -> np.ndarray:
    """Logits f64[N, K], in calls of one size, so that one program is compiled."""
    size = getattr(classifier, "batch_size", None) or 32
    padded = np.concatenate([pictures, np.repeat(pictures[-1:], -len(pictures) % size, axis=0)])
    parts = [np.asarray(_call(classifier, jnp.asarray(padded[i : i + size]))) for i in range(0, len(padded), size)]
    logits = np.concatenate(parts)[: len(pictures)].astype(np.float64)
    if not np.isfinite(logits).all():
        raise InputError("the classifier returned NaN or infinity for a showing: check its weights and normalisation")
    return logits


_call = jax.jit(lambda classifier, images: classifier(images))


# ------------------------------------------------------------------------------------------- changes of other kinds


def survives(classifier: Classifier, case: Case, mask: np.ndarray) -> dict[str, float]:
    """Whether a mask is complete under single changes that no search has seen: shares of them, from 0 to 1."""
    from scipy import ndimage  # changes the filters of warnings: only those who ask wait for it

    nudged = [moved(mask, *step, 1) for step in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    opened = ndimage.binary_opening(mask, np.ones((3, 3)))
    as_jpeg = case._replace(image=jpeg(case.image))
    mirrored = case._replace(**{name: getattr(case, name)[..., ::-1, :] for name in ("image", "blanks", "fills")})
    one = lambda changed, mask: float(is_complete(classifier, changed, mask))
    return {
        "survives_nudge": float(np.mean([one(case, each) for each in nudged])),
        "survives_opening": one(case, opened),
        "survives_jpeg": one(as_jpeg, mask),
        "survives_mirror": one(mirrored, mask[:, ::-1]),
        "survives_fills": float(np.mean([one(case._replace(blanks=fill[None]), mask) for fill in _others(case)])),
    }


def is_complete(classifier: Classifier, case: Case, mask: np.ndarray) -> bool:
    """In the one showing in which nothing is changed."""
    return judge(classifier, case, mask, np.random.default_rng(0), CHANGES["none"], 1).complete == 1


def _others(case: Case) -> list[np.ndarray]:
    """The blanks of the fills that the mask was not searched with."""
    return [fill for fill in case.fills if not any(np.array_equal(fill, blank) for blank in case.blanks)]


def jpeg(image: np.ndarray, quality: int = 75) -> np.ndarray:
    """f32[H, W, C] in [0, 1], through a JPEG file."""
    pixels = np.round(image * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "jpeg", quality=quality)
    return (np.asarray(Image.open(file), np.float32) / 255).reshape(image.shape)


def sees_in_shape(classifier: Classifier, mask: np.ndarray, channels: int) -> int:
    """The class predicted for the mask alone, as a white shape on black."""
    shape = np.repeat(mask[..., None], channels, axis=-1).astype(np.float32)
    return int(np.argmax(outputs(classifier, shape[None])[0]))


def form(mask: np.ndarray) -> dict[str, Any]:
    """Pieces of a mask, how many of them are smaller than 0.1 % of the picture, and its boundary over its area.

    Pixels that touch at a side belong together; a pixel's side on the picture's border is no boundary.

    >>> form(np.array([[1, 1, 0, 0], [1, 1, 0, 1]], bool))
    {'pieces': 2.0, 'specks': 0.0, 'boundary': 0.8}
    """
    from scipy import ndimage

    labels, num = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    edges = sum(int((np.diff(mask.astype(np.int8), axis=axis) != 0).sum()) for axis in (0, 1))
    boundary = edges / mask.sum() if mask.any() else 0.0
    return {"pieces": float(num), "specks": float((sizes < 0.001 * mask.size).sum()), "boundary": float(boundary)}
