"""The choice among the masks that a search believed in: the smallest that goes on holding in showings it has not seen.

What looked best of many is worse than it looked (the winner's curse), so the search's own figures choose nothing. Masks
are tried from the smallest on, each in fresh showings, and given up as soon as they fail too often, as in a race (Maron
& Moore 1994). What wins is judged once more on draws of its own, see `evomask.holding`: the race promises nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import numpy as np

from evomask import judging
from evomask.measures.certainty import LEVEL
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


def choose(
    classifier: Classifier, questions: Sequence[Question], refined: Refined, key: Key, config: Config
) -> tuple[Refined, np.ndarray]:
    """What the stages found (NumPy, leading axis B) with the winner as last mask and genome, and evaluations int32[B].

    Where nothing passes within `config.race` evaluations, the one that failed most seldom is taken.
    """
    key = jax.random.fold_in(key, _RACE)
    masks, genomes, spent = refined.masks.copy(), refined.genome.copy(), []
    for row, question in enumerate(questions):
        own = jax.tree.map(lambda field, row=row: field[row], refined)
        some_genomes, some_masks = candidates(own)
        winner, cost = race(classifier, question, some_masks, key, config)
        masks[row, -1], genomes[row] = some_masks[winner], some_genomes[winner]
        spent.append(cost)
    return dataclasses.replace(refined, masks=masks, genome=genomes), np.array(spent, np.int32)


def candidates(refined: Refined) -> tuple[np.ndarray, np.ndarray]:
    """Genomes int32[N, G, 3] and masks bool[N, H, W] worth a try, from the smallest on, of one image.

    These are the rungs that are believed to do better than every smaller one, the champion, and the champion grown.
    """
    shape = refined.masks.shape[1:]
    rungs = [rung for rung in refined.rungs if rung is not None]
    pairs = [pair for rung in rungs for pair in zip(rung.genome, rung.mask, rung.surplus) if pair[2] >= LEAST_SURPLUS]
    pairs.sort(key=lambda pair: pair[1].sum())
    best = np.maximum.accumulate([-np.inf, *(surplus for *_, surplus in pairs)])
    front = [pair[:2] for pair, before in zip(pairs, best) if pair[2] > before]
    larger = grown(refined.genome, min(shape))
    around = [*front, (refined.genome, refined.masks[-1]), *zip(larger, np.asarray(genes.rasterize(larger, shape)))]
    around.sort(key=lambda pair: pair[1].sum())
    most = max(len(genome) for genome, _ in around)
    distinct = {mask.tobytes(): (np.asarray(genes.resize(genome, most)), mask) for genome, mask in reversed(around)}
    genomes, masks = zip(*reversed(distinct.values()))
    return np.stack(genomes), np.stack(masks)


def grown(genome: np.ndarray, side: int) -> np.ndarray:
    """A genome int32[G, 3] with patches larger by `GROWTH`, in whole pixels: int32[N, G, 3].

    >>> grown(np.array([[4, 4, 1], [0, 0, -1]]), 32)[:3, :, 2].tolist()
    [[2, -1], [3, -1], [4, -1]]
    """
    steps = sorted({math.ceil(share * side) for share in GROWTH})
    more = np.where(genome[None, :, 2:] > genes.OFF, np.array(steps)[:, None, None] * np.array([0, 0, 1]), 0)
    return (genome[None] + more).astype(np.int32)


def race(classifier: Classifier, question: Question, masks: np.ndarray, key: Key, config: Config) -> tuple[int, int]:
    """Which of the masks bool[N, H, W] is the first to pass, and the evaluations spent on all that were tried."""
    drawn = config.perturbation or Perturbations()
    size = judging.size_of_call(classifier, config, question.blanks)
    count = functools.partial(judging.count, classifier, config, size, drawn, question)
    price, allowed = size * judging.price(question.blanks), FAILURES * (1 - LEVEL) * config.rehearsals
    spent, shares = 0, []
    for number, mask in enumerate(masks):
        shown = failed = 0
        while shown < config.rehearsals and failed <= allowed and spent + price <= config.race:
            own = jax.random.fold_in(jax.random.fold_in(key, number), shown)
            failed += size - int(count(mask, own, size).complete)
            shown, spent = shown + size, spent + price
        if shown >= config.rehearsals and failed <= allowed:
            return number, spent
        shares.append((1 + shown - failed) / (2 + shown))  # unseen ones count as even
    return int(np.argmax(shares)), spent
