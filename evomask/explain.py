"""`explain`: images in, masks out. The one jit boundary of the library is `_search` below."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask import fills, presets, refine, scoring, validate, verify
from evomask.classifiers.blackbox import own_errors
from evomask.config import Config
from evomask.evaluate import cost, evaluate_fills, feature_maps
from evomask.progress import Progress, reporting, tick
from evomask.refine import Refined
from evomask.types import Array, Classifier, Explanation, InputError, Key, Target
from evomask.verify import Question


def explain(
    classifier: Classifier,
    images: Any,
    *,
    key: Key,
    labels: Any = None,
    contrast: Any = None,
    config: Config | None = None,
    chunk: int = 16,
    progress: Progress | None = None,
) -> Explanation:
    """Explains one decision of a classifier for each image, by evolving a binary mask.

    Every image is searched with the same key, so it gets the same mask, bit for bit, alone or among others.

    Args:
      classifier: logits f32[N, K] of images f32[N, H, W, C] in [0, 1]; see `evomask.types.Classifier`.
      images: f32[B, H, W, C] in [0, 1].
      key: one key of `jax.random.key`.
      labels: int[B], the classes to explain; the predicted ones where None.
      contrast: int[B], the classes to explain them against ("why A and not B"): then only these two compete, a mask
        keeps A above B, its inverse puts B above A, and confidences are shares between the two. None: all classes.
      config: see `evomask.presets`; the preset `evomask` where None.
      chunk: at most so many images are in one call of the compiled program; it bounds memory and changes nothing else.
      progress: called now and then with the evaluations done and in all.

    Returns:
      An `Explanation` of NumPy arrays. Its confidences, labels and verdicts come from the final masks, seen once more
      outside of the search and at batch size 1.

    Raises:
      InputError: images, labels, configuration or the classifier's output are not what they must be.
      Whatever a `BlackBox` raises comes out as it is.

    >>> import evomask
    >>> is_left_bright = lambda x: x[:, :, :4].mean((1, 2)) @ jnp.array([[20.0, -20.0]]) - jnp.array([[5.0, -5.0]])
    >>> found = evomask.explain(evomask.as_classifier(is_left_bright), np.ones((1, 8, 8, 1)), key=jax.random.key(0))
    >>> bool(found.complete[0]), int(found.mask[0, :, 4:].sum())
    (True, 0)
    """
    config = presets.evomask() if config is None else config
    images, labels, contrast = validate.inputs(classifier, images, labels, contrast, key, config)
    chunks = _chunks(len(images), chunk)
    whole = [verify.logits(classifier, image) for image in images]
    labels = np.array([np.argmax(logits) for logits in whole] if labels is None else labels, np.int32)
    questions = pose(images, labels, contrast, key, config)
    whole = [verify.read(logits, *question[2:]) for logits, question in zip(whole, questions)]
    confidences = np.array([seen.confidence for seen in whole], np.float32)
    blanks = np.stack([question.blanks for question in questions])
    found = []
    with own_errors(), reporting(progress, config.evaluations * len(images)):
        for rows in chunks:
            other = None if contrast is None else contrast[rows]
            batch = (images[rows], labels[rows], other, confidences[rows], blanks[rows])
            found.append(jax.device_get(_search(classifier, key, config, *batch, progress is not None)))
    refined, scores = jax.tree.map(lambda *parts: np.concatenate(parts)[: len(images)], *found)
    return verify.explanation(classifier, questions, whole, refined, scores, key, config)


def pose(images: np.ndarray, labels: np.ndarray, contrast: np.ndarray | None, key: Key, config: Config) -> list[Question]:
    """What is asked about each image, with its blanks under the fills of the configuration."""
    validate.different(labels, contrast)
    others = [None] * len(images) if contrast is None else contrast
    blanks = [np.asarray(fills.blanks(config.fills, key, image)) for image in images]
    return [Question(*asked) for asked in zip(images, blanks, labels, others, strict=True)]


def precompile(
    classifier: Classifier,
    images: Any,
    *,
    contrast: bool = False,
    config: Config | None = None,
    chunk: int = 16,
    progress: bool = False,
) -> float:
    """Compiles what `explain` will run for as many images of this shape, and returns the seconds that it took.

    Optional, since `explain` compiles by itself; the next call of `explain` then compiles nothing.
    """
    config = presets.evomask() if config is None else config
    key = jax.random.key(0)
    images, *_ = validate.inputs(classifier, images, None, None, key, config)
    start = time.perf_counter()
    lower(classifier, images, contrast=contrast, config=config, chunk=chunk, progress=progress).compile()
    blank = np.asarray(fills.blanks(config.fills, key, images[0]))
    verify.masked_logits(classifier, np.ones(images.shape[1:3], bool), images[0], blank[0])
    fills.blanks(tuple(fills.SHIPPED.values()), key, images[0])
    return time.perf_counter() - start


def lower(
    classifier: Classifier, images: np.ndarray, *, contrast: bool = False, config: Config, chunk: int, progress: bool = False
) -> jax.stages.Lowered:
    """The search of the first chunk of checked images, not compiled yet: what it will need can be asked of it."""
    key = jax.random.key(0)
    rows = _chunks(len(images), chunk)[0]
    labels, blank = np.zeros(len(rows), np.int32), np.asarray(fills.blanks(config.fills, key, images[0]))
    confidences, blanks = np.ones(len(rows), np.float32), np.stack([blank] * len(rows))
    batch = (images[rows], labels, labels if contrast else None, confidences, blanks)
    return _search.lower(classifier, key, config, *batch, progress)


@functools.partial(jax.jit, static_argnames="report")
def _search(
    classifier: Classifier,
    key: Key,
    config: Config,
    images: Array,
    labels: Array,
    contrasts: Array | None,
    confidences: Array,
    blanks: Array,
    report: bool,
) -> tuple[Refined, Array]:
    """The compiled program: the whole evolution for a chunk of images, one image after the other.

    Images take turns because a population of masks already fills the machine, and because the bits of an image then
    cannot depend on its neighbours.
    """
    needs = {"inverse": config.fitness.needs_inverse, "features": config.fitness.needs_features}

    def search_one(args: tuple[Array, ...]) -> tuple[Refined, Array]:
        image, label, contrast, confidence, blanks = args
        features = feature_maps(classifier, image) if needs["features"] else ()
        target = Target(image, label, confidence, features, contrast)

        def evaluate_masks(masks: Array):
            if report:
                jax.debug.callback(functools.partial(tick, cost(len(masks), needs["inverse"], len(blanks))))
            size = config.batch_size_for(classifier)
            return evaluate_fills(classifier, target, blanks, masks, **needs, batch_size=size)

        refined = refine.run(
            key, config.stages, target, config.fitness, config.operators, evaluate_masks, config.scoring
        )
        return refined, scoring.normalize(refined.score, refined.masks[-1], config.score_inside_only)

    return jax.lax.map(search_one, (images, labels, contrasts, confidences, blanks))


def _chunks(num: int, most: int) -> list[np.ndarray]:
    """Rows of equally large chunks of at most `most`; the last one is filled up with its own last row.

    >>> _chunks(5, 3)
    [array([0, 1, 2]), array([3, 4, 4])]
    """
    if most < 1:
        raise InputError(f"chunk is {most}: give 1 or more")
    calls = -(-num // most)
    size = -(-num // calls)
    return list(np.minimum(np.arange(calls * size), num - 1).reshape(calls, size))
