"""Whether the masks of a method hold: every method is judged alike, in showings that none of them has seen.

A method that judges its own masks offers these. Any other offers the smallest that passes in draws of its own, of the
prefixes of its heat map or of its mask evenly grown. They are tried from the smallest on, as `evomask.racing` tries
masks, and as many finalists are judged as evomask may have. (Bisection would be cheaper, and unfair: precision does not
rise evenly with size.) What is offered is then put before `judge`. Its area is the *certified area* where it holds;
where it does not, nothing holds, and the area is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evomask import fills, holding, judging, racing
from evomask.measures import thresholding
from evomask.search.config import Config
from evomask.types import Array, Classifier, Key, Question

from . import judge
from .judge import CHANGES, Case, Changes

JUDGE = int.from_bytes(b"eyes", "big")  # names the judge's draws: no search has them
NAMES = ("shift", "brightness", "noise")

# Figures of one mask each, f32, NaN where there is nothing to say: of the mask offered, or of the headline mask, which
# for a heat map is its smallest complete prefix.
COLUMNS = (
    "decision",  # share of showings in which the whole picture keeps its class
    "decision_holds",
    "offered_area",
    "holds",  # the offered mask does, in the judge's draws; one of every pixel says nothing
    "certified_area",  # of the offered mask where it holds, otherwise 1
    "shown_complete",  # shares of showings, of the headline mask
    "shown_sufficient",
    "shown_necessary",
    "headline_holds",
    *(f"survives_{name}" for name in NAMES),  # shares, of the headline mask under one change alone
    "survives_nudge",
    "survives_opening",
    "survives_jpeg",
    "survives_mirror",
    "survives_fills",
    "pieces",
    "specks",
    "boundary",
    "shape_is_label",  # the network sees the class in the mask alone, white on black
    "holds_elsewhere",  # the offered mask on another network, of the pictures whose decision holds there
)


class Trust(NamedTuple):
    """How masks are put to the test."""

    changes: Changes
    config: Config  # how a prefix is tried before it is offered
    draws: int  # showings of the judge
    draws_apart: int  # under one change alone
    prefixes: int  # of a heat map, of equally spaced areas, that may be offered
    elsewhere: Classifier | None  # another network


def columns(
    trust: Trust | None,
    classifier: Classifier,
    question: Question,
    headline: np.ndarray,
    offered: np.ndarray,
    key: Key,
) -> dict[str, float]:
    """The figures of one picture by their names in `COLUMNS`; NaN where nothing is asked.

    The draws depend on the key alone, so that all methods are judged in the same showings.
    """
    if trust is None:
        return dict.fromkeys(COLUMNS, float("nan"))
    rng = np.random.default_rng(np.asarray(jax.random.bits(jax.random.fold_in(key, JUDGE), 4)))
    found = _figures(trust, classifier, question, headline, offered, rng)
    return {name: float(found.get(name, np.nan)) for name in COLUMNS}


def _figures(
    trust: Trust,
    classifier: Classifier,
    question: Question,
    headline: np.ndarray,
    offered: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, float]:
    case = case_of(question, trust.config.confidence_ratio)
    demand = "sufficient" if question.counterfactual else trust.config.demand
    judged = judge.judge(classifier, case, offered, rng, trust.changes, trust.draws)
    same = np.array_equal(headline, offered)
    own = judged if same else judge.judge(classifier, case, headline, rng, trust.changes, trust.draws)
    area = float(offered.mean())
    holds = judged.holds(demand) and area < 1  # every pixel holds, and says nothing
    known = slice(1, 2) if question.counterfactual else slice(3)  # what another class has won cannot be lost
    alone = {
        f"survives_{name}": judge.judge(
            classifier, case, headline, rng, Changes(**{name: getattr(CHANGES["local"], name)}), trust.draws_apart
        ).share(demand)
        for name in NAMES
        if trust.draws_apart
    }
    return {
        "decision": judged.share("decision"),
        "decision_holds": judged.holds("decision"),
        "offered_area": area,
        "holds": holds,
        "certified_area": area if holds else 1.0,
        **{f"shown_{what}": own.share(what) for what in ("complete", "sufficient", "necessary")[known]},
        "headline_holds": own.holds(demand),
        **alone,
        **judge.survives(classifier, case, headline),
        **judge.form(headline),
        "shape_is_label": judge.sees_in_shape(classifier, headline, question.image.shape[-1]) == question.label,
        "holds_elsewhere": elsewhere(trust, case, offered, rng, demand),
    }


def case_of(question: Question, ratio: float) -> Case:
    """What the judge is told of a question."""
    shipped = np.asarray(fills.blanks(tuple(fills.SHIPPED.values()), jax.random.key(JUDGE), question.image))
    return Case(question.image, question.label, question.blanks, shipped, ratio)


def elsewhere(trust: Trust, case: Case, mask: np.ndarray, rng: np.random.Generator, demand: str) -> float:
    """Whether a mask holds on the other network; NaN where there is none, or the decision does not hold on it."""
    if trust.elsewhere is None:
        return float("nan")
    there = resized(trust.elsewhere, case.image.shape)
    counts = judge.judge(there, case, mask, rng, trust.changes, trust.draws)
    return float(counts.holds(demand)) if counts.holds("decision") else float("nan")


class _Resized:
    """A classifier of pictures of another size."""

    def __init__(self, classifier: Classifier, shape: tuple[int, ...]):
        self.classifier, self.shape, self.batch_size = classifier, shape, getattr(classifier, "batch_size", 32)

    def __call__(self, images: Array) -> Array:
        return self.classifier(jax.image.resize(images, (len(images), *self.shape), "linear"))


jax.tree_util.register_pytree_node(
    _Resized, lambda one: ((one.classifier,), one.shape), lambda shape, parts: _Resized(parts[0], shape)
)


def resized(classifier: Classifier, shape: tuple[int, ...]) -> Classifier:
    """A classifier that takes images of this shape, whatever its own."""
    own = tuple(getattr(classifier, "image_shape", None) or shape)
    return classifier if own == tuple(shape) else _Resized(classifier, own)


# ----------------------------------------------------------------------------------------------- what may be offered


def smallest(trust: Trust, classifier: Classifier, question: Question, masks: np.ndarray, key: Key) -> np.ndarray:
    """bool[H, W], the smallest of masks bool[N, H, W], from small to large, that passes; everything, where none does.

    A mask passes in the draws that evomask's own candidates are tried in, and is then judged as its winner is; where it
    fails, the next larger one that passes may be judged, of as many as there.
    """
    config = trust.config
    size = judging.size_of_call(classifier, config, question.blanks, config.rehearsals)
    calls = -(-config.rehearsals // size)
    passes = lambda number: racing.rehearse(
        classifier, question, masks[number], jax.random.fold_in(key, number), config, size, calls
    )[0]
    passing = (mask for number, mask in enumerate(masks) if passes(number))
    for attempt, mask in zip(range(config.finalists), passing):
        if _confirmed(classifier, question, mask, key, attempt, config):
            return mask
    return np.ones(masks.shape[1:], bool)


def _confirmed(
    classifier: Classifier, question: Question, mask: np.ndarray, key: Key, attempt: int, config: Config
) -> bool:
    """Whether a prefix holds in draws of its own."""
    options = {"perturbation": config.perturbation, "draws": config.draws, "apart": 0, "demand": config.demand}
    own = jax.random.fold_in(key, JUDGE + 1 + attempt)
    return bool(holding.precision_of(classifier, [question], mask[None], key=own, config=config, **options).holds[0])


def prefixes(score: np.ndarray, num: int) -> np.ndarray:
    """bool[num, H, W], the best 1 / num, 2 / num, ... of the pixels; NaN is the least, equal scores in random order.

    >>> prefixes(np.array([[3.0, 1.0], [2.0, np.nan]], np.float32), 4)[1].tolist()
    [[True, False], [True, False]]
    """
    ranked, pixels = thresholding.places(jnp.asarray(score)), thresholding.prefix_pixels(num, score.size)
    return np.asarray(ranked[None] < pixels[:, None, None])


def growing(mask: np.ndarray, num: int) -> np.ndarray:
    """bool[N, H, W], a mask bool[H, W], and larger ones of `num` areas that hold it: the pixels next to it come first.

    >>> growing(np.array([[False, True, False, False]]), 4)[[0, -2]].astype(int).tolist()
    [[[0, 1, 0, 0]], [[1, 1, 1, 0]]]
    """
    from scipy import ndimage

    distance = ndimage.distance_transform_cdt(~mask, "chessboard") if mask.any() else np.zeros(mask.shape)
    larger = prefixes(-distance.astype(np.float32), num)
    return np.concatenate([mask[None], larger[larger.sum((1, 2)) > mask.sum()]])
