"""`explain`: images in, masks out. What is compiled of it stands in `evomask.search.program`."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from evomask import fills, judging, presets, racing, validate, verify, windows
from evomask.classifiers.blackbox import own_errors
from evomask.decisions import Decision, decided
from evomask.executables import Ready
from evomask.questions import ask, logits, masked
from evomask.search import program, sharding
from evomask.search.config import Config
from evomask.search.refine import Refined
from evomask.search.stages import Stage
from evomask.settings import one_blas_thread, pinned
from evomask.types import Classifier, Explanation, Key, Niche, Question, Rows, whole

Progress = Callable[[int, int], None]  # (evaluations done, evaluations in all)


@pinned
def explain(
    classifier: Classifier,
    images: Any,
    *,
    key: Key | int,
    labels: Any = None,
    contrast: Any = None,
    decision: Decision | None = None,
    config: Config | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Explains one decision of a classifier for each image, by evolving a binary mask.

    Every image is searched with the same key, so it gets the same mask, bit for bit, alone or among others, on one
    device or many. On a CPU images take turns, since a generation of masks fills the machine. An accelerator wants
    larger batches: `config.together` images are then searched side by side, which may change last bits, and with them
    masks.

    Args:
      classifier: logits f32[N, K] of images f32[N, H, W, C] in [0, 1]; see `evomask.types.Classifier`.
      images: f32[B, H, W, C] in [0, 1].
      key: one key of `jax.random.key`, or the whole number that it is made from.
      labels: int[B], the classes to explain; the predicted ones where None.
      contrast: int[B], the classes to explain them against ("why A and not B"): then only these two compete, a mask
        keeps A above B, its inverse puts B above A, and confidences are shares between the two. None: all classes.
      decision: what of the classifier's outputs is explained, see `evomask.decisions`; labels are then those of its
        alternatives. None: the outputs are logits, and one class is explained.
      config: see `evomask.presets`; the preset `evomask` where None.
      mesh: devices that share the images, see `evomask.search.sharding`. Where None, the first device does all.
      progress: called several times a second, where the classifier is that fast, with the evaluations that the
        generations have done and will do in all; those that a stage saves by stopping early count as done. What it
        raises ends the search.

    Returns:
      An `Explanation` of NumPy arrays. Its confidences, labels and verdicts come from the final masks, seen once more
      outside of the search and at batch size 1.

    Raises:
      InputError: images, labels, configuration or the classifier's output are not what they must be.
      Whatever a `BlackBox` raises comes out as it is.

    >>> import jax.numpy as jnp
    >>> import evomask
    >>> is_left_bright = lambda x: x[:, :, :4].mean((1, 2)) @ jnp.array([[20.0, -20.0]]) - jnp.array([[5.0, -5.0]])
    >>> classifier, config = evomask.as_classifier(is_left_bright), evomask.presets.smallest(500)
    >>> found = evomask.explain(classifier, np.ones((1, 8, 8, 1)), key=0, config=config)
    >>> bool(found.complete[0]), int(found.mask[0, :, 4:].sum())
    (True, 0)
    """
    options = {"key": validate.as_key(key), "config": presets.evomask() if config is None else config, "mesh": mesh}
    classifier = decided(classifier, decision)
    questions = pose(classifier, images, labels, contrast, **options)
    return explain_questions(classifier, questions, progress=progress, **options)


def pose(
    classifier: Classifier, images: Any, labels: Any, contrast: Any, *, key: Key, config: Config, mesh: Mesh | None
) -> list[Question]:
    """The questions about B images, checked before the classifier is asked.

    Args and errors are those of `explain`, with a key and a configuration.
    """
    images, labels, contrast = validate.inputs(classifier, images, labels, contrast, config)
    abreast(classifier, config, mesh)
    return ask(classifier, images, labels, contrast, key, config.fills)


def explain_questions(
    classifier: Classifier,
    questions: Sequence[Question],
    *,
    key: Key,
    config: Config,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """`explain` of questions that were posed before by `questions.ask`."""
    total = config.evolving * len(questions)
    told = None if progress is None else lambda done: progress(done, total)
    refined = search(classifier, key, config, questions, told, mesh=mesh)
    return concluded(classifier, questions, refined, key, config)


def concluded(
    classifier: Classifier,
    questions: Sequence[Question],
    refined: Refined,
    key: Key,
    config: Config,
    region: np.ndarray | None = None,
) -> Explanation:
    """The explanation of what a search found: the race among its masks where showings are drawn, and the verdicts.

    Masks stay in the region bool[B, H, W], if there is one.
    """
    spent, held = verify.spent_after(refined, config)[:, -1], None
    if config.perturbation is not None:
        refined, raced, held = racing.settle(classifier, questions, refined, key, config, region)
        spent = spent + raced
    most = 0 if config.score_inside_only else config.windows
    lost, asked = windows.lost(classifier, questions, most, config.evaluations - spent)
    return verify.judged(verify.explanation(classifier, questions, refined, spent + asked, lost, key, config), held)


def search(
    classifier: Classifier,
    key: Key,
    config: Config,
    questions: Sequence[Question],
    told: Callable[[int], None] | None = None,
    niche: Niche | None = None,
    mesh: Mesh | None = None,
) -> Refined:
    """What the stages found for every question: NumPy, leading axis B.

    As many questions as go side by side are searched at a time. `told` is called with the evaluations done so far.
    """
    validate.can_be_met(config.demand, questions)
    num, most = len(questions), abreast(classifier, config, mesh)
    rows = jax.tree.map(lambda *fields: np.stack(fields), *(question.row() for question in questions))
    rows = dataclasses.replace(rows, niche=niche)
    classifier, key = sharding.replicate((classifier, key), mesh)
    found, done = [], 0

    def counted(own: int, stage: Stage, generations: int) -> None:
        nonlocal done
        done += own * generations * config.generation_cost(stage)
        if told is not None:
            told(done)

    with own_errors(), one_blas_thread():
        for first in range(0, num, most):
            chosen = np.minimum(np.arange(first, first + most), num - 1)  # the last ones are filled up
            part = sharding.split(jax.tree.map(lambda x, chosen=chosen: x[chosen], rows), mesh)
            own = functools.partial(counted, min(most, num - first))
            found.append(program.search(classifier, key, config, part, own, mesh))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:num], *found)


@pinned
def precompile(
    classifier: Classifier,
    images: Any,
    *,
    contrast: bool = False,
    decision: Decision | None = None,
    config: Config | None = None,
    mesh: Mesh | None = None,
) -> float:
    """Compiles what `explain` will run for images of this shape, and returns the seconds that it took.

    Optional, since `explain` compiles by itself; the next call of `explain` then compiles nothing.
    """
    classifier, config = decided(classifier, decision), presets.evomask() if config is None else config
    key = jax.random.key(0)
    images, *_ = validate.inputs(classifier, images, None, None, config)
    start = time.perf_counter()
    ready = prepared(classifier, images[0], contrast=contrast, config=config, mesh=mesh)
    blanks = np.asarray(fills.blanks(config.fills, key, images[0]))
    logits(classifier, masked(np.ones(images.shape[1:3], bool), images[0], blanks[0]))
    for fill in fills.others(config.fills).values():  # what the verdict asks about
        fills.blank(fill, key, images[0])
    if config.perturbation is not None:
        label = np.int32(0)
        row = Rows(images[0], blanks, label, label if contrast else None, np.float32(1.0))
        for draws in (config.rehearsals, config.draws):
            ready.append(judging.prepare(classifier, config, config.perturbation, row, key, draws))
    for each in ready:
        each.compiled()
    return time.perf_counter() - start


@pinned
def prepared(
    classifier: Classifier, image: np.ndarray, *, contrast: bool = False, config: Config, mesh: Mesh | None = None
) -> list[Ready]:
    """The programs that search images like a checked one: compiled, or being read where they are kept."""
    key = jax.random.key(0)
    num = abreast(classifier, config, mesh)
    labels, blanks = np.zeros(num, np.int32), np.asarray(fills.blanks(config.fills, key, image))
    rows = Rows(
        image=np.stack([image] * num),
        blanks=np.stack([blanks] * num),
        label=labels,
        contrast=labels if contrast else None,
        confidence=np.ones(num, np.float32),
        counterfactual=np.zeros(num, bool),
    )
    classifier, key = sharding.replicate((classifier, key), mesh)
    return list(program.prepared(classifier, key, config, sharding.split(rows, mesh), mesh))


def abreast(classifier: Classifier, config: Config, mesh: Mesh | None) -> int:
    """How many images are searched side by side, on all devices together.

    Raises:
      InputError: `config.together` is no number of images, or the mesh cannot be used.
    """
    return whole("together", config.together) * sharding.ways(mesh, classifier)
