"""From a method and a batch of images to the numbers of a benchmark: every method is treated alike here.

A method gives a heat map and, in some cases, a mask of its own. From the heat map masks are cut by the rules below;
every mask is then seen by the classifier once more, one image at a time, as `evomask.verify` does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from evomask import verify
from evomask.baselines.answers import answer
from evomask.explaining import explain_questions
from evomask.measures import metrics, thresholding
from evomask.measures.budget import Calls, Spent, check_spent
from evomask.measures.thresholding import Reason
from evomask.questions import look, worst
from evomask.search.config import Config
from evomask.types import Answer, Classifier, Key, Question, Status

from . import trust
from .measured import Asked, heat_map
from .runs import CUTS, ROWS, Chunk
from .trust import Trust

if TYPE_CHECKING:  # which images there are, their own digest says
    from .imagesets import ImageSet

# Where a mask comes from; area_5 is the best 5 % of the pixels. The headline is `own` where there is one, else
# `complete`.
RULES = {
    "own": "the method's own mask",
    "complete": "the smallest sufficient prefix of the heat map whose inverse loses the label",
    "keep_class": "the smallest prefix that keeps the label",
    "best_cp": "of the prefixes that keep the label, that with the greatest confidence / area",
    "area_<percent>": "the prefix of that area",
}


class Protocol(NamedTuple):
    """What is measured, and how: the same for all methods that are compared."""

    confidence_ratio: float  # of the whole image's confidence, that a sufficient mask keeps
    cut_steps: int  # prefixes that a mask is cut from; twice as many evaluations
    cut_areas: tuple[float, ...]
    auc_steps: int  # of insertion and deletion
    fidelity_subsets: int  # of muFidelity
    trust: Trust | None = None  # whether masks hold; None: not asked


class Found(NamedTuple):
    """What a method says of B images."""

    score: np.ndarray  # f32[B, H, W]
    mask: np.ndarray | None  # bool[B, H, W]
    spent: list[Spent]
    judged: bool = False  # the method itself has judged whether its masks hold
    status: np.ndarray | None = None  # int32[B], a `Status`, where the method gives it
    arrays: dict[str, np.ndarray] = {}  # of its own, see `runs.ARRAYS`
    unlearnt: np.ndarray | None = None  # f32[B, H, W], the score for the network with shuffled weights, if asked for


def evolve(config: Config, classifier: Classifier, questions: list[Question], key: Key, budget: int) -> Found:
    """Ours: `evomask.explain`."""
    check_spent(Spent(config.evaluations), budget, "this configuration of evomask")
    found = explain_questions(classifier, questions, key=key, config=config)
    arrays = {"stage_masks": found.stage_masks}
    for name in ("evaluations", "area", "confidence", "feasible"):
        arrays[f"history_{name}"] = np.array(getattr(found.history, name))
    spent = [Spent(int(own)) for own in found.evaluations]
    return Found(found.score, found.mask, spent, found.precision is not None, found.status, arrays)


def attribute(
    method: Any, name: str, classifier: Classifier, questions: list[Question], key: Key, budget: int
) -> Found:
    """A baseline: any callable that returns scores, masks of its own (bool), or both, as (score, mask) or as an object
    that has them.

    Its evaluations are those that it charges, as `evomask.baselines` do, or else the calls that it makes.
    """
    images, labels = columns(questions)
    counted = Calls(classifier, budget)
    score, mask = answer(name, method(counted, images, labels, key=key, budget=budget), images.shape[:3])
    return Found(score, mask, counted.bill(len(images)))


def columns(questions: list[Question]) -> tuple[np.ndarray, np.ndarray]:
    """Images f32[B, H, W, C] and labels int32[B]."""
    return np.stack([q.image for q in questions]), np.array([q.label for q in questions], np.int32)


def measure(
    key: Key,
    found: Found,
    classifier: Classifier,
    questions: list[Question],
    truth: np.ndarray | None,
    protocol: Protocol,
) -> Chunk:
    """Rows, cuts and arrays of B images, all but the columns that say which image, seed and method it was.

    Under several fills a mask must hold under each; it is cut, and insertion and deletion are measured, under the
    first.
    """
    images, labels = columns(questions)
    blanks = np.stack([question.blanks[0] for question in questions])
    sweep = thresholding.sweep(classifier, images, labels, found.score, blanks, steps=protocol.cut_steps)
    masks, reasons, costs = cut(found, sweep, protocol)
    whole, empty = [q.whole for q in questions], [q.blank for q in questions]
    figures = {}
    for rule, mask in masks.items():
        values = mask_columns(classifier, questions, mask, truth, protocol.confidence_ratio)
        held = (reasons[rule] == Reason.FOUND) & (rule == "complete")  # as the sweep saw it
        status = verify.status_of(questions, values["sufficient"], values["necessary"], held)
        figures[rule] = values | {
            "rule": np.full(len(images), rule),
            "status": _names(Status, status if rule != "own" or found.status is None else found.status),
            "reason": _names(Reason, reasons[rule]),
            "cut_evaluations": np.full(len(images), costs[rule]),
        }
    headline = next(iter(masks))
    score, known = jnp.asarray(found.score), None if truth is None else jnp.asarray(truth)
    offers = offered(key, found, masks[headline], classifier, questions, protocol)
    asked = zip(questions, masks[headline], offers, strict=True)
    trusted = [trust.columns(protocol.trust, classifier, *one, key) for one in asked]
    rows = {
        "label": labels,
        "predicted": _labels(whole),
        "confidence": _confidences(whole),
        "blank_label": _labels(empty),
        "blank_confidence": _confidences(empty),
        "evaluations": np.array([spent.total for spent in found.spent]),
        "forward": np.array([spent.forward for spent in found.spent]),
        "backward": np.array([spent.backward for spent in found.spent]),
        **figures[headline],
        **heat_map(Asked(score, classifier, images, blanks, labels, known, protocol, found.unlearnt)),
        **{name: np.array([row[name] for row in trusted], np.float32) for name in trust.COLUMNS},
    }
    cuts = {
        name: np.stack([values[name] for values in figures.values()], axis=1).reshape(-1) for name in figures[headline]
    }
    prefixes = {
        "prefix_area": np.broadcast_to(sweep.area, sweep.confidence.shape),
        "prefix_confidence": sweep.confidence,
        "prefix_inverse_confidence": sweep.inverse_confidence,
        "prefix_keeps": thresholding.verdict(sweep).keeps_class,
        "prefix_loses": thresholding.verdict(sweep).loses_class,
    }
    arrays = {"score": found.score.astype(np.float16), "mask": masks[headline], "offered": offers}
    return Chunk(rows, cuts, arrays | {name: np.asarray(value) for name, value in prefixes.items()} | found.arrays)


def offered(
    key: Key,
    found: Found,
    headline: np.ndarray,
    classifier: Classifier,
    questions: list[Question],
    protocol: Protocol,
) -> np.ndarray:
    """bool[B, H, W], what a method says holds, where that is asked; see `trust`."""
    if found.judged or protocol.trust is None:
        return headline
    num = protocol.trust.prefixes
    if found.mask is None:
        nested = [trust.prefixes(score, num) for score in found.score]
    else:
        nested = [trust.growing(mask, num) for mask in found.mask]
    asked = zip(questions, nested, strict=True)
    return np.stack([trust.smallest(protocol.trust, classifier, *one, key) for one in asked])


def cut(found: Found, sweep: thresholding.Sweep, protocol: Protocol) -> tuple[dict, dict, dict]:
    """Masks bool[B, H, W], reasons int32[B] and evaluations spent on the cut, by rule; the headline rule first."""
    scores = jnp.asarray(found.score)
    price = thresholding.cost(protocol.cut_steps).total
    cuts = {
        "complete": (thresholding.smallest_complete(sweep, protocol.confidence_ratio), price),
        "keep_class": (thresholding.smallest_sufficient(sweep), price),
        "best_cp": (thresholding.best_cp(sweep), price),
    }
    for area in protocol.cut_areas:
        cuts[f"area_{100 * area:g}"] = thresholding.fixed_area(scores, area), 0
    masks = {rule: np.asarray(made.mask) for rule, (made, _) in cuts.items()}
    reasons = {rule: np.asarray(made.reason) for rule, (made, _) in cuts.items()}
    costs = {rule: spent for rule, (_, spent) in cuts.items()}
    if found.mask is None:
        return masks, reasons, costs
    own = np.full(len(found.mask), Reason.FOUND, np.int32)
    return {"own": found.mask, **masks}, {"own": own, **reasons}, {"own": 0, **costs}


def mask_columns(
    classifier: Classifier,
    questions: list[Question],
    masks: np.ndarray,
    truth: np.ndarray | None,
    ratio: float,
) -> dict[str, np.ndarray]:
    """What the classifier makes of one mask for each image, at batch size 1; the definitions are those of `verify`."""
    pairs = list(zip(questions, masks, strict=True))
    kept = [worst(look(classifier, mask, question, question.blanks)) for question, mask in pairs]
    rest = [worst(look(classifier, ~mask, question, question.blanks), -1) for question, mask in pairs]
    verdicts = [verify.verdict_on(*asked, ratio) for asked in zip(questions, kept, rest, strict=True)]
    sufficient = np.array([verdict.sufficient for verdict in verdicts], bool)
    necessary = np.array([verdict.necessary for verdict in verdicts], bool)
    area, confidence = masks.mean((1, 2), dtype=np.float32), _confidences(kept)
    overlap = dict.fromkeys(("iou", "precision", "recall"), np.full(len(masks), np.nan, np.float32))
    if truth is not None:
        overlap = {name: np.asarray(getattr(metrics, name)(jnp.asarray(masks), jnp.asarray(truth))) for name in overlap}
    return {
        "area": area,
        "masked_confidence": confidence,
        "masked_label": _labels(kept),
        "inverse_confidence": _confidences(rest),
        "inverse_label": _labels(rest),
        "cp": metrics.cp(confidence, area),
        "cp_floored": metrics.cp_floored(confidence, area),
        "sufficient": sufficient,
        "necessary": necessary,
        "complete": sufficient & necessary,
        "complete_area": np.where(sufficient & necessary, area, np.float32(np.nan)),
        **overlap,
    }


def identified(chunk: Chunk, images: ImageSet, index: int, seed: int, method: str) -> Chunk:
    """The results of one image, with the columns that say what they are."""
    which = {"image": images.names[index], "index": index, "seed": seed}
    rows = chunk.rows | {name: np.array([value]) for name, value in (which | {"method": method}).items()}
    rows |= {f"{name}_name": np.array([images.classes[int(rows[name][0])]]) for name in ("label", "predicted")}
    cuts = chunk.cuts | {name: np.full(len(chunk.cuts["rule"]), value) for name, value in which.items()}
    return Chunk({name: rows[name] for name in ROWS}, {name: cuts[name] for name in CUTS}, chunk.arrays)


def _labels(seen: list[Answer]) -> np.ndarray:
    return np.array([one.label for one in seen], np.int32)


def _confidences(seen: list[Answer]) -> np.ndarray:
    return np.array([one.confidence for one in seen], np.float32)


def _names(kind: type, values: np.ndarray) -> np.ndarray:
    return np.array([kind(int(value)).name.lower() for value in values])
