"""Nothing about an explanation is believed from inside the loop: final masks are seen once more, one image at a time."""

from __future__ import annotations

import jax
import numpy as np

from evomask import fills
from evomask.classifiers.wrappers import check_logits
from evomask.config import Config
from evomask.refine import Refined
from evomask.types import Array, Classifier, Explanation, History, Image, Status

AREA_FLOOR = 0.05  # of `cp_floored`


@jax.jit
def _logits(classifier: Classifier, image: Image) -> Array:
    return classifier(image[None]).astype("float32")


@jax.jit
def _masked(mask: Array, image: Image, blank: Array) -> Array:
    return fills.apply(mask, image, blank)


def probabilities(classifier: Classifier, image: Image) -> np.ndarray:
    """f32[H, W, C] -> class probabilities f32[K], at batch size 1.

    Raises:
      InputError: the classifier returns NaN or an infinite logit.
    """
    logits = np.asarray(_logits(classifier, image))
    check_logits(logits)
    odds = np.exp(logits[0] - logits.max())
    return odds / odds.sum()


def masked_probabilities(classifier: Classifier, mask: np.ndarray, image: Image, blank: Array) -> np.ndarray:
    """Class probabilities f32[K] of the masked image, at batch size 1."""
    return probabilities(classifier, _masked(mask, image, blank))


def explanation(
    classifier: Classifier,
    images: np.ndarray,
    blanks: np.ndarray,
    labels: np.ndarray,
    whole: list[np.ndarray],
    refined: Refined,
    scores: np.ndarray,
    config: Config,
) -> Explanation:
    """Sends the masks that the search returned through the classifier and gives the verdicts.

    Args:
      images, blanks: f32[B, H, W, C].
      labels: int32[B].
      whole: class probabilities f32[K] of each whole image.
      refined, scores: what the search returned, leading axis B.
    """
    rows = []
    for image, blank, label, probs, masks in zip(images, blanks, labels, whole, refined.masks):
        stages = [masked_probabilities(classifier, mask, image, blank) for mask in masks]
        inverse = masked_probabilities(classifier, ~masks[-1], image, blank)
        rows.append(_row(label, probs, stages, inverse, probabilities(classifier, blank)))
    seen = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    area = refined.masks[:, -1].mean((1, 2), dtype=np.float32)
    enough = config.confidence_ratio * seen["confidence"]
    sufficient = (seen["masked_label"] == labels) & (seen["masked_confidence"] >= enough)
    necessary = seen["inverse_label"] != labels
    last = jax.tree.map(lambda values: values[:, -1], refined.infos[-1].evaluation)  # as the search saw it
    held = (last.margin > 0) & (last.confidence >= enough) & (last.inverse_margin < 0)
    with np.errstate(divide="ignore"):
        cp = seen["masked_confidence"] / area
    return Explanation(
        mask=refined.masks[:, -1],
        stage_masks=refined.masks,
        score=scores,
        genome=refined.genome,
        label=labels,
        area=area,
        cp=cp,
        cp_floored=seen["masked_confidence"] / np.maximum(area, AREA_FLOOR),
        sufficient=sufficient,
        necessary=necessary,
        complete=sufficient & necessary,
        status=_status(sufficient, necessary, seen["blank_label"] == labels, held),
        evaluations=np.full(len(images), config.evaluations, np.int32),
        history=history(refined, config),
        **seen,
    )


def history(refined: Refined, config: Config) -> History:
    """The infos of all stages, one after the other: leading axes [B, T]."""
    joined = jax.tree.map(lambda *stages: np.concatenate(stages, axis=1), *refined.infos)
    costs = [np.full(stage.generations + 1, config.generation_cost(stage), np.int32) for stage in config.stages]
    spent = np.cumsum(np.concatenate(costs), dtype=np.int32)
    return History(
        fitness=joined.objective,
        confidence=joined.evaluation.confidence,
        area=joined.evaluation.area,
        feasible=joined.violation == 0,
        evaluations=np.broadcast_to(spent, joined.objective.shape),
    )


def _row(label: int, whole: np.ndarray, stages: list[np.ndarray], inverse: np.ndarray, blank: np.ndarray) -> dict:
    """The verified figures of one image."""
    seen = {"": whole, "masked_": stages[-1], "inverse_": inverse, "blank_": blank}
    row = {f"{name}confidence": probs[label] for name, probs in seen.items()}
    row |= {f"{name}label" if name else "predicted": np.argmax(probs).astype(np.int32) for name, probs in seen.items()}
    row["stage_labels"] = np.array([np.argmax(probs) for probs in stages], np.int32)
    row["stage_confidences"] = np.array([probs[label] for probs in stages], np.float32)
    return row


def _status(sufficient: np.ndarray, necessary: np.ndarray, is_blank_class: np.ndarray, held: np.ndarray) -> np.ndarray:
    complete = sufficient & necessary
    cases = [complete & is_blank_class, complete, held, necessary, sufficient]
    names = [Status.BLANK_CLASS, Status.COMPLETE, Status.UNSTABLE, Status.NOT_SUFFICIENT, Status.NOT_NECESSARY]
    return np.select(cases, [np.int32(name) for name in names], np.int32(Status.NEITHER))
