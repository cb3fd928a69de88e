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
from evomask.search import scoring
from evomask.search.config import Config
from evomask.search.refine import Refined
from evomask.types import Classifier, Key, Question

LEAST_SURPLUS = -1.0  # nats that a mask may be believed to lack, to be worth a try
FAILURES = 0.25  # of what the level allows: a winner's luck must not decide
# Shares of the shorter side by which the champion's patches grow, where nothing smaller does.
GROWTH = (0.01, 0.02, 0.04, 0.06, 0.09, 0.13, 0.2, 0.3, 0.5, 1.0)
_RACE = int.from_bytes(b"race", "big")  # a stream of keys that nothing else draws from


class Raced(NamedTuple):
    """What a race comes to."""

    number: int  # of the mask that wins
    spent: int  # evaluations
    passed: bool  # or none did, and this one failed most seldom
    share: float  # of its showings in which it was good; -inf where it was not shown


def settle(
    classifier: Classifier,
    questions: Sequence[Question],
    searched: Sequence[Refined],
    key: Key,
    config: Config,
    region: np.ndarray | None = None,
) -> tuple[Refined, np.ndarray, Precision]:
    """What one of the searches found for each image (NumPy, leading axis B), with the winner as last mask and genome.

    The masks of each search race apart, and the smallest that passes wins. A winner that does not hold, although the
    decision does, is followed by the next larger mask of that search that passes, of `config.finalists` at most. Each
    is judged on draws of its own, and the level pays for all of them (Bonferroni).

    Returns:
      The stages, the evaluations of the race int32[B], and the precision of the winners.
    """
    rows, spent, held = [], [], []
    for row, question in enumerate(questions):
        own = [jax.tree.map(lambda field, row=row: field[row], refined) for refined in searched]
        tries = [candidates(each, None if region is None else region[row]) for each in own]
        options = {"key": key, "config": config, "excused": bool(own[0].breaks)}
        which, genome, mask, cost, precision = settle_one(classifier, question, tries, **options)
        masks = np.concatenate([own[which].masks[:-1], mask[None]])
        rows.append(dataclasses.replace(joined(own, which, config), masks=masks, genome=genome))
        spent.append(cost)
        held.append(precision)
    refined = jax.tree.map(lambda *fields: np.stack(fields), *rows)
    return refined, np.array(spent, np.int32), jax.tree.map(lambda *parts: np.concatenate(parts), *held)


def best(searched: Sequence[Refined], config: Config) -> Refined:
    """The best search for each image: of those whose last mask lacks nothing the smallest, else what lacks least."""
    if len(searched) == 1:
        return searched[0]
    rows = []
    for row in range(len(searched[0].masks)):
        own = [jax.tree.map(lambda field, row=row: field[row], refined) for refined in searched]
        which = min(range(len(own)), key=lambda n: (max(own[n].violation[-1], 0), own[n].masks[-1].sum()))
        rows.append(joined(own, which, config))
    return jax.tree.map(lambda *fields: np.stack(fields), *rows)


def joined(searched: Sequence[Refined], which: int, config: Config) -> Refined:
    """One of the searches for an image, with the score and the collections of all of them."""
    merge = functools.partial(scoring.merge, config.scoring)
    score = jax.tree.map(np.asarray, functools.reduce(merge, [one.score for one in searched]))
    archives = tuple(archive for one in searched for archive in one.archives)
    return dataclasses.replace(searched[which], score=score, archives=archives)


def candidates(refined: Refined, region: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """Genomes int32[N, G, 3] and masks bool[N, H, W] of one image worth a try, from small to large, and which is the
    champion's.

    These are the rungs that are believed to do better than every smaller one, the champion, and the champion grown.
    """
    shape = refined.masks.shape[1:]
    rungs = [rung for rung in refined.rungs if rung is not None]
    pairs = [pair for rung in rungs for pair in zip(rung.genome, rung.mask, rung.surplus) if pair[2] >= LEAST_SURPLUS]
    pairs.sort(key=lambda pair: pair[1].sum())
    best = np.maximum.accumulate([-np.inf, *(surplus for *_, surplus in pairs)])
    front = [pair[:2] for pair, before in zip(pairs, best) if pair[2] > before]
    inside = np.ones(shape, bool) if region is None else region
    larger = grown(refined.genome, min(shape))
    around = [
        *front,
        (refined.genome, refined.masks[-1]),
        *zip(larger, inside & np.asarray(genes.rasterize(larger, shape))),
    ]
    around.sort(key=lambda pair: pair[1].sum())
    most = max(len(genome) for genome, _ in around)
    distinct = {mask.tobytes(): (np.asarray(genes.resize(genome, most)), mask) for genome, mask in reversed(around)}
    champion = len(distinct) - 1 - list(distinct).index(refined.masks[-1].tobytes())
    genomes, masks = zip(*reversed(distinct.values()))
    return np.stack(genomes), np.stack(masks), champion


def grown(genome: np.ndarray, side: int) -> np.ndarray:
    """A genome int32[G, 3] with patches larger by `GROWTH`, in whole pixels: int32[N, G, 3].

    >>> grown(np.array([[4, 4, 1], [0, 0, -1]]), 32)[:3, :, 2].tolist()
    [[2, -1], [3, -1], [4, -1]]
    """
    steps = sorted({math.ceil(share * side) for share in GROWTH})
    more = np.where(genome[None, :, 2:] > genes.OFF, np.array(steps)[:, None, None] * np.array([0, 0, 1]), 0)
    return (genome[None] + more).astype(np.int32)


def settle_one(
    classifier: Classifier,
    question: Question,
    tries: Sequence[tuple[np.ndarray, np.ndarray, int]],
    *,
    key: Key,
    config: Config,
    excused: bool,
) -> tuple[int, np.ndarray, np.ndarray, int, Precision]:
    """Of one image with the candidates of its searches: whose wins, its genome, mask, evaluations and precision."""
    options = {"perturbation": config.perturbation, "draws": config.draws, "apart": config.draws_apart}
    share, found = dataclasses.replace(config, race=config.race // len(tries)), []
    for number, (_, masks, first) in enumerate(tries):
        own = jax.random.fold_in(jax.random.fold_in(key, number) if number else key, _RACE)
        found.append(race(classifier, question, masks, first, own, share, excused))
    sizes = [int(masks[one.number].sum()) for (_, masks, _), one in zip(tries, found)]
    order = lambda n: (-1.0, sizes[n]) if found[n].passed else (-found[n].share, -sizes[n])
    which = min(range(len(tries)), key=order)
    (genomes, masks, _), winner, spent = tries[which], found[which].number, sum(each.spent for each in found)
    for attempt in range(config.finalists):
        own = jax.random.fold_in(key, _RACE + attempt) if attempt else key
        judged = holding.precision_of(
            classifier, [question], masks[winner][None], key=own, demand=config.demand, config=config, **options
        )
        judged = dataclasses.replace(judged, finalists=config.finalists)
        is_last = attempt + 1 == config.finalists or winner + 1 == len(masks)
        if judged.holds[0] or not judged.decision_holds[0] or is_last:
            break
        larger, left = masks[winner + 1 :], dataclasses.replace(config, race=config.race - spent)
        next_one = race(classifier, question, larger, 0, jax.random.fold_in(own, _RACE), left, excused)
        spent += next_one.spent
        if not next_one.passed:  # what is judged already is at least no guess
            break
        winner += 1 + next_one.number
    return which, genomes[winner], masks[winner], spent, judged


def race(
    classifier: Classifier,
    question: Question,
    masks: np.ndarray,
    first: int,
    key: Key,
    config: Config,
    excused: bool = False,
) -> Raced:
    """Which of the masks bool[N, H, W], from small to large, is the first to pass.

    They are tried from mask `first` on: upwards until one passes, or downwards, if that one does, until one fails.
    Where none passes within `config.race` evaluations, it is the one that failed most seldom. For `excused` failures
    see `rehearse`.
    """
    size = judging.size_of_call(classifier, config, question.blanks, config.rehearsals)
    price = size * judging.price(question.blanks)
    winner, downwards, number, spent, shares = None, None, first, 0, np.full(len(masks), -np.inf)
    while 0 <= number < len(masks) and spent + price <= config.race:
        own, most = jax.random.fold_in(key, number), (config.race - spent) // price
        passed, shares[number], calls = rehearse(classifier, question, masks[number], own, config, size, most, excused)
        spent += calls * price
        winner, downwards = number if passed else winner, passed if downwards is None else downwards
        if passed != downwards:
            break
        number += -1 if downwards else 1
    number = int(np.argmax(shares)) if winner is None else winner
    return Raced(number, spent, winner is not None, float(shares[number]))


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
