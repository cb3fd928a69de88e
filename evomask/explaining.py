"""`explain`: images in, masks out. The one jit boundary of the library is `_search` below."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from evomask import fills, judging, presets, racing, validate, verify
from evomask.classifiers.blackbox import own_errors
from evomask.questions import ask, logits, masked
from evomask.search import evolve, refine, scoring, sharding
from evomask.search.config import Config
from evomask.search.evaluate import Hopeful, cost, evaluate_fills, feature_maps
from evomask.search.ladder import Ladder
from evomask.search.progress import Progress, reporting, tick
from evomask.search.refine import Refined
from evomask.search.showings import evaluate_shown, fill_bank
from evomask.settings import pinned
from evomask.types import (
    Array,
    Classifier,
    Evaluation,
    Explanation,
    Key,
    Mask,
    Niche,
    Question,
    Rows,
    Target,
    whole,
)


@pinned
def explain(
    classifier: Classifier,
    images: Any,
    *,
    key: Key | int,
    labels: Any = None,
    contrast: Any = None,
    config: Config | None = None,
    chunk: int = 16,
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
      config: see `evomask.presets`; the preset `evomask` where None.
      chunk: at most so many images are in one call of the compiled program; it bounds memory and changes nothing else.
        It is rounded up to a multiple of `config.together` for each device that has a share.
      mesh: devices that share each chunk, see `evomask.search.sharding`. Where None, the first device does all.
      progress: called now and then with the evaluations done and in all, those for rows that fill up the last chunk
      included.

    Returns:
      An `Explanation` of NumPy arrays. Its confidences, labels and verdicts come from the final masks, seen once more
      outside of the search and at batch size 1.

    Raises:
      InputError: images, labels, configuration or the classifier's output are not what they must be.
      Whatever a `BlackBox` raises comes out as it is.

    >>> import evomask
    >>> is_left_bright = lambda x: x[:, :, :4].mean((1, 2)) @ jnp.array([[20.0, -20.0]]) - jnp.array([[5.0, -5.0]])
    >>> classifier, config = evomask.as_classifier(is_left_bright), evomask.presets.smallest(500)
    >>> found = evomask.explain(classifier, np.ones((1, 8, 8, 1)), key=0, config=config)
    >>> bool(found.complete[0]), int(found.mask[0, :, 4:].sum())
    (True, 0)
    """
    options = {"key": validate.as_key(key), "config": presets.evomask() if config is None else config, "mesh": mesh}
    questions, chunks = pose(classifier, images, labels, contrast, chunk=chunk, **options)
    return explain_questions(classifier, questions, chunks, progress=progress, **options)


def pose(
    classifier: Classifier,
    images: Any,
    labels: Any,
    contrast: Any,
    *,
    key: Key,
    config: Config,
    chunk: int,
    mesh: Mesh | None,
) -> tuple[list[Question], list[np.ndarray]]:
    """The questions about B images, checked before the classifier is asked, and the rows of their chunks.

    Args and errors are those of `explain`, with a key and a configuration.
    """
    images, labels, contrast = validate.inputs(classifier, images, labels, contrast, config)
    chunks = chunks_for(classifier, len(images), config, chunk, mesh)
    return ask(classifier, images, labels, contrast, key, config.fills), chunks


def explain_questions(
    classifier: Classifier,
    questions: Sequence[Question],
    chunks: Sequence[np.ndarray],
    *,
    key: Key,
    config: Config,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """`explain` of questions that were posed before by `questions.ask`, in chunks as `chunks_for` gives them."""
    with reporting(progress, config.evolving * sum(map(len, chunks))) as listener:
        refined, scores = search(classifier, key, config, questions, chunks, listener, mesh=mesh)
    return concluded(classifier, questions, refined, scores, key, config)


def concluded(
    classifier: Classifier,
    questions: Sequence[Question],
    refined: Refined,
    scores: np.ndarray,
    key: Key,
    config: Config,
    region: np.ndarray | None = None,
) -> Explanation:
    """The explanation of what a search found: the race among its masks where showings are drawn, and the verdicts.

    Masks stay in the region bool[B, H, W], if there is one.
    """
    spent, held = np.full(len(questions), config.first_cost + config.evolving, np.int32), None
    if config.perturbation is not None:
        refined, raced, held = racing.settle(classifier, questions, refined, key, config, region)
        spent += raced
    return verify.judged(verify.explanation(classifier, questions, refined, scores, spent, key, config), held)


def search(
    classifier: Classifier,
    key: Key,
    config: Config,
    questions: Sequence[Question],
    chunks: Sequence[np.ndarray],
    listener: np.ndarray | None = None,
    niche: Niche | None = None,
    mesh: Mesh | None = None,
) -> tuple[Refined, np.ndarray]:
    """Runs the compiled program for every chunk of rows: what the stages found and the scores, leading axis B."""
    validate.can_be_met(config.demand, questions)
    rows = jax.tree.map(lambda *fields: np.stack(fields), *(question.row() for question in questions))
    batch = dataclasses.replace(rows, niche=niche)
    found, parameters = [], (*sharding.replicate((classifier, key, listener), mesh), config)
    with own_errors():
        for chunk in chunks:
            part = sharding.split(jax.tree.map(lambda x, chunk=chunk: x[chunk], batch), mesh)
            found.append(jax.device_get(_search(*parameters, part, mesh)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(questions)], *found)


@pinned
def precompile(
    classifier: Classifier,
    images: Any,
    *,
    contrast: bool = False,
    config: Config | None = None,
    chunk: int = 16,
    mesh: Mesh | None = None,
    progress: bool = False,
) -> float:
    """Compiles what `explain` will run for as many images of this shape, and returns the seconds that it took.

    Optional, since `explain` compiles by itself; the next call of `explain` then compiles nothing.
    """
    config = presets.evomask() if config is None else config
    key = jax.random.key(0)
    images, *_ = validate.inputs(classifier, images, None, None, config)
    start = time.perf_counter()
    lower(classifier, images, contrast=contrast, config=config, chunk=chunk, mesh=mesh, progress=progress).compile()
    blanks = np.asarray(fills.blanks(config.fills, key, images[0]))
    logits(classifier, masked(np.ones(images.shape[1:3], bool), images[0], blanks[0]))
    for fill in fills.others(config.fills).values():  # what the verdict asks about
        fills.blank(fill, key, images[0])
    if config.perturbation is not None:
        label = np.int32(0)
        row = Rows(images[0], blanks, label, label if contrast else None, np.float32(1.0))
        for draws in (config.rehearsals, config.draws):
            judging.lower(classifier, config, config.perturbation, row, key, draws).compile()
    return time.perf_counter() - start


@pinned
def lower(
    classifier: Classifier,
    images: np.ndarray,
    *,
    contrast: bool = False,
    config: Config,
    chunk: int,
    mesh: Mesh | None = None,
    progress: bool = False,
) -> jax.stages.Lowered:
    """The search of the first chunk of checked images, not compiled yet: what it will need can be asked of it."""
    key = jax.random.key(0)
    rows = chunks_for(classifier, len(images), config, chunk, mesh)[0]
    labels, blanks = np.zeros(len(rows), np.int32), np.asarray(fills.blanks(config.fills, key, images[0]))
    batch = Rows(
        image=images[rows],
        blanks=np.stack([blanks] * len(rows)),
        label=labels,
        contrast=labels if contrast else None,
        confidence=np.ones(len(rows), np.float32),
        counterfactual=np.zeros(len(rows), bool),
    )
    listener = np.int32(0) if progress else None
    parameters = (*sharding.replicate((classifier, key, listener), mesh), config)
    return _search.lower(*parameters, sharding.split(batch, mesh), mesh)


def priced(evaluation: Evaluation, masks: Mask, niche: Niche | None) -> Evaluation:
    """The evaluation of bool[P, H, W], whose area counts pixels that are taken 1 + weight times."""
    if niche is None:
        return evaluation
    shared = jnp.mean(masks & niche.taken[None], axis=(1, 2), dtype=jnp.float32)
    return dataclasses.replace(evaluation, area=evaluation.area + niche.weight * shared)


@functools.partial(jax.jit, static_argnames="mesh")
def _search(
    classifier: Classifier, key: Key, listener: Array | None, config: Config, rows: Rows, mesh: Mesh | None
) -> tuple[Refined, Array]:
    """The compiled program: the whole evolution for a chunk of images, on every device of the mesh for its own rows.

    `listener`, int32[], is told of the progress (see `progress.tick`); None: nobody is.
    """
    search_rows = functools.partial(_search_rows, sharding.population_axis(mesh))
    return sharding.over_images(search_rows, mesh)(classifier, key, listener, config, rows)


def _search_rows(
    axis: str | None, classifier: Classifier, key: Key, listener: Array | None, config: Config, rows: Rows
) -> tuple[Refined, Array]:
    """The evolution for B rows, so many at a time.

    B is a multiple of `config.together`, so every image is in a batch of that size, whatever its neighbours.
    """
    config = config.sought
    needs = config.needs(classifier)

    def search_one(row: Rows) -> tuple[Refined, Array]:
        features = feature_maps(classifier, row.image) if needs["features"] else ()
        target = Target(
            row.image, row.label, row.confidence, features, row.contrast, config.confidence_ratio, config.slack
        )
        if config.perturbation is not None:
            sizes = {"size": config.showings, "batch_size": needs["batch_size"]}
            sizes["counterfactual"] = row.counterfactual
            bank = fill_bank(key, classifier, target, row.blanks, config.perturbation, **sizes, axis=axis)
        niche = row.niche

        def evaluate_masks(key: Key, masks: Array, hopeful: Hopeful | None):
            if listener is not None:  # where devices share a population, the first one speaks for all
                inverses = 0 if not needs["inverse"] else len(masks) if hopeful is None else hopeful.num
                speaks = True if axis is None else jax.lax.axis_index(axis) == 0
                num = config.together * cost(len(masks), inverses, len(row.blanks))
                jax.debug.callback(functools.partial(tick, num), listener, speaks)
            price = lambda seen: priced(seen, masks, niche)
            hopeful = hopeful and hopeful._replace(rank=lambda seen, rank=hopeful.rank: rank(price(seen)))
            if config.perturbation is not None:
                few = {"inverse": needs["inverse"], "batch_size": needs["batch_size"], "hopeful": hopeful}
                return price(evaluate_shown(key, classifier, target, bank, masks, **few, axis=axis))
            return price(evaluate_fills(classifier, target, row.blanks, masks, **needs, hopeful=hopeful, axis=axis))

        parts = (config.fitness, config.operators, evaluate_masks, config.scoring)
        region = None if niche is None else niche.region
        ladder = Ladder(config.demand) if evolve.is_cautious(config.operators) else None
        refined = refine.refine(key, config.stages, target, *parts, region=region, collect=config.front, ladder=ladder)
        if config.perturbation is not None:
            refined = dataclasses.replace(refined, breaks=bank.breaks)
        return refined, scoring.normalize(refined.score, refined.masks[-1], config.score_inside_only)

    at_a_time = config.together if config.together > 1 else None
    return jax.lax.map(search_one, rows, batch_size=at_a_time)


def chunks_for(
    classifier: Classifier, num: int, config: Config, chunk: int = 16, mesh: Mesh | None = None
) -> list[np.ndarray]:
    """Rows of the chunks in which so many images are searched, see `explain`.

    Raises:
      InputError: `chunk` is less than 1, or as for `multiple_of`.
    """
    return into_chunks(num, chunk, multiple_of(classifier, config, mesh))


def multiple_of(classifier: Classifier, config: Config, mesh: Mesh | None) -> int:
    """What the images of a chunk are a multiple of: as many on each device as are searched side by side.

    Raises:
      InputError: that is no number of images, or the mesh cannot be used.
    """
    return whole("together", config.together) * sharding.ways(mesh, classifier)


def into_chunks(num: int, chunk: int, step: int = 1) -> list[np.ndarray]:
    """Rows of equally large chunks of at most `chunk`; the last one is filled up with its own last row.

    `chunk` is rounded up to a multiple of `step`, and so is what every chunk has.

    >>> into_chunks(5, 3), into_chunks(3, 3, step=2)
    ([array([0, 1, 2]), array([3, 4, 4])], [array([0, 1, 2, 2])])
    """
    chunk = whole("chunk", chunk)
    calls = -(-num // round_up(chunk, step))
    size = round_up(-(-num // calls), step)
    return list(np.minimum(np.arange(calls * size), num - 1).reshape(calls, size))


def round_up(num: int, step: int) -> int:
    """`num`, rounded up to a multiple of `step`."""
    return -(-num // step) * step
