"""The published algorithm as a plain loop: NumPy, one mask after the other, one call of the network for each image.

This is the reference that the compiled search is timed against (`python -m experiments.speed`), and an oracle of the
tests: with the same key it makes the same draws, so it must find the same masks as the preset `dissertation`. It shares
with the library only those draws and the network. The defects of the published code that the library mends are mended
here too. The network is compiled, and called once for each image; with `as_published`, nine times for each mask (see
`seen_as_published`).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import numpy as np

from evomask import presets
from evomask.search.config import Config
from evomask.search.evaluate import FEATURE_DEPTHS, features_and_logits
from evomask.search.fitness import SLACK
from evomask.search.genome import scale_radii
from evomask.search.stages import Stage
from evomask.types import Classifier, InputError, Key


class Seen(NamedTuple):
    """What two calls of the network say about one mask, and how it is judged."""

    objective: float  # minus the feature distance
    violation: float  # nats that are missing to keep the class, and to lose it under the inverse; 0: feasible
    confidence: float
    area: float  # fraction of pixels kept


class Individual(NamedTuple):
    """A genome and what was seen of it."""

    genes: np.ndarray  # int32[G, 3]
    seen: Seen


class Found(NamedTuple):
    """What the loop found for one image."""

    masks: np.ndarray  # bool[S, H, W]
    genome: np.ndarray  # int32[G, 3], of the last stage
    score: np.ndarray  # f32[H, W], in [0, 1]
    history: list[Seen]  # the best so far after every generation of every stage
    evaluations: int  # images sent through the network


def explain(
    classifier: Classifier, image: np.ndarray, label: int, *, key: Key, config: Config, as_published: bool = False
) -> Found:
    """Evolves one mask for f32[H, W, C] in [0, 1], stage after stage, as the dissertation does.

    Args:
      as_published: whether to call the network as often as the published code does. That changes what it costs, not
        what it finds, and not the evaluations counted: two for each mask, itself and its inverse.

    Raises:
      InputError: the configuration differs from `presets.dissertation` in more than the numbers of its stages.
    """
    _check_published(config)
    whole = [np.asarray(maps[0]) for maps in _features(classifier, image[None])[0][:FEATURE_DEPTHS]]
    region = np.ones(image.shape[:2], bool)
    total, masks, history, evaluations = np.zeros(image.shape[:2], np.float32), [], [], 0

    def individual(genes: np.ndarray) -> Individual:
        nonlocal evaluations
        mask = region & (cover(genes, region.shape) > 0)
        evaluations += 2
        if as_published:
            return Individual(genes, seen_as_published(classifier, image, mask, label, len(whole)))
        return Individual(genes, seen_under(classifier, image, mask, label, whole))

    for number, stage in enumerate(config.stages):
        key_found, key_run = jax.random.split(jax.random.fold_in(key, number))
        radii = scale_radii(stage.radii, region.shape)
        draws = np.asarray(jax.random.uniform(key_found, (stage.population * stage.genes, 2)))
        founders = sample(draws, region, radii).reshape(stage.population, stage.genes, 3)
        people, champion = [], None
        for generation in range(stage.generations + 1):
            if generation == 0:
                children = [individual(genes) for genes in founders]
                people = sorted(children, key=standing)
            else:
                draws = Draws(*map(np.asarray, draw(key_run, generation, stage, config.operators.selection.size)))
                children = [individual(genes) for genes in breed(draws, people, region, radii)]
                # One elite: the best parent takes the place of the worst child.
                people = sorted(people, key=standing)[:1] + sorted(children, key=standing)[:-1]
            champion = min([champion, *children] if champion else children, key=standing)
            history.append(champion.seen)
            total += contribution(champion, region)
        masks.append(region & (cover(champion.genes, region.shape) > 0))
        if champion.seen.violation == 0:  # else there would be nothing to find inside of it
            region = masks[-1]
    inside = np.where(masks[-1], np.maximum(total, 0), 0)
    score = inside / max(inside.max(), np.finfo(np.float32).tiny)
    return Found(np.stack(masks), champion.genes, score, history, evaluations)


def precompile(classifier: Classifier, image: np.ndarray, config: Config) -> None:
    """Compiles all forms of the network and the draws, so that a timing of `explain` holds none of it."""
    for stage in config.stages:
        jax.block_until_ready(draw(jax.random.key(0), 1, stage, config.operators.selection.size))
    maps, _ = jax.block_until_ready((_features(classifier, image[None])[0], _logits(classifier, image[None])))
    jax.block_until_ready([_to_depth(classifier, image[None], depth) for depth in range(len(maps))])


def standing(individual: Individual) -> tuple[float, float]:
    """Sorts by feasibility, then by the objective, best first (Deb 2000), where the published code adds -1 for
    infeasible.
    """
    return individual.seen.violation, -individual.seen.objective


def seen_under(
    classifier: Classifier, image: np.ndarray, mask: np.ndarray, label: int, whole: list[np.ndarray]
) -> Seen:
    """Sends the masked image through the network, then the inverse-masked one."""
    kept, left = (image * mask[..., None])[None], (image * ~mask[..., None])[None]
    maps, logits = jax.device_get(_features(classifier, kept))  # fetched before the next call, or the two would overlap
    inverse_logits = np.asarray(_logits(classifier, left))
    distances = [np.mean(np.square(seen[0] - known)) for seen, known in zip(maps, whole)]
    return verdict(logits, inverse_logits, distances, mask, label)


def seen_as_published(classifier: Classifier, image: np.ndarray, mask: np.ndarray, label: int, depths: int) -> Seen:
    """The same with the nine calls of the published code: six up to one of the three depths, and three of the whole
    network.

    It takes the features of the image anew for each mask, each depth by itself, and asks for the class of the masked
    image and for its probability one after the other.
    """
    kept, left = (image * mask[..., None])[None], (image * ~mask[..., None])[None]
    distances = []
    for depth in range(depths):
        known, seen = (np.asarray(_to_depth(classifier, batch, depth)) for batch in (image[None], kept))
        distances.append(np.mean(np.square(seen - known)))
    logits, _, inverse_logits = (np.asarray(_logits(classifier, batch)) for batch in (kept, kept, left))
    return verdict(logits, inverse_logits, distances, mask, label)


def verdict(
    logits: np.ndarray, inverse_logits: np.ndarray, distances: list[np.float32], mask: np.ndarray, label: int
) -> Seen:
    """What logits [1, K] of the masked and the inverse-masked image, and the distances at three depths, amount to."""
    log_prob, margin = log_prob_and_margin(logits[0], label)
    _, inverse_margin = log_prob_and_margin(inverse_logits[0], label)
    violation = max(SLACK - margin, 0.0) + max(SLACK + inverse_margin, 0.0)
    return Seen(-sum(distances) / len(distances), violation, np.exp(log_prob), mask.mean())


def log_prob_and_margin(logits: np.ndarray, label: int) -> tuple[np.float32, np.float32]:
    """Log-probability of the label and its lead over the best other class, in nats."""
    logits = logits - logits.max()
    log_probs = logits - np.log(np.exp(logits).sum())
    return log_probs[label], log_probs[label] - np.delete(log_probs, label).max()


def cover(genes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """int32[H, W], how many patches cover each pixel; clipped at the border, where the published code takes abs()."""
    count = np.zeros(shape, np.int32)
    for row, col, radius in genes:
        count[max(row - radius, 0) : row + radius + 1, max(col - radius, 0) : col + radius + 1] += 1
    return count


def contribution(champion: Individual, region: np.ndarray) -> np.ndarray:
    """f32[H, W], what the best individual adds to the score matrix: overlaps count more, and smaller masks."""
    score = champion.seen.confidence if champion.seen.violation == 0 else -1.0
    pixels = max(champion.seen.area * region.size, 1.0)
    return (np.where(region, cover(champion.genes, region.shape), 0) * score / pixels).astype(np.float32)


def sample(draws: np.ndarray, region: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Uniform draws [..., 2] -> patches int32[..., 3] with their centres in the region."""
    rows, cols = np.nonzero(region if region.any() else np.ones_like(region))
    # The number of centres whose share of the cumulative distribution is at most the draw.
    shares = np.arange(1, len(rows) + 1, dtype=np.float32) / np.float32(len(rows))
    place = np.minimum(np.searchsorted(shares, draws[..., 0], side="right"), len(rows) - 1)
    return np.stack([rows[place], cols[place], radii[index(draws[..., 1], len(radii))]], axis=-1).astype(np.int32)


def index(draw: np.ndarray, num: int) -> np.ndarray:
    """Uniform draws -> 0 .. num - 1."""
    return np.minimum((draw * np.float32(num)).astype(np.int32), num - 1)


class Draws(NamedTuple):
    """The random numbers of one generation of P individuals with G genes, uniform in [0, 1)."""

    tournament: np.ndarray  # f32[P, entrants]
    cut: np.ndarray  # f32[P / 2]
    gene: np.ndarray  # f32[P, G], the least is replaced
    fresh: np.ndarray  # f32[P, G, 2]


def breed(draws: Draws, people: list[Individual], region: np.ndarray, radii: np.ndarray) -> list[np.ndarray]:
    """Tournaments, one-point crossover of two different draws, and one fresh gene for every child."""
    parents = []
    for entrants in index(draws.tournament, len(people)):
        parents.append(people[min(entrants, key=lambda i: (*standing(people[i]), i))].genes)
    children = []
    for mother, father, draw in zip(parents[::2], parents[1::2], draws.cut):
        cut = 1 + index(draw, max(len(mother) - 1, 1))
        children.append(np.concatenate([mother[:cut], father[cut:]]))
        children.append(np.concatenate([father[:cut], mother[cut:]]))
    for child, gene, fresh in zip(children, draws.gene, draws.fresh):
        place = np.argmin(gene)
        child[place] = sample(fresh[place], region, radii)
    return children[: len(people)]


@functools.partial(jax.jit, static_argnames=("stage", "entrants"))
def draw(key: Key, generation: int, stage: Stage, entrants: int) -> Draws:
    """The draws of one generation, the same numbers that the compiled operators make of the same key."""
    selection, crossover, mutation = jax.random.split(jax.random.fold_in(key, generation), 3)
    pairs = -(-stage.population // 2)
    gene_and_fresh = jax.vmap(jax.random.split)(jax.random.split(mutation, stage.population))
    return Draws(
        jax.random.uniform(selection, (2 * pairs, entrants)),
        jax.vmap(jax.random.uniform)(jax.random.split(crossover, pairs)),
        jax.vmap(lambda key: jax.random.uniform(key, (stage.genes + 1,))[1:])(gene_and_fresh[:, 0]),
        jax.vmap(lambda key: jax.random.uniform(key, (stage.genes, 2)))(gene_and_fresh[:, 1]),
    )


@jax.jit
def _features(classifier: Classifier, images: np.ndarray):
    maps, logits = features_and_logits(classifier, images)
    return maps[:FEATURE_DEPTHS], logits


@functools.partial(jax.jit, static_argnames="depth")
def _to_depth(classifier: Classifier, images: np.ndarray, depth: int):
    return classifier.features(images)[depth]  # the compiler leaves out the layers after it


@jax.jit
def _logits(classifier: Classifier, images: np.ndarray):
    return classifier(images)


def _check_published(config: Config) -> None:
    published = presets.dissertation()
    parts = ("operators", "fitness", "fill", "scoring", "score_inside_only")
    changed = [part for part in parts if getattr(config, part) != getattr(published, part)]
    odd = lambda stage: stage.penalty or stage.inverses or stage.num_offspring != stage.population or stage.cycles > 1
    changed += ["stages" for stage in config.stages if odd(stage)]
    if changed:
        raise InputError(f"the sequential loop is the preset dissertation; its {', '.join(changed)} cannot be changed")
