"""How far an explanation depends on the seed: the masks, areas and scores of several searches for the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from evomask import presets, validate
from evomask.decisions import Decision, decided
from evomask.explaining import Progress, explain_questions, pose
from evomask.measures import agreement, metrics
from evomask.search.config import Config
from evomask.settings import pinned
from evomask.types import Classifier, Explanation, InputError, Key, Question, record, static, whole


@record
class Stability:
    """B images, each explained from N seeds; NumPy arrays."""

    iou: np.ndarray  # f32[B, N, N], intersection over union of every two masks
    mean_iou: np.ndarray  # f32[B], over all pairs of seeds
    area: np.ndarray  # f32[B, N]
    cp: np.ndarray  # f32[B, N]
    complete: np.ndarray  # bool[B, N]
    met: np.ndarray  # bool[B, N], what was demanded: complete, unless less was
    holds: np.ndarray  # bool[B, N], see `Explanation.holds`
    kept: np.ndarray  # f32[B, H, W], share of the seeds whose mask keeps the pixel
    score: np.ndarray  # f32[B, H, W], mean of the score matrices
    score_std: np.ndarray  # f32[B, H, W], their standard deviation (of the sample, N - 1)
    demand: str = static(default="complete")

    @property
    def least_shared(self) -> np.ndarray:
        """f32[B], the least IoU of two masks that both hold; 1 where there are no two."""
        return agreement.least_shared(self.iou, self.holds)

    @property
    def several_reasons(self) -> np.ndarray:
        """bool[B], whether two masks that both hold share so little that there are several."""
        return agreement.are_several(self.least_shared)


def stability(explanations: Sequence[Explanation]) -> Stability:
    """What N explanations of the same B images have in common.

    Raises:
      InputError: there are fewer than two, or they are of different images, classes or demands.
    """
    if len(explanations) < 2:
        raise InputError(f"stability needs the explanations of two seeds or more, got {len(explanations)}: give more")
    first = explanations[0]
    for one in explanations[1:]:
        if (
            one.mask.shape != first.mask.shape
            or (one.label != first.label).any()
            or (one.contrast != first.contrast).any()
        ):
            raise InputError("the explanations are of different images or classes: give those of one set of images")
        if one.demand != first.demand:
            raise InputError(f"the explanations were to be {first.demand} and {one.demand}: give those of one demand")
    masks, scores, areas, cps, complete, met, holds = (
        np.stack([getattr(one, name) for one in explanations], axis=1)
        for name in ("mask", "score", "area", "cp", "complete", "met", "holds")
    )
    return Stability(
        iou=np.asarray(metrics.iou(masks[:, :, None], masks[:, None]), np.float32),
        mean_iou=np.asarray(metrics.mask_stability(np.moveaxis(masks, 1, 0)), np.float32),
        area=areas,
        cp=cps,
        complete=complete,
        met=met,
        holds=holds,
        kept=masks.mean(1, dtype=np.float32),
        score=scores.mean(1, dtype=np.float32),
        score_std=scores.std(1, dtype=np.float32, ddof=1),
        demand=first.demand,
    )


@pinned
def across_seeds(
    classifier: Classifier,
    images: Any,
    num: int,
    *,
    key: Key | int,
    labels: Any = None,
    contrast: Any = None,
    decision: Decision | None = None,
    config: Config | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> tuple[Stability, tuple[Explanation, ...]]:
    """Searches `num` times for the answer to one question; compiled once.

    The searches draw from keys `fold_in(key, 0)`, `fold_in(key, 1)` ...; the question is posed with `key` itself, so
    that noise, where that is the fill, is the same for all.

    Args:
      classifier, images, labels, contrast, decision, config, mesh: as for `explain`.
      progress: as well, and each search begins anew.

    >>> import jax.numpy as jnp
    >>> import evomask
    >>> is_left_bright = lambda x: x[:, :, :4].mean((1, 2)) @ jnp.array([[20.0, -20.0]]) - jnp.array([[5.0, -5.0]])
    >>> classifier, config = evomask.as_classifier(is_left_bright), evomask.presets.smallest(500)
    >>> found, _ = across_seeds(classifier, np.ones((1, 8, 8, 1)), 3, key=jax.random.key(0), config=config)
    >>> found.iou.shape, bool(found.complete.all()), bool((found.kept[0, :, 4:] < 1).all())
    ((1, 3, 3), True, True)
    """
    num = whole("num", num, 2)
    options = {"key": validate.as_key(key), "config": presets.evomask() if config is None else config, "mesh": mesh}
    classifier = decided(classifier, decision)
    questions = pose(classifier, images, labels, contrast, **options)
    return across_seeds_of(classifier, questions, num, progress=progress, **options)


@pinned
def across_seeds_of(
    classifier: Classifier,
    questions: Sequence[Question],
    num: int,
    *,
    key: Key,
    config: Config,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> tuple[Stability, tuple[Explanation, ...]]:
    """`across_seeds` of questions that were posed before by `questions.ask`, see `explaining.explain_questions`."""
    options = {"config": config, "mesh": mesh, "progress": progress}
    keys = [jax.random.fold_in(key, index) for index in range(num)]
    found = tuple(explain_questions(classifier, questions, key=each, **options) for each in keys)
    return stability(found), found


def sentence(found: Stability) -> str | None:
    """Where the masks of one image (no batch axis) are several reasons, that in words, and what shows them."""
    return f"{agreement.sentence(found.least_shared)}; several=2 shows them" if found.several_reasons else None


def facts(found: Stability) -> dict[str, Any]:
    """The figures of one image (no batch axis) as plain Python values; the spread of area and CP over the seeds."""
    return {
        "seeds": len(found.area),
        "complete": int(found.complete.sum()),
        "demand": found.demand,
        "met": int(found.met.sum()),
        "holds": int(found.holds.sum()),
        "several_reasons": bool(found.several_reasons),
        "least_shared": float(found.least_shared),
        "mean_iou": float(found.mean_iou),
        "least_iou": float(found.iou.min()),
        "area": _spread(found.area),
        "cp": _spread(found.cp),
        "mean_score_std": float(found.score_std.mean()),
    }


def _spread(values: np.ndarray) -> dict[str, float | None]:
    """None where a value is infinite, as CP is for an empty mask."""
    if not np.isfinite(values).all():
        return dict.fromkeys(("mean", "std", "least", "greatest"))
    named = {"mean": values.mean(), "std": values.std(ddof=1), "least": values.min(), "greatest": values.max()}
    return {name: float(value) for name, value in named.items()}
