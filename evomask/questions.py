"""A question is posed once: the image, its blanks, and what the classifier says of either, one image at a time."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from evomask import fills, validate
from evomask.classifiers.blackbox import completed
from evomask.classifiers.wrappers import check_logits
from evomask.executables import keepable
from evomask.types import Answer, Array, Classifier, Image, InputError, Key, Question


def ask(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray | None,
    contrast: np.ndarray | None,
    key: Key,
    fill: tuple[fills.Fill, ...],
) -> list[Question]:
    """What is asked about each image: every whole image is seen once here, and every blank one, and never again.

    Args:
      images, labels, contrast: as `validate.inputs` returns them; the predicted classes are explained where there are
        no labels.
      key: the one that noise is drawn from.
      fill: of the configuration, one or several.

    Raises:
      InputError: a class is to be explained against itself, or the classifier gives NaN or an infinite logit.
    """
    wholes = [logits(classifier, image, f"image {number}") for number, image in enumerate(images)]
    labels = np.array([np.argmax(whole) for whole in wholes] if labels is None else labels, np.int32)
    validate.different(labels, contrast)
    others = [None] * len(images) if contrast is None else [int(other) for other in contrast]
    return [
        pose(classifier, *asked, np.asarray(fills.blanks(fill, key, asked[0])))
        for asked in zip(images, map(int, labels), others, wholes, strict=True)
    ]


def pose(
    classifier: Classifier, image: np.ndarray, label: int, contrast: int | None, whole: np.ndarray, blanks: np.ndarray
) -> Question:
    """The question about one image, from the logits f32[K] of the whole image and the blanks f32[F, H, W, C].

    Raises:
      InputError: the classifier gives NaN or an infinite logit for a blank image.
    """
    what = "the blank image, all of it fill, as much of every masked image is (choose another fill, such as blur)"
    empty = [answer(logits(classifier, blank, what), label, contrast) for blank in blanks]
    said = answer(whole, label, contrast)
    if said.margin == 0:  # a draw of the whole image is no other class's win
        said = said._replace(label=label)
    return Question(image, blanks, label, contrast, said, worst(empty))


@keepable()
def _logits(classifier: Classifier, image: Image) -> Array:
    return classifier(image[None]).astype("float32")


@jax.jit
def masked(mask: Array, image: Image, blank: Array) -> Array:
    """`fills.apply` as a program of its own: bool[H, W], f32[H, W, C] and f32[H, W, C] -> f32[H, W, C]."""
    return fills.apply(mask, image, blank)


def logits(classifier: Classifier, image: Image, what: str = "the image") -> np.ndarray:
    """f32[H, W, C] -> logits f32[K], at batch size 1.

    Raises:
      InputError: the classifier returns NaN or an infinite logit; the message names `what` was shown.
    """
    found = np.asarray(completed(_logits, classifier, image))
    try:
        check_logits(found)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    return found[0]


def answer(logits: np.ndarray, label: int, contrast: int | None = None) -> Answer:
    """What logits f32[K] say of a label.

    >>> said = answer(np.log(np.array([0.1, 0.6, 0.3], np.float32)), 1)
    >>> said.label, round(float(said.confidence), 3), round(float(said.margin), 3), round(float(said.lead), 3)
    (1, 0.6, 0.693, 0.3)
    >>> round(float(answer(np.log(np.array([0.1, 0.6, 0.3], np.float32)), 1, contrast=2).confidence), 3)
    0.667
    """
    if contrast is not None:
        logits = np.where(np.isin(np.arange(len(logits)), (label, contrast)), logits, np.float32(-np.inf))
    odds = np.exp(logits - logits.max())
    probs = odds / odds.sum()
    log_confidence = logits[label] - logits.max() - np.log(odds.sum())
    rivals = np.where(np.arange(len(logits)) == label, -np.inf, logits)
    rival = int(np.argmax(rivals))
    margin = logits[label] - logits[rival]
    lead = probs[label] - probs[rival]
    return Answer(label if margin > 0 else rival, probs[label], log_confidence, margin, lead)


def look(classifier: Classifier, mask: np.ndarray, question: Question, blanks: Sequence[Image]) -> list[Answer]:
    """What the classifier says of the image under a mask bool[H, W], for each of F blanks f32[H, W, C]."""
    images = [masked(mask, question.image, blank) for blank in blanks]
    return [
        answer(logits(classifier, image, "the masked image"), question.label, question.contrast) for image in images
    ]


def worst(answers: Sequence[Answer], sign: int = 1) -> Answer:
    """Of several, the least of every figure (sign 1) or the greatest (sign -1, where the class should be lost)."""
    figures = np.min([sign * np.array(one[1:]) for one in answers], axis=0)
    label = min(answers, key=lambda one: sign * one.margin).label
    return Answer(label, *(sign * figures))
