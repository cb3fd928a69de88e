"""What masks do in showings drawn for them, counted; every image and each perturbation by itself shares one program."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask import perturbations as shown
from evomask.classifiers.blackbox import completed
from evomask.executables import Ready, keepable
from evomask.measures.certainty import Tally
from evomask.perturbations import Perturbations
from evomask.search.batching import in_batches
from evomask.search.config import Config
from evomask.search.evaluate import batches, cost, log_prob_and_margin
from evomask.types import Array, Classifier, InputError, Key, Mask, Question, Rows, decide


def price(blanks: np.ndarray) -> int:
    """Evaluations for one showing: the whole picture, and under each fill the masked and the inverse-masked one."""
    return 1 + cost(1, 1, len(blanks))


def size_of_call(classifier: Classifier, config: Config, blanks: np.ndarray, draws: int) -> int:
    """How many of so many showings are in one call of the compiled program."""
    return batches(draws, max(config.batch_size_for(classifier) // price(blanks), 1))[1]


def evaluations(blanks: np.ndarray, draws: int, size: int) -> int:
    """What `count` sends through the classifier in calls of `size` showings: the last one is filled up."""
    return -(-draws // size) * size * price(blanks)


def count(
    classifier: Classifier,
    config: Config,
    drawn: Perturbations,
    question: Question,
    mask: np.ndarray,
    key: Key,
    draws: int,
    size: int,
    on: np.ndarray | None = None,
    excused: bool = False,
) -> Tally:
    """In how many of the draws each was so, int32[] each; `size` showings in one call of the compiled program.

    `on` says which of the perturbations are applied; None: all. Where failures are `excused`, a mask does all that is
    asked of it in a showing in which the whole picture itself loses the class.
    """
    on = np.ones(len(drawn.parts), bool) if on is None else on
    calls = np.arange(-(-draws // size) * size, dtype=np.int32).reshape(-1, size)
    asked = (classifier, config, drawn, question.row(), mask, key)
    said = [jax.device_get(completed(_look, *_arguments(*asked, on, numbers))) for numbers in calls]
    was, unknown = jax.tree.map(lambda *parts: np.concatenate(parts)[:draws], *said)
    if excused:
        was = dataclasses.replace(jax.tree.map(lambda does: does | ~was.decision, was), decision=was.decision)
    was, unknown = jax.tree.map(lambda flags: flags.sum(dtype=np.int32), (was, unknown))
    if unknown:
        raise InputError(
            f"the classifier returned NaN or infinity in {unknown} of {draws} showings: check its weights and its "
            "normalisation (images are in [0, 1])"
        )
    if question.counterfactual:  # what another class has won cannot be lost, see `verify.verdict_on`
        was = dataclasses.replace(was, necessary=np.int32(0), complete=np.int32(0))
    return was


def prepare(classifier: Classifier, config: Config, drawn: Perturbations, row: Rows, key: Key, draws: int) -> Ready:
    """What looks at so many draws."""
    mask, on = np.zeros(row.image.shape[:2], bool), np.ones(len(drawn.parts), bool)
    numbers = np.arange(size_of_call(classifier, config, row.blanks, draws), dtype=np.int32)
    return _look.prepare(*_arguments(classifier, config, drawn, row, mask, key, on, numbers))


def _arguments(
    classifier: Classifier,
    config: Config,
    drawn: Perturbations,
    row: Rows,
    mask: np.ndarray,
    key: Key,
    on: np.ndarray,
    numbers: np.ndarray,
) -> tuple[Any, ...]:
    ratio, most = np.float32(config.confidence_ratio), config.batch_size_for(classifier)
    return classifier, drawn, on, row, mask, ratio, key, numbers, most


@keepable("most")
def _look(
    classifier: Classifier,
    drawn: Perturbations,
    on: Array,
    row: Rows,
    mask: Mask,
    ratio: Array,
    key: Key,
    numbers: Array,
    most: int,
) -> tuple[Tally, Array]:
    """The compiled program, the same for every image and for each perturbation by itself.

    Everything that belongs to one showing is in one call of the classifier, where `most` images a call allow it.

    Returns:
      Of the showings with these numbers, int32[D], what is so: bool[D] each; and whether something was NaN.
    """
    shape, pair = row.image.shape, jnp.stack([mask, ~mask])

    def pictures(number: Array) -> Array:  # f32[1 + 2 F, H, W, C]: whole, then masked and inverse under each fill
        showing = jax.vmap(drawn, (None, None, 0, None))(jax.random.fold_in(key, number), row.image, row.blanks, on)
        masked = jax.vmap(shown.render, (0, None))(showing, pair)
        return jnp.concatenate([showing.image[:1], masked.reshape(-1, *shape)])

    logits = in_batches(classifier, jax.vmap(pictures)(numbers).reshape(-1, *shape), most)
    answers = log_prob_and_margin(logits, row.label, row.contrast)
    log_prob, margin = (answer.reshape(len(numbers), -1) for answer in answers)
    confidence = jnp.exp(log_prob)
    masked, inverse = slice(1, None, 2), slice(2, None, 2)  # of several fills the worst counts
    enough = ratio * confidence[:, 0]
    verdict = decide(margin[:, masked].min(1), confidence[:, masked].min(1), margin[:, inverse].max(1), enough)
    decision = decide(margin[:, 0], confidence[:, 0], margin[:, 0], enough).sufficient
    return Tally(verdict.sufficient, verdict.necessary, verdict.complete, decision), jnp.isnan(log_prob).any(1)


def stack(tallies: Sequence[Tally]) -> Tally:
    """One more leading axis; of no tallies, an empty one."""
    columns = zip(*(vars(tally).values() for tally in tallies)) if tallies else [()] * 4
    return Tally(*(np.array(column, np.int32) for column in columns))
