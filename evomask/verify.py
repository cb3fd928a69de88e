"""Nothing about an explanation is believed from inside the loop: final masks are seen once more, one image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from evomask import fills
from evomask.classifiers.blackbox import run
from evomask.classifiers.wrappers import check_logits
from evomask.search.config import Config
from evomask.search.front import front
from evomask.search.refine import Refined
from evomask.types import Array, Classifier, Explanation, History, Image, Key, Missing, Status

AREA_FLOOR = 0.05  # of `cp_floored`


class Question(NamedTuple):
    """One image, its blanks, and what is asked about it."""

    image: np.ndarray  # f32[H, W, C]
    blanks: np.ndarray  # f32[F, H, W, C], one for each fill
    label: int
    contrast: int | None  # None: the label competes with every other class


class Seen(NamedTuple):
    """What the classifier says of one image; a lead is positive where the label is ahead of the best other class."""

    label: int  # predicted; under a contrast, one of the two
    confidence: float  # probability of the explained class
    log_confidence: float
    margin: float  # its lead in nats
    lead: float  # its lead in probability


@jax.jit
def _logits(classifier: Classifier, image: Image) -> Array:
    return classifier(image[None]).astype("float32")


@jax.jit
def _masked(mask: Array, image: Image, blank: Array) -> Array:
    return fills.apply(mask, image, blank)


def logits(classifier: Classifier, image: Image) -> np.ndarray:
    """f32[H, W, C] -> logits f32[K], at batch size 1.

    Raises:
      InputError: the classifier returns NaN or an infinite logit.
    """
    found = np.asarray(run(_logits, classifier, image))
    check_logits(found)
    return found[0]


def masked_logits(classifier: Classifier, mask: np.ndarray, image: Image, blank: Array) -> np.ndarray:
    """Logits f32[K] of the masked image, at batch size 1."""
    return logits(classifier, _masked(mask, image, blank))


def read(logits: np.ndarray, label: int, contrast: int | None = None) -> Seen:
    """What logits f32[K] say of a label.

    >>> seen = read(np.log(np.array([0.1, 0.6, 0.3], np.float32)), 1)
    >>> seen.label, round(float(seen.confidence), 3), round(float(seen.margin), 3), round(float(seen.lead), 3)
    (1, 0.6, 0.693, 0.3)
    >>> round(float(read(np.log(np.array([0.1, 0.6, 0.3], np.float32)), 1, contrast=2).confidence), 3)
    0.667
    """
    if contrast is not None:
        logits = np.where(np.isin(np.arange(len(logits)), (label, contrast)), logits, np.float32(-np.inf))
    odds = np.exp(logits - logits.max())
    probs = odds / odds.sum()
    log_confidence = logits[label] - logits.max() - np.log(odds.sum())
    margin = logits[label] - np.delete(logits, label).max()
    lead = probs[label] - np.delete(probs, label).max()
    return Seen(int(np.argmax(logits)), probs[label], log_confidence, margin, lead)


def look(classifier: Classifier, question: Question, mask: np.ndarray) -> list[Seen]:
    """What the classifier says of the image under a mask, for each fill."""
    image, blanks, *asked = question
    return [read(masked_logits(classifier, mask, image, blank), *asked) for blank in blanks]


def worst(seen: Sequence[Seen], sign: int = 1) -> Seen:
    """Of several fills, the least of every figure (sign 1) or the greatest (sign -1, where the class should be lost)."""
    figures = np.min([sign * np.array(one[1:]) for one in seen], axis=0)
    label = min(seen, key=lambda one: sign * one.margin).label
    return Seen(label, *(sign * figures))


def explanation(
    classifier: Classifier,
    questions: Sequence[Question],
    whole: Sequence[Seen],
    refined: Refined,
    scores: np.ndarray,
    key: Key,
    config: Config,
) -> Explanation:
    """Sends the masks that the search returned through the classifier and gives the verdicts.

    Args:
      questions: one for each image.
      whole: what the classifier says of each whole image.
      refined, scores: what the search returned, leading axis B.
      key: the one that noise is drawn from.
    """
    last = jax.tree.map(lambda values: values[:, -1], refined.infos[-1].evaluation)  # as the search saw it
    enough = config.confidence_ratio * np.array([seen.confidence for seen in whole])
    held = (last.margin > 0) & (last.confidence >= enough) & (last.inverse_margin < 0)
    return Explanation(
        score=scores,
        genome=refined.genome,
        evaluations=np.full(len(questions), config.evaluations, np.int32),
        history=history(refined, config),
        front=None if config.front is None else front(refined.archives),
        **verdicts(classifier, questions, whole, refined.masks, held, key, config),
    )


def verdicts(
    classifier: Classifier,
    questions: Sequence[Question],
    whole: Sequence[Seen],
    stage_masks: np.ndarray,
    held: np.ndarray,
    key: Key,
    config: Config,
) -> dict[str, Any]:
    """The fields of an `Explanation` that follow from its masks.

    Args:
      stage_masks: bool[B, S, H, W].
      held: bool[B], whether the search held the last of them for complete.
    """
    rows = [
        _row(classifier, *asked, key, config.confidence_ratio)
        for asked in zip(questions, whole, stage_masks, strict=True)
    ]
    fields = jax.tree.map(lambda *values: np.stack(values), *rows)
    mask, label = stage_masks[:, -1], fields["label"]
    area = mask.mean((1, 2), dtype=np.float32)
    sufficient, necessary = fields["sufficient"], fields["necessary"]
    with np.errstate(divide="ignore"):
        cp = fields["masked_confidence"] / area
    return fields | {
        "mask": mask,
        "stage_masks": stage_masks,
        "area": area,
        "cp": cp,
        "cp_floored": fields["masked_confidence"] / np.maximum(area, AREA_FLOOR),
        "complete": sufficient & necessary,
        "status": status_of(sufficient, necessary, fields["blank_label"] == label, held),
    }


def history(refined: Refined, config: Config) -> History:
    """The infos of all stages, one after the other: leading axes [B, T]."""
    joined = jax.tree.map(lambda *stages: np.concatenate(stages, axis=1), *refined.infos)
    costs = [np.full(stage.rounds, config.generation_cost(stage), np.int32) for stage in config.stages]
    spent = np.cumsum(np.concatenate(costs), dtype=np.int32)
    return History(
        fitness=joined.objective,
        confidence=joined.evaluation.confidence,
        area=joined.evaluation.area,
        feasible=joined.violation == 0,
        evaluations=np.broadcast_to(spent, joined.objective.shape),
    )


def _row(
    classifier: Classifier, question: Question, whole: Seen, masks: np.ndarray, key: Key, ratio: float
) -> dict[str, Any]:
    """The verified figures of one image."""
    label = question.label
    stages = [worst(look(classifier, question, mask)) for mask in masks]
    masked, inverse = stages[-1], worst(look(classifier, question, ~masks[-1]), -1)
    blank = worst([read(logits(classifier, image), *question[2:]) for image in question.blanks])
    sufficient, necessary, nats, probability = judge(whole, masked, inverse, label, ratio)
    seen = {"masked": masked, "inverse": inverse, "blank": blank}
    return {
        "label": np.int32(label),
        "contrast": np.int32(-1 if question.contrast is None else question.contrast),
        "confidence": np.float32(whole.confidence),
        "predicted": np.int32(whole.label),
        **{f"{name}_confidence": np.float32(one.confidence) for name, one in seen.items()},
        **{f"{name}_label": np.int32(one.label) for name, one in seen.items()},
        "stage_labels": np.array([one.label for one in stages], np.int32),
        "stage_confidences": np.array([one.confidence for one in stages], np.float32),
        "sufficient": sufficient,
        "necessary": necessary,
        "missing": nats,
        "missing_probability": probability,
        "complete_under": _complete_under(classifier, question, whole, masks[-1], key, ratio),
    }


def judge(
    whole: Seen, masked: Seen, inverse: Seen, label: int, ratio: float
) -> tuple[np.bool_, np.bool_, Missing, Missing]:
    """Sufficient, necessary, and what is missing of either, in nats and in probability.

    >>> seen = [read(np.log(np.array([1 - p, p], np.float32)), 1) for p in (0.9, 0.6, 0.7)]
    >>> sufficient, necessary, nats, probability = judge(*seen, 1, ratio=0.8)
    >>> bool(sufficient), bool(necessary), round(float(probability.keeps_confidence), 3), round(float(nats.loses_class), 3)
    (False, False, 0.12, 0.847)
    """
    enough = ratio * whole.confidence
    keeps, loses = masked.label == label, inverse.label != label
    confident = masked.confidence >= enough
    with np.errstate(divide="ignore"):
        wanted = np.log(ratio) + whole.log_confidence
    missing = lambda holds, amount: np.float32(0.0 if holds else max(amount, 0.0))
    nats = Missing(
        missing(keeps, -masked.margin),
        missing(confident, wanted - masked.log_confidence),
        missing(loses, inverse.margin),
    )
    probability = Missing(
        missing(keeps, -masked.lead),
        missing(confident, enough - masked.confidence),
        missing(loses, inverse.lead),
    )
    return np.bool_(keeps and confident), np.bool_(loses), nats, probability


def _complete_under(
    classifier: Classifier, question: Question, whole: Seen, mask: np.ndarray, key: Key, ratio: float
) -> np.ndarray:
    """bool[6], for each of the shipped fills whether the mask is complete under it."""
    every = question._replace(blanks=np.asarray(fills.blanks(tuple(fills.SHIPPED.values()), key, question.image)))
    pairs = zip(look(classifier, every, mask), look(classifier, every, ~mask), strict=True)
    return np.array([all(judge(whole, *pair, question.label, ratio)[:2]) for pair in pairs])


def status_of(
    sufficient: np.ndarray, necessary: np.ndarray, is_blank_class: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """The `Status` int[B] of masks by their verdicts, bool[B] each; `held`: what the search itself held for complete."""
    complete = sufficient & necessary
    cases = [complete & is_blank_class, complete, held, necessary, sufficient]
    names = [Status.BLANK_CLASS, Status.COMPLETE, Status.UNSTABLE, Status.NOT_SUFFICIENT, Status.NOT_NECESSARY]
    return np.select(cases, [np.int32(name) for name in names], np.int32(Status.NEITHER))
