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
FAILURES = 0.25  # of what the level allows: a winner's luck must not decide
# Shares of the shorter side by which the champion's patches grow, where nothing smaller does.
GROWTH = (0.01, 0.02, 0.04, 0.06, 0.09, 0.13, 0.2, 0.3, 0.5, 1.0)
_RACE = int.from_bytes(b"race", "big")  # a stream of keys that nothing else draws from


def settle(
    classifier: Classifier,
    questions: Sequence[Question],
    refined: Refined,
    key: Key,
    config: Config,
    region: np.ndarray | None = None,
) -> tuple[Refined, np.ndarray, Precision]:
    """What the stages found (NumPy, leading axis B) with the winner as last mask and genome; its race and judgement.

    A winner that does not hold, although the decision does, is followed by the next larger mask that passes, of
    `config.finalists` at most. Each is judged on draws of its own, and the level pays for all of them (Bonferroni).

    Returns:
      The stages, the evaluations of the race int32[B], and the precision of the winners.
    """
    masks, genomes, spent, held = refined.masks.copy(), [], [], []
    for row, question in enumerate(questions):
        own = jax.tree.map(lambda field, row=row: field[row], refined)
        some = candidates(own, None if region is None else region[row])
        options = {"key": key, "config": config, "excused": bool(own.breaks)}
        genome, masks[row, -1], cost, precision = settle_one(classifier, question, *some, **options)
        genomes.append(genome)
        spent.append(cost)
        held.append(precision)
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *held)
    return dataclasses.replace(refined, masks=masks, genome=np.stack(genomes)), np.array(spent, np.int32), joined


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
    genomes: np.ndarray,
    masks: np.ndarray,
    first: int,
    *,
    key: Key,
    config: Config,
    excused: bool,
) -> tuple[np.ndarray, np.ndarray, int, Precision]:
    """Of one image with its candidates: genome, mask, evaluations and precision of the winner."""
    options = {"perturbation": config.perturbation, "draws": config.draws, "apart": config.draws_apart}
    winner, spent, _ = race(classifier, question, masks, first, jax.random.fold_in(key, _RACE), config, excused)
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
        number, cost, passed = race(classifier, question, larger, 0, jax.random.fold_in(own, _RACE), left, excused)
        spent += cost
        if not passed:  # what is judged already is at least no guess
            break
        winner += 1 + number
    return genomes[winner], masks[winner], spent, judged


def race(
    classifier: Classifier,
    question: Question,
    masks: np.ndarray,
    first: int,
    key: Key,
    config: Config,
    excused: bool = False,
) -> tuple[int, int, bool]:
    """Which of the masks bool[N, H, W], from small to large, is the first to pass, evaluations spent, and if one did.

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
    return int(np.argmax(shares)) if winner is None else winner, spent, winner is not None


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
