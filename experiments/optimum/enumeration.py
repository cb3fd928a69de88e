"""The smallest union of cells that is complete, or that holds: all of them are tried, from small to large.

Every union is seen in the same showings, one after the other, and given up as soon as it has failed too often in those
so far: `rungs` are pairs of showings and of failures that a union may have by then. In the one exact showing, where no
failure is allowed, that is plain enumeration. An inverse is looked at only where the mask itself is sufficient, and
nothing is looked at that is larger than the answer.

What is left is judged one by one, from the smallest: in the exact showing as `evomask.verify` does, else by fresh draws
as `evomask.holding` does, with a level that pays for all that may be judged. So what is said of the mask that is found
is as certain as of any mask of evomask's. That none is smaller is exact in the exact showing; where showings are drawn,
a smaller union that holds is overlooked as often as one of its precision fails so often by chance. A union that is not
complete in the exact showing may well hold, so that one is not asked first.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evomask import holding
from evomask.classifiers.blackbox import completed
from evomask.measures.certainty import Precision
from evomask.perturbations import Showing
from evomask.questions import look, worst
from evomask.search import showings
from evomask.search.config import Config
from evomask.search.showings import Bank
from evomask.types import Array, Classifier, Key, Question, Target, decide, record, static
from evomask.verify import verdict_on

from . import grid

Rungs = Sequence[tuple[int, int]]
EXACT: Rungs = ((1, 0),)  # seen once, as it is
CHUNK = 1024  # unions that climb the first rungs together
TOGETHER = 8  # showings until which they do
GROUP = 4  # of those left, that climb the others together: the smallest is wanted, so all would be too many
_SEEN = int.from_bytes(b"enum", "big")  # a stream of keys that neither the search nor the judgement draws from


@record
class Asked:
    """One question about the unions of a grid."""

    classifier: Classifier
    target: Target
    bank: Bank
    tiles: Array  # int32[tiles, 3]
    size: int = static()  # images in one call


class Optimum(NamedTuple):
    """The smallest union of one image, and what it cost to find it."""

    mask: np.ndarray | None  # bool[H, W]; None: none was found
    evaluations: int  # images sent through the classifier, those that fill up a call included
    tried: int  # unions that were looked at, the smallest of all
    ended: str  # "found"; "none" holds; "finalists", as many failed as may be judged; "limit" of evaluations
    precision: Precision | None = None  # of the mask, where showings are drawn


Judged = tuple[bool, int, Precision | None]  # whether a mask bool[H, W] is what is wanted, and evaluations


def smallest(
    classifier: Classifier,
    question: Question,
    tiles: np.ndarray,
    *,
    key: Key,
    config: Config,
    rungs: Rungs = EXACT,
    finalists: int = 4,
    limit: int = 1_000_000,
) -> Optimum:
    """The smallest union of the tiles int32[N, 3] that is complete, or that holds where the configuration draws
    showings.

    Args:
      question: one whose class is the predicted one, since no mask is necessary for another.
      config: of it, the perturbation, the share of the confidence that is kept, and the draws of the judgement.
      rungs: for showings that are drawn.
      finalists: unions that may be judged by fresh draws; the level pays for all of them (Bonferroni).
      limit: evaluations, after which nothing more is begun.
    """
    rungs = rungs if config.perturbation is not None else EXACT
    asked = pose(classifier, question, tiles, key, config, rungs[-1][0])
    judge = functools.partial(judged_plain, classifier, question, config)
    if config.perturbation is not None:
        judge = functools.partial(judged_by_draws, classifier, question, config, key, finalists)
    spent = 0 if config.perturbation is None else rungs[-1][0]
    attempts, tried = 0, 0
    for number, tried, cost in standing(asked, grid.by_size(tiles, question.image.shape[:2])[0], rungs):
        spent += cost
        if number is not None:
            mask = np.asarray(grid.unions(asked.tiles, jnp.array([number]), question.image.shape[:2])[0])
            holds, cost, precision = judge(mask, attempts)
            attempts, spent = attempts + 1, spent + cost
            if holds:
                return Optimum(mask, spent, tried, "found", precision)
        if config.perturbation is not None and attempts == finalists:
            return Optimum(None, spent, tried, "finalists")
        if spent >= limit:
            return Optimum(None, spent, tried, "limit")
    return Optimum(None, spent, tried, "none")


def pose(classifier: Classifier, question: Question, tiles: np.ndarray, key: Key, config: Config, size: int) -> Asked:
    """What is asked of every union, with so many showings to ask it in."""
    row, ratio = question.row(), config.confidence_ratio
    target = Target(row.image, row.label, row.confidence, contrast=row.contrast, ratio=ratio)
    calls = config.batch_size_for(classifier)
    if config.perturbation is None:
        shown = Showing(row.image[None], row.blanks[None], np.zeros((1, 2), np.int32))
        bank = Bank(shown, row.confidence[None], jnp.zeros(1, jnp.int32), jnp.int32(1), jnp.array(False))
    else:
        fill = jax.jit(functools.partial(showings.fill_bank, size=size, batch_size=calls))
        bank = completed(fill, jax.random.fold_in(key, _SEEN), classifier, target, row.blanks, config.perturbation)
    return Asked(classifier, target, bank, jnp.asarray(tiles), calls)


def standing(asked: Asked, order: np.ndarray, rungs: Rungs) -> Iterator[tuple[int | None, int, int]]:
    """The unions that climb all rungs, in the order given, one by one as they are asked for.

    Yields:
      Such a union, or None where the evaluations of a group gave none; how many of all were looked at; evaluations
      since the last one.
    """
    early = [rung for rung in rungs if rung[0] <= TOGETHER]
    late = rungs[len(early) :]
    for begin in range(0, len(order), CHUNK):
        chunk = order[begin : begin + CHUNK]
        end = begin + len(chunk)
        left, failed, cost = climb(asked, chunk, np.zeros(len(chunk), int), 0, early)
        yield None, begin if len(left) else end, cost
        for some in np.split(np.arange(len(left)), range(GROUP, len(left), GROUP)):
            best, _, cost = climb(asked, left[some], failed[some], early[-1][0] if early else 0, late)
            for number in best:
                yield int(number), begin + int(np.flatnonzero(chunk == number)[0]) + 1, cost
                cost = 0
            yield None, end, cost


def climb(
    asked: Asked, numbers: np.ndarray, failed: np.ndarray, shown: int, rungs: Rungs
) -> tuple[np.ndarray, np.ndarray, int]:
    """Which of the unions int32[N] climb the rungs, from showing `shown` on, their failures until then, and the
    evaluations of it.
    """
    spent = 0
    for until, allowed in rungs:
        while shown < until and len(numbers):
            step = min(until - shown, max(asked.size // len(numbers), 1))
            pairs = np.repeat(numbers, step), np.tile(np.arange(shown, shown + step), len(numbers))
            good, cost = seen(asked, *pairs)
            failed = failed + step - good.reshape(-1, step).sum(1)
            shown, spent = shown + step, spent + cost
            numbers, failed = numbers[failed <= allowed], failed[failed <= allowed]
    return numbers, failed, spent


def seen(asked: Asked, numbers: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, int]:
    """Whether each union int32[N] is complete in the showing int32[N] that it is paired with, and the evaluations."""
    good, cost = in_calls(asked, numbers, shown, inverse=False)
    if good.any():
        good[good], more = in_calls(asked, numbers[good], shown[good], inverse=True)
        cost += more
    return good, cost


def in_calls(asked: Asked, numbers: np.ndarray, shown: np.ndarray, inverse: bool) -> tuple[np.ndarray, int]:
    """Which unions are sufficient, or by their inverse necessary, in equal calls of the compiled program."""
    num, size = len(numbers), asked.size
    pairs = [np.resize(part.astype(np.int32), (-(-num // size), size)) for part in (numbers, shown)]
    found = [np.asarray(completed(_answers, asked, *some, inverse)) for some in zip(*pairs, strict=True)]
    return np.concatenate(found)[:num], pairs[0].size * asked.bank.showing.blank.shape[1]


@functools.partial(jax.jit, static_argnames="inverse")
def _answers(asked: Asked, numbers: Array, shown: Array, inverse: bool) -> Array:
    """bool[N], of unions int32[N] in the showings int32[N]: under several fills, the worst counts."""
    masks = grid.unions(asked.tiles, numbers, asked.target.image.shape[:2])
    few = asked.classifier, asked.target, asked.bank, asked.size, None
    log_prob, margin = showings.answers(*few, ~masks if inverse else masks, shown)
    enough = asked.target.ratio * asked.bank.confidence[shown]
    verdict = decide(margin.min(0), jnp.exp(log_prob.min(0)), margin.max(0), enough)
    return verdict.necessary if inverse else verdict.sufficient


def judged_plain(classifier: Classifier, question: Question, config: Config, mask: np.ndarray, attempt: int) -> Judged:
    """As `verify` judges final masks, at batch size 1."""
    del attempt
    kept, left = (look(classifier, one, question, question.blanks) for one in (mask, ~mask))
    verdict = verdict_on(question, worst(kept), worst(left, -1), config.confidence_ratio)
    return bool(verdict.complete), 2 * len(question.blanks), None


def judged_by_draws(
    classifier: Classifier,
    question: Question,
    config: Config,
    key: Key,
    finalists: int,
    mask: np.ndarray,
    attempt: int,
) -> Judged:
    """As `racing` judges the winner, by draws of its own; the bound pays for as many as may be judged."""
    own = jax.random.fold_in(key, _SEEN + attempt) if attempt else key
    options = {"perturbation": config.perturbation, "draws": config.draws, "apart": 0, "demand": config.demand}
    held = holding.precision_of(classifier, [question], mask[None], key=own, config=config, **options)
    held = dataclasses.replace(held, finalists=finalists)
    return bool(held.holds[0]), int(held.evaluations[0]), held[0]
