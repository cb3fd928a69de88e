"""Whether a mask holds: how often it is sufficient and necessary when the picture is shown a little differently.

The *precision* of a mask is the probability, over showings (see `evomask.perturbations`), that it is sufficient and
necessary, each showing's masked picture being compared with the whole picture in the same showing. It *holds at 0.9*
where the lower bound of Clopper & Pearson (1934) says so with 95 % confidence, from draws that the search has not seen;
randomised smoothing certifies labels in this way (Cohen et al. 2019), Anchors (Ribeiro et al. 2018) and delta-relevant
sets (Waeldchen et al. 2021) ask it of sufficiency. No mask can be asked for more than the whole picture gives, so that
is put to the same test: where the *decision* does not hold, there is nothing to explain that would. The status then
says so, and the search asks for a mask that does what it should wherever the whole picture keeps its class.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from evomask import judging, presets, validate
from evomask import perturbations as shown
from evomask.measures.certainty import LEVEL, Precision, lower_bound
from evomask.perturbations import Perturbations
from evomask.search.config import Config
from evomask.settings import pinned
from evomask.types import (
    Classifier,
    Explanation,
    InputError,
    Key,
    Question,
    check_demand,
    record,
    static,
    whole,
)

DRAWS = 200  # showings for each figure, unless another number is asked for

# The search draws from keys folded with small numbers; these name streams that it never draws from.
_JUDGE = int.from_bytes(b"hold", "big")
_TRIALS = int.from_bytes(b"test", "big")


@record
class Trials:
    """Which of several masks of one picture is the smallest that holds, and what each test said."""

    precision: Precision  # of the masks that were tested, T of them, from the largest on
    tried: tuple[int, ...] = static()  # which these were
    index: int = static()  # of the smallest that holds; -1: not even the largest does


@pinned
def precision(
    classifier: Classifier,
    found: Explanation,
    *,
    key: Key | int,
    perturbation: str | Perturbations = "local",
    draws: int = DRAWS,
    apart: int | None = None,
    level: float = LEVEL,
    demand: str | None = None,
    config: Config | None = None,
) -> Precision:
    """How probable it is, over showings, that the mask of each explanation is sufficient and necessary.

    The showings are draws of their own: neither the search nor `smallest_that_holds` sees them, whatever the key, and
    every image gets the same ones. They cost `draws` * (1 + 2 fills) evaluations of each image, and as much again for
    each perturbation by itself; the last call of the classifier is filled up.

    Args:
      classifier, key, config: as given to `explain`. Of the configuration, the share of the confidence counts that a
        sufficient mask keeps.
      found: what it returned, for several images or for one. Under several fills of the configuration, a mask has to
        hold under each in every showing.
      perturbation: how the picture is shown: `local`, `none`, `fills`, `all`, or one's own, see `perturbations`.
      draws: showings for each image.
      apart: showings of each perturbation by itself, where there are two or more; None: as many; 0: none.
      level: what the bound must reach, for the mask to hold.
      demand: what has to be so: "complete", "sufficient" or "necessary"; None: what was demanded of the explanation.

    Raises:
      InputError: any of these is not what it must be, or the classifier gives NaN.

    >>> import evomask
    >>> import jax.numpy as jnp
    >>> is_left_bright = lambda x: x[:, :, :4].mean((1, 2)) @ jnp.array([[20.0, -20.0]]) - jnp.array([[5.0, -5.0]])
    >>> classifier, key = evomask.as_classifier(is_left_bright), jax.random.key(0)
    >>> config = presets.smallest(500).replace(screening=None)
    >>> found = evomask.explain(classifier, np.ones((1, 8, 8, 1)), key=key, config=config)
    >>> held = precision(classifier, found, key=key, draws=50)
    >>> held.names, held.decision_holds.tolist(), int(held.evaluations[0])
    (('shift', 'brightness', 'noise'), [True], 600)
    """
    questions = [found.question()] if np.ndim(found.label) == 0 else [one.question() for one in found]
    masks = found.mask.reshape(len(questions), *found.mask.shape[-2:])
    demand = found.demand if demand is None else demand
    options = dict(perturbation=perturbation, draws=draws, apart=apart, level=level, demand=demand, config=config)
    return precision_of(classifier, questions, masks, key=key, **options)


@pinned
def precision_of(
    classifier: Classifier,
    questions: Sequence[Question],
    masks: Any,
    *,
    key: Key | int,
    perturbation: str | Perturbations = "local",
    draws: int = DRAWS,
    apart: int | None = None,
    level: float = LEVEL,
    demand: str = "complete",
    config: Config | None = None,
) -> Precision:
    """`precision` of anybody's masks bool[B, H, W], each for its question; see `questions.ask`."""
    key, drawn, config, masks = _checked(classifier, questions, masks, key, perturbation, level, demand, config)
    draws, draws_apart = whole("draws", draws), whole("apart", draws if apart is None else apart, 0)
    size = judging.size_of_call(classifier, config, questions[0].blanks, draws)  # one program for all that follows
    count = functools.partial(judging.count, classifier, config, drawn)
    together = [count(*asked, _stream(key, 0), draws, size) for asked in zip(questions, masks, strict=True)]
    held = Precision(
        counts=judging.stack(together),
        counts_apart=judging.stack([judging.stack([]) for _ in questions]),
        evaluations=np.full(len(questions), judging.evaluations(questions[0].blanks, draws, size), np.int32),
        counterfactual=np.array([question.counterfactual for question in questions]),
        draws=draws,
        draws_apart=0,
        level=float(level),
        demand=demand,
    )
    return by_themselves(held, classifier, questions, masks, key=key, drawn=drawn, draws=draws_apart, config=config)


def by_themselves(
    held: Precision,
    classifier: Classifier,
    questions: Sequence[Question],
    masks: np.ndarray,
    *,
    key: Key,
    drawn: Perturbations,
    draws: int,
    config: Config,
) -> Precision:
    """The precision of masks bool[B, H, W] with their counts under each perturbation by itself, too, of several.

    Each is shown by itself in `draws` showings that nothing else draws; their evaluations are added to those of `held`.
    """
    alone = drawn.apart() if draws else {}
    alone = alone if len(alone) > 1 else {}
    size = judging.size_of_call(classifier, config, questions[0].blanks, held.draws)
    streams = [(one, _stream(key, number), on) for number, (one, on) in enumerate(alone.values(), 1)]
    counts = [
        [judging.count(classifier, config, one, *asked, stream, draws, size, on) for one, stream, on in streams]
        for asked in zip(questions, masks, strict=True)
    ]
    price = len(alone) * judging.evaluations(questions[0].blanks, draws, size)
    return dataclasses.replace(
        held,
        counts_apart=judging.stack([judging.stack(row) for row in counts]),
        evaluations=held.evaluations + np.int32(price),
        draws_apart=draws,
        names=tuple(alone),
    )


def _stream(key: Key, number: int) -> Key:
    """Showings that nothing else draws, another stream for each perturbation by itself."""
    return jax.random.fold_in(jax.random.fold_in(key, _JUDGE), number)


@pinned
def smallest_that_holds(
    classifier: Classifier,
    question: Question,
    masks: Any,
    *,
    key: Key | int,
    perturbation: str | Perturbations = "local",
    draws: int = DRAWS,
    level: float = LEVEL,
    demand: str = "complete",
    config: Config | None = None,
) -> Trials:
    """The smallest of several masks of one picture that holds, so that the 95 % are true although several are tried.

    The masks are tested from the largest to the smallest, each with the full 95 %, until one fails: the order does not
    depend on what the tests say, so the chance that one passes which does not hold is 5 % in all, however many there
    are (fixed-sequence testing, see Westfall & Krishen 2001). The price is that nothing below the first that fails is
    looked at. The masks must have been chosen without these draws, which neither the search nor `precision` sees.

    Args:
      question: see `questions.ask`, or `found[0].question()` of an explanation.
      masks: bool[N, H, W], in any order; of equally large ones the first is tested first.
      classifier, key, perturbation, draws, level, demand, config: as for `precision`.

    Raises:
      InputError: as for `precision`.

    >>> import evomask
    >>> import jax.numpy as jnp
    >>> from evomask.questions import ask
    >>> is_left_bright = lambda x: x[:, :, :4].mean((1, 2)) @ jnp.array([[20.0, -20.0]]) - jnp.array([[5.0, -5.0]])
    >>> classifier, key = evomask.as_classifier(is_left_bright), jax.random.key(0)
    >>> [question] = ask(classifier, np.ones((1, 8, 8, 1), np.float32), None, None, key, presets.smallest().fills)
    >>> masks = np.arange(8) < np.array([1, 6, 8, 5])[:, None, None] + np.zeros((8, 1), int)
    >>> trials = smallest_that_holds(classifier, question, masks, key=key, draws=50)
    >>> trials.index, trials.tried, trials.precision.counts.complete.tolist()
    (3, (2, 1, 3, 0), [50, 50, 50, 0])
    """
    masks = validate.as_array(masks, "masks")
    questions = [question] * (len(masks) if masks.ndim else 0)
    key, drawn, config, masks = _checked(classifier, questions, masks, key, perturbation, level, demand, config)
    draws, key = whole("draws", draws), jax.random.fold_in(key, _TRIALS)
    size = judging.size_of_call(classifier, config, question.blanks, draws)
    count = functools.partial(judging.count, classifier, config, drawn, question)
    index, tried, counts = -1, [], []
    for number in np.argsort(-masks.sum((1, 2)), kind="stable").tolist():
        tried.append(number)
        counts.append(count(masks[number], key, draws, size))
        if not lower_bound(getattr(counts[-1], demand), draws) >= level:
            break
        index = number
    found = Precision(
        counts=judging.stack(counts),
        counts_apart=judging.stack([judging.stack([])] * len(tried)),
        evaluations=np.full(len(tried), judging.evaluations(question.blanks, draws, size), np.int32),
        counterfactual=np.full(len(tried), question.counterfactual),
        draws=draws,
        draws_apart=0,
        level=float(level),
        demand=demand,
    )
    return Trials(found, tuple(tried), index)


def _checked(
    classifier: Classifier,
    questions: Sequence[Question],
    masks: Any,
    key: Any,
    perturbation: str | Perturbations,
    level: float,
    demand: str,
    config: Config | None,
) -> tuple[Key, Perturbations, Config, np.ndarray]:
    """What judging masks needs, checked before anything is compiled."""
    drawn, config = shown.named(perturbation), presets.evomask() if config is None else config
    if not len(questions):
        raise InputError("there is no mask to judge: give at least one")
    if isinstance(level, bool) or not isinstance(level, (int, float, np.number)) or not 0 < level < 1:
        raise InputError(f"level is {level!r}: give a probability above 0 and below 1, such as {LEVEL}")
    check_demand(demand)
    images = np.stack([question.image for question in questions])
    masks = validate.as_array(masks, "masks")
    if masks.shape != images.shape[:3] or masks.dtype != bool:
        raise InputError(f"masks are {masks.dtype}{list(masks.shape)}: give booleans {list(images.shape[:3])}")
    validate.labelled(classifier, images, [question.label for question in questions])
    shown.check(drawn, images.shape[1:])
    return validate.as_key(key), drawn, config, masks
