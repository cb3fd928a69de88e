"""Nothing that the loop says of a mask is believed: final masks are evaluated once more, one image at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from evomask import fills
from evomask.measures.certainty import Precision
from evomask.measures.maps import cp, cp_floored
from evomask.questions import look, worst
from evomask.search import scoring
from evomask.search.config import Config
from evomask.search.front import front
from evomask.search.refine import Refined
from evomask.types import Answer, Classifier, Explanation, History, Key, Missing, Question, Status, Verdict, decide


def explanation(
    classifier: Classifier,
    questions: Sequence[Question],
    refined: Refined,
    spent: np.ndarray,
    lost: np.ndarray,
    key: Key,
    config: Config,
) -> Explanation:
    """Sends the masks that the search returned through the classifier and gives the verdicts.

    Args:
      questions: one for each image.
      refined: what the search returned, leading axis B, and `spent`, int32[B], the evaluations.
      lost: f32[B, H, W], what windows lose, see `windows.lost`.
      key: the one that noise is drawn from.
    """
    last = jax.tree.map(lambda values: values[:, -1], refined.infos[-1].evaluation)  # as the search saw it
    enough = config.confidence_ratio * np.array([question.whole.confidence for question in questions])
    held = getattr(decide(last.margin, last.confidence, last.inverse_margin, enough), config.demand)
    scored = scoring.scores(config.scoring, refined.score, refined.masks[:, -1], lost, config.score_inside_only)
    return Explanation(
        image=np.stack([question.image for question in questions]),
        blanks=np.stack([question.blanks for question in questions]),
        score=scored.score,
        effect=scored.effect,
        effect_error=scored.error,
        genome=refined.genome,
        evaluations=spent,
        history=history(refined, config),
        ends=spent_after(refined, config),
        whole=_stack([question.whole for question in questions]),
        blank=_stack([question.blank for question in questions]),
        front=None if config.front is None else front(refined.archives),
        film=film(refined) if config.film else None,
        demand=config.demand,
        fills=tuple(fills.tried(config.fills)),
        stages=tuple(stage.name for stage in config.stages),
        names=tuple(getattr(classifier, "labels", None) or ()),
        **verdicts(classifier, questions, refined.masks, held, key, config),
    )


def judged(found: Explanation, held: Precision | None) -> Explanation:
    """The explanation with its precision; its status says so where the decision itself does not hold."""
    if held is None:
        return found
    status = np.where(held.decision_breaks, np.int32(Status.DECISION_BREAKS), found.status)
    return dataclasses.replace(found, precision=held, status=status)


def verdicts(
    classifier: Classifier,
    questions: Sequence[Question],
    stage_masks: np.ndarray,
    held: np.ndarray,
    key: Key,
    config: Config,
) -> dict[str, Any]:
    """The fields of an `Explanation` that follow from its masks.

    Args:
      stage_masks: bool[B, S, H, W].
      held: bool[B], whether the search took the last of them to be what is demanded.
    """
    rows = [_row(classifier, *asked, key, config) for asked in zip(questions, stage_masks, strict=True)]
    fields = jax.tree.map(lambda *values: np.stack(values), *rows)
    mask = stage_masks[:, -1]
    area = mask.mean((1, 2), dtype=np.float32)
    return fields | {
        "mask": mask,
        "stage_masks": stage_masks,
        "area": area,
        "cp": cp(fields["masked_confidence"], area),
        "cp_floored": cp_floored(fields["masked_confidence"], area),
        "status": status_of(questions, fields["sufficient"], fields["necessary"], held, config.demand),
    }


def history(refined: Refined, config: Config) -> History:
    """The infos of all stages, one after the other: leading axes [B, T].

    A stage that stopped early repeats its last generation, in which nothing more is spent.
    """
    infos = [dataclasses.replace(info, film=None) for info in refined.infos]
    joined = jax.tree.map(lambda *stages: np.concatenate(stages, axis=-1), *infos)
    ran = [np.arange(stage.rounds) < rounds[:, None] for stage, rounds in zip(config.stages, refined.rounds.T)]
    costs = [one * np.int32(config.generation_cost(stage)) for one, stage in zip(ran, config.stages)]
    spent = config.first_cost + np.cumsum(np.concatenate(costs, axis=-1), axis=-1, dtype=np.int32)
    return History(
        fitness=joined.objective,
        confidence=joined.evaluation.confidence,
        area=joined.evaluation.area,
        feasible=joined.violation == 0,
        evaluations=spent,
    )


def spent_after(refined: Refined, config: Config) -> np.ndarray:
    """int32[B, S], evaluations of the search when each stage was over."""
    costs = np.array([config.generation_cost(stage) for stage in config.stages], np.int32)
    return config.first_cost + np.cumsum(refined.rounds * costs, axis=-1, dtype=np.int32)


def film(refined: Refined) -> np.ndarray:
    """The best mask of every generation, bool[B, T, H, W]; the last one of a stage is not yet what is left of it."""
    packed = np.concatenate([np.asarray(info.film) for info in refined.infos], axis=-1)
    return np.unpackbits(np.moveaxis(packed, -1, 1), axis=-1, count=refined.masks.shape[-1]).astype(bool)


def _row(classifier: Classifier, question: Question, masks: np.ndarray, key: Key, config: Config) -> dict[str, Any]:
    """The verified figures of one image."""
    ratio, whole = config.confidence_ratio, question.whole
    stages = [look(classifier, mask, question, question.blanks) for mask in masks]
    kept, left = stages[-1], look(classifier, ~masks[-1], question, question.blanks)
    stages, masked, inverse = [worst(answers) for answers in stages], worst(kept), worst(left, -1)
    verdict = verdict_on(question, masked, inverse, ratio)
    nats, probability = missing(question, verdict, masked, inverse, ratio)
    seen = {"masked": masked, "inverse": inverse, "blank": question.blank}
    return {
        "label": np.int32(question.label),
        "contrast": np.int32(-1 if question.contrast is None else question.contrast),
        "confidence": np.float32(whole.confidence),
        "predicted": np.int32(whole.label),
        "predicted_confidence": np.float32(whole.confidence - min(whole.lead, 0.0)),
        **{f"{name}_confidence": np.float32(one.confidence) for name, one in seen.items()},
        **{f"{name}_label": np.int32(one.label) for name, one in seen.items()},
        "stage_labels": np.array([one.label for one in stages], np.int32),
        "stage_confidences": np.array([one.confidence for one in stages], np.float32),
        "sufficient": np.bool_(verdict.sufficient),
        "necessary": np.bool_(verdict.necessary),
        "complete": np.bool_(verdict.complete),
        "missing": nats,
        "missing_probability": probability,
        "under_fills": _each(
            [
                *(verdict_on(question, *pair, ratio) for pair in zip(kept, left, strict=True)),
                *_under_others(classifier, question, masks[-1], key, config),
            ]
        ),
    }


def verdict_on(question: Question, masked: Answer, inverse: Answer, ratio: float) -> Verdict:
    """Whether a mask is sufficient and necessary, from the answers for the masked and the inverse-masked image.

    A counterfactual question has no necessity: the class that the mask makes win is lost without it anyhow.
    """
    enough = ratio * question.whole.confidence
    verdict = decide(masked.margin, masked.confidence, inverse.margin, enough)
    return Verdict(verdict.keeps_class, verdict.keeps_confidence, verdict.loses_class & (not question.counterfactual))


def missing(
    question: Question, verdict: Verdict, masked: Answer, inverse: Answer, ratio: float
) -> tuple[Missing, Missing]:
    """What a mask lacks of being complete, in nats and in probability; nothing of what its verdict says holds.

    >>> from evomask.questions import answer
    >>> whole, masked, inverse = (answer(np.log(np.array([1 - p, p], np.float32)), 1) for p in (0.9, 0.6, 0.7))
    >>> question = Question(np.zeros((1, 1, 1)), np.zeros((1, 1, 1, 1)), 1, None, whole, inverse)
    >>> verdict = verdict_on(question, masked, inverse, 0.8)
    >>> nats, probability = missing(question, verdict, masked, inverse, 0.8)
    >>> bool(verdict.sufficient), round(float(probability.keeps_confidence), 3), round(float(nats.loses_class), 3)
    (False, 0.12, 0.847)
    """
    whole = question.whole
    with np.errstate(divide="ignore"):
        wanted = np.log(ratio) + whole.log_confidence
    loses = verdict.loses_class | question.counterfactual
    amount = lambda holds, lacks: np.float32(0.0 if holds else max(lacks, 0.0))
    nats = Missing(
        amount(verdict.keeps_class, -masked.margin),
        amount(verdict.keeps_confidence, wanted - masked.log_confidence),
        amount(loses, inverse.margin),
    )
    probability = Missing(
        amount(verdict.keeps_class, -masked.lead),
        amount(verdict.keeps_confidence, ratio * whole.confidence - masked.confidence),
        amount(loses, inverse.lead),
    )
    return nats, probability


def _each(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict with a leading axis."""
    return jax.tree.map(lambda *flags: np.array(flags, bool), *verdicts)


def _under_others(
    classifier: Classifier, question: Question, mask: np.ndarray, key: Key, config: Config
) -> list[Verdict]:
    """The verdict under each fill that is tried and is none of the configuration's."""
    others = fills.others(config.fills).values()
    if not others:
        return []
    # Each is a program of its own, so that it does not matter which the others are.
    blanks = [fills.blank(fill, key, question.image) for fill in others]
    pairs = zip(look(classifier, mask, question, blanks), look(classifier, ~mask, question, blanks), strict=True)
    return [verdict_on(question, *pair, config.confidence_ratio) for pair in pairs]


def status_of(
    questions: Sequence[Question],
    sufficient: np.ndarray,
    necessary: np.ndarray,
    held: np.ndarray,
    demand: str = "complete",
) -> np.ndarray:
    """The `Status` int32[B] of masks by their verdicts, bool[B] each.

    Args:
      held: what the search took to be as demanded.
      demand: where it is less than complete, what a mask lacks beyond it is no failure.
    """
    counterfactual = np.array([question.counterfactual for question in questions])
    is_blank_class = np.array([question.blank.label == question.label for question in questions])
    complete = sufficient & necessary
    met = {"complete": complete, "sufficient": sufficient, "necessary": necessary}[demand]
    well, badly = _ENDINGS[demand]
    cases = {
        Status.COUNTERFACTUAL: counterfactual,
        # Keeping the class of the blank image is no feat; losing it is one.
        Status.BLANK_CLASS: met & is_blank_class & (demand != "necessary"),
        Status.COMPLETE: complete,
        well: met,
        Status.UNSTABLE: held,
    }
    if demand == "complete":
        cases |= {Status.NOT_SUFFICIENT: necessary, Status.NOT_NECESSARY: sufficient}
    return np.select(list(cases.values()), [np.int32(name) for name in cases], np.int32(badly))


# How a search ends, where it found what was demanded, and where it did not.
_ENDINGS = {
    "complete": (Status.COMPLETE, Status.NEITHER),
    "sufficient": (Status.SUFFICIENT, Status.NOT_SUFFICIENT),
    "necessary": (Status.NECESSARY, Status.NOT_NECESSARY),
}


def _stack(answers: Sequence[Answer]) -> Answer:
    """One answer with leading axis B."""
    kinds = Answer(np.int32, np.float32, np.float32, np.float32, np.float32)
    return Answer(*(np.array(column, kind) for column, kind in zip(zip(*answers), kinds)))  # pyright: ignore[reportCallIssue]
