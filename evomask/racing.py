"""The choice among the masks that a search believed in: the smallest that goes on holding in showings it has not seen.

What looked best of many is worse than it looked (the winner's curse), so the search's own figures choose nothing. Masks
are tried in fresh showings and given up as soon as they fail too often, as in a race (Maron & Moore 1994). What wins is
judged once more on draws of its own, see `evomask.holding`: the race promises nothing.

No mask can be asked for more than the whole picture gives. Where the search saw that the decision itself does not hold,
a failure in a showing in which the whole picture loses the class is not the mask's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from evomask import holding, judging
from evomask.measures.certainty import LEVEL, Precision
from evomask.perturbations import Perturbations
from evomask.search import genome as genes
from evomask.search.config import Config
from evomask.search.refine import Refined
from evomask.types import Classifier, Key, Question

LEAST_SURPLUS = -1.0  # nats that a mask may be believed to lack, to be worth a try
# Nats, of a mask of which nothing is believed, and of every pixel, which says nothing; and what is added to the surplus
# of a mask to guess that of its union with the champion, which comes after all that is believed.
UNKNOWN, NOTHING, GUESSED = -1e3, -1e6, -1e2
UNIONS = 6  # of the champion with other masks
PATIENCE = 2  # masks smaller than one that passed, that may fail one after the other
FAILURES = 0.25  # of what the level allows: a winner's luck must not decide
# Shares of the shorter side by which the champion's patches grow, where nothing smaller does.
GROWTH = (0.01, 0.02, 0.04, 0.06, 0.09, 0.13, 0.2, 0.3, 0.5, 1.0)
_RACE = int.from_bytes(b"race", "big")  # a stream of keys that nothing else draws from


class Candidates(NamedTuple):
    """N masks of one image that are worth a try, different ones, from small to large."""

    genomes: np.ndarray  # int32[N, G, 3]
    masks: np.ndarray  # bool[N, H, W]
    surplus: np.ndarray  # f32[N], nats that each is believed to have to spare; `GUESSED` and less: nobody knows
    first: int  # the champion


class Tried(NamedTuple):
    """What is known of N candidates."""

    passed: np.ndarray  # bool[N]
    shares: np.ndarray  # f64[N], of good showings; minus infinity where it was not tried
    spent: int  # evaluations

    def best(self, first: int) -> int:
        """What failed most seldom; the first where nothing could be tried."""
        return first if np.isneginf(self.shares).all() else int(np.argmax(self.shares))

    def smallest(self, above: int) -> int | None:
        """The smallest that passed, of those larger than one of them."""
        passed = np.flatnonzero(self.passed[above + 1 :])
        return above + 1 + int(passed[0]) if len(passed) else None


def settle(
    classifier: Classifier,
    questions: Sequence[Question],
    refined: Refined,
    key: Key,
    config: Config,
    region: np.ndarray | None = None,
) -> tuple[Refined, np.ndarray, Precision]:
    """What the stages found (NumPy, leading axis B) with the winner as last mask and genome; its race and judgement.

    After a winner that does not hold, although the decision does, the race goes on among the larger ones, and its
    winner follows, `config.finalists` of them at most. Each is judged on draws of its own, and the level pays for all
    of them (Bonferroni).

    Returns:
      The stages, the evaluations of the race int32[B], and the precision of the winners.
    """
    masks, genomes, spent, held = refined.masks.copy(), [], [], []
    for row, question in enumerate(questions):
        own = jax.tree.map(lambda field, row=row: field[row], refined)
        some = candidates(own, None if region is None else region[row])
        options = {"key": key, "config": config, "excused": bool(own.breaks)}
        genome, masks[row, -1], cost, precision = settle_one(classifier, question, some, **options)
        genomes.append(genome)
        spent.append(cost)
        held.append(precision)
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *held)
    return dataclasses.replace(refined, masks=masks, genome=np.stack(genomes)), np.array(spent, np.int32), joined


def candidates(refined: Refined, region: np.ndarray | None = None) -> Candidates:
    """The rungs that are believed to lack little, and the champion: by itself, joined with the best of them, and grown.

    Where two masks nearly hold, each by other pixels, their union often does, and is hardly larger.
    """
    shape, champion = refined.masks.shape[1:], (refined.genome, refined.masks[-1])
    inside = np.ones(shape, bool) if region is None else region
    larger = grown(refined.genome, min(shape))
    rungs = [rung for rung in refined.rungs if rung is not None]
    known = [each for rung in rungs for each in zip(rung.genome, rung.mask, rung.surplus) if each[2] >= LEAST_SURPLUS]
    hopeful = sorted((each for each in known if each[2] >= 0), key=lambda each: -each[2])[:UNIONS]
    joined = [(union(champion[0], genome), champion[1] | mask, GUESSED + nats) for genome, mask, nats in hopeful]
    unknown = [(genome, inside & mask, UNKNOWN) for genome, mask in zip(larger, np.asarray(_rasterize(larger, shape)))]
    every = [*known, (*champion, UNKNOWN), *joined, *unknown]
    most = len(champion[0]) + max((rung.genome.shape[-2] for rung in rungs), default=0)  # of a union, in any image
    believed: dict[bytes, tuple[np.ndarray, np.ndarray, float]] = {}
    for genome, mask, surplus in sorted(every, key=lambda each: (each[1].sum(), -each[2])):
        believed.setdefault(mask.tobytes(), (padded(genome, most), mask, surplus))
    first = list(believed).index(refined.masks[-1].tobytes())
    genomes, masks, surplus = (np.stack(field) for field in zip(*believed.values()))
    surplus = np.where(masks.all((1, 2)), NOTHING, surplus)
    return Candidates(genomes, masks, surplus.astype(np.float32), first)


_rasterize = jax.jit(genes.rasterize, static_argnums=1)  # op by op it would be twenty programs to load


def padded(genome: np.ndarray, most: int) -> np.ndarray:
    """A genome int32[G, 3] with genes that are off behind it: int32[most, 3], those that are on first.

    As `genome.resize`, in NumPy, since every number of genes would be a program of its own.

    >>> padded(np.array([[0, 0, -1], [2, 2, 0]]), 3).tolist()
    [[2, 2, 0], [0, 0, -1], [-1, -1, -1]]
    """
    on_first = genome[np.argsort(genome[:, 2] <= genes.OFF, kind="stable")]
    return np.pad(on_first, [(0, most - len(genome)), (0, 0)], constant_values=genes.OFF)


def union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The patches of two genomes, int32[G, 3] and int32[H, 3], that are there: int32[N, 3].

    >>> union(np.array([[4, 4, 1], [0, 0, -1]]), np.array([[2, 2, 0]])).tolist()
    [[4, 4, 1], [2, 2, 0]]
    """
    both = np.concatenate([first, second])
    return both[both[:, 2] > genes.OFF]


def grown(genome: np.ndarray, side: int) -> np.ndarray:
    """A genome int32[G, 3] with patches larger by `GROWTH`, in whole pixels: int32[N, G, 3].

    >>> grown(np.array([[4, 4, 1], [0, 0, -1]]), 32)[:3, :, 2].tolist()
    [[2, -1], [3, -1], [4, -1]]
    """
    steps = sorted({math.ceil(share * side) for share in GROWTH})
    more = np.where(genome[None, :, 2:] > genes.OFF, np.array(steps)[:, None, None] * np.array([0, 0, 1]), 0)
    return (genome[None] + more).astype(np.int32)


def settle_one(
    classifier: Classifier, question: Question, some: Candidates, *, key: Key, config: Config, excused: bool
) -> tuple[np.ndarray, np.ndarray, int, Precision]:
    """Of one image with its candidates: genome, mask, evaluations and precision of the winner."""
    drawn = config.perturbation or Perturbations()
    options = {"perturbation": drawn, "draws": config.draws, "apart": 0, "demand": config.demand, "config": config}
    run = functools.partial(race, classifier, question, some, jax.random.fold_in(key, _RACE), config, excused)
    tried, winner, judgements = run(), -1, []
    for attempt in range(config.finalists):
        tried = run(tried, winner) if attempt else tried
        number = tried.smallest(winner)
        if number is None and judgements:  # what is judged already is at least no guess
            break
        winner = tried.best(some.first) if number is None else number
        own = jax.random.fold_in(key, _RACE + attempt) if attempt else key
        judged = holding.precision_of(classifier, [question], some.masks[winner][None], key=own, **options)
        judged = dataclasses.replace(judged, finalists=config.finalists)
        judgements.append(judged)
        if judged.holds[0] or not judged.decision_holds[0]:
            break
    # The bill is for all that were judged; what breaks a mask is asked of the last one only.
    price = np.sum([one.evaluations for one in judgements], 0, dtype=np.int32)
    held = dataclasses.replace(judged, evaluations=price)
    options = {"key": own, "drawn": drawn, "draws": config.draws_apart, "config": config}
    held = holding.by_themselves(held, classifier, [question], some.masks[winner][None], **options)
    return some.genomes[winner], some.masks[winner], tried.spent, held


def race(
    classifier: Classifier,
    question: Question,
    some: Candidates,
    key: Key,
    config: Config,
    excused: bool = False,
    before: Tried | None = None,
    judged: int = -1,
) -> Tried:
    """Which of the candidates pass, as far as it takes to find a small one, within `config.race` evaluations.

    They are tried from the first on upwards until one passes: those that are believed to have what they need, from
    the smallest on, then unions, from the most hopeful on, then the others. Where no two can still be tried to the
    end, that one comes first which promises most, being believed in and small, and the largest where none is believed
    in. Once one passes, of the smaller ones always that comes next which is believed to have most to spare, until
    `PATIENCE` of them fail one after the other. For `excused` failures see `rehearse`. A race that goes on from what
    was tried `before` is run among those larger than that which is `judged` already.
    """
    size = judging.size_of_call(classifier, config, question.blanks, config.rehearsals)
    price = size * judging.price(question.blanks)
    whole = -(-config.rehearsals // size) * price  # of one that passes
    known = before or Tried(np.zeros(len(some.masks), bool), np.full(len(some.masks), -np.inf), 0)
    passed, shares, spent = known.passed.copy(), known.shares.copy(), known.spent
    number, winner, misses = some.first, None, 0
    if before is not None:
        winner = before.smallest(judged)
        number = _next(some, shares, winner, judged, (config.race - spent) // whole)
    # Where nothing has passed, what fails most seldom is taken, so that even a part of the showings tells something.
    least = lambda: whole if winner is not None or judged >= 0 else price
    while number is not None and spent + least() <= config.race and misses < PATIENCE:
        own, most = jax.random.fold_in(key, number), (config.race - spent) // price
        asked = (classifier, question, some.masks[number], own, config, size, most, excused)
        passed[number], shares[number], calls = rehearse(*asked)
        spent += calls * price
        winner = Tried(passed, shares, spent).smallest(judged)
        misses = 0 if passed[number] else misses + (winner is not None)
        number = _next(some, shares, winner, judged, (config.race - spent) // whole)
    return Tried(passed, shares, spent)


def _next(some: Candidates, shares: np.ndarray, winner: int | None, judged: int, trials: int) -> int | None:
    """Which candidate to try now, given the smallest that passed, and how many can still be tried to the end."""
    left = np.flatnonzero(np.isneginf(shares) & (some.surplus > NOTHING))
    if winner is not None:
        smaller = left[(left < winner) & (left > judged) & (some.surplus[left] > UNKNOWN)]
        return int(smaller[np.argmax(some.surplus[smaller])]) if len(smaller) else None
    larger = left[left > (some.first if judged < 0 else judged)]
    if not len(larger):
        return None
    surplus = some.surplus[larger]
    is_union = (surplus > UNKNOWN) & (surplus < LEAST_SURPLUS)
    if trials < 2:
        chance = np.clip(np.where(is_union, surplus - GUESSED, surplus), 0, 1)  # as if nats were a probability
        gain = chance * (~some.masks[larger]).mean((1, 2))
        return int(larger[np.argmax(gain)] if gain.any() else larger[-1])
    if (surplus >= 0).any() or not is_union.any():
        return int(larger[np.argmax(surplus >= 0)])
    return int(larger[np.argmax(np.where(is_union, surplus, -np.inf))])


def rehearse(
    classifier: Classifier,
    question: Question,
    mask: np.ndarray,
    key: Key,
    config: Config,
    size: int,
    most: int,
    excused: bool = False,
) -> tuple[bool, float, int]:
    """Whether a mask passes in `config.rehearsals` fresh showings, its share of good ones, and the calls made for it.

    It is given up as soon as it has failed too often, or after `most` calls of `size` showings. Where failures are
    `excused`, only those showings count in which the whole picture keeps its class.
    """
    drawn = config.perturbation or Perturbations()
    demand = _demand(question, config)
    shown, failed, lost = 0, 0, 0
    allowed = lambda: FAILURES * (1 - LEVEL) * (config.rehearsals - lost)
    count = functools.partial(judging.count, classifier, config, drawn, question, mask, excused=excused)
    while shown < config.rehearsals and failed <= allowed() and shown < most * size:
        said = count(jax.random.fold_in(key, shown), size, size)
        failed, shown = failed + size - int(getattr(said, demand)), shown + size
        lost += size - int(said.decision) if excused else 0
    passed, counted = shown >= config.rehearsals and failed <= allowed(), shown - lost
    return passed, (1 + counted - failed) / (2 + counted), shown // size  # unseen ones count as even


def _demand(question: Question, config: Config) -> str:
    """What is asked of a mask: one for a class that another has won has nothing to lose."""
    return "sufficient" if question.counterfactual else config.demand
