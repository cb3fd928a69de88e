"""A surrogate of the classifier, learnt as the search goes: it says which children are worth an evaluation.

The masks evaluated last are the samples of a Gaussian process: masks that share most of their pixels have nearly the
same figures. More children are bred than evaluated, and those that promise the largest improvement go to the
classifier; a mask that it has seen before does not.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from evomask.search import genome as genes
from evomask.search.process import Process, condition, ignorant, predict
from evomask.search.sketches import differing, fingerprints, sketch
from evomask.types import Array, Evaluation, Genome, InputError, Key, Mask, record, static

OF_INVERSES = np.array([0, 0, 1, 1, 0])  # which of the targets of `encode`, the second kind of figures
WORSE = np.array([-1, -1, 1, 1, 1], np.float32)  # the sign in which each gets worse
MOST_NATS = 8.0  # beyond it a margin is as good as certain, and would only bend the surface


@record
class Model:
    """The masks evaluated last and what was said of them, newest first, and fingerprints of more of them."""

    sketches: Array  # [N, F], see `evomask.search.sketches.sketch`
    targets: Array  # f32[N, M], see `encode`
    known: Array  # bool[2, N], whether the figures of the masked and of the inverse-masked image are known
    process: Process  # what these samples say of others
    seen: Array  # uint32[recent], `fingerprints` of the last masks; zero, that of the empty one, where there were none
    caution: Array  # f32[], deviations by which beliefs are worse than the mean, see `Caution`


@record
class Caution:
    """Masks compete by what the model believes of them rather than by the one showing that each was seen in.

    A belief is the posterior mean, made worse by so many deviations of what a showing may give. How many follows what
    happens: each generation the champion is shown anew `again` times, and where it fails more often than one time in
    1 / (1 - level) the search grows more cautious (stochastic approximation, Robbins & Monro 1951).
    """

    deviations: float = 1.0  # to begin with
    rate: float = 0.2  # by how much these change after a surprise
    level: float = 0.95  # share of showings in which a champion should be complete
    again: int = static(default=2)  # showings of the champion in each generation, in place of as many children


@record
class Screening:
    """Surrogate-assisted breeding (Jin 2011): choose children by expected improvement (Jones et al. 1998).

    A child's figures are predicted by Gaussian processes (Rasmussen & Williams 2006, chapter 2), one over masked and
    one over inverse-masked images. Their covariance falls exponentially with the share of the image in which two masks
    differ; their mean and variance are those that explain the samples best. What counts is by how much the child is
    expected to
    pass the best of the population: a small mask that might hold promises more than a large one that will.
    """

    candidates: int = static(default=32)  # children bred for each one that is evaluated
    grid: int = static(default=32)  # rows and columns of the sketches by which masks are compared
    samples: int = static(default=112)  # the most rows and columns at which the mask of a candidate is looked at
    draws: int = static(default=16)  # of what a candidate may turn out to be
    memory: int = static(default=256)  # masks evaluated last, which predictions go by
    recent: int = static(default=4096)  # masks evaluated last, which are not evaluated again
    reach: float = 0.1  # share of the image in which two masks differ that have a correlation of 1 / e
    noise: float = 0.002  # variance that no other mask explains, of the whole
    caution: Caution | None = None  # None: masks compete by their figures, as they were seen

    def init(self, shape: tuple[int, int]) -> Model:
        """A model that knows nothing of masks of H x W pixels."""
        nothing = sketch(self.sample(jnp.zeros((1, *shape), bool)), self.grid)
        sketches, targets = jnp.repeat(nothing, self.memory, axis=0), jnp.zeros((self.memory, len(OF_INVERSES)))
        seen, caution = jnp.zeros(self.recent, jnp.uint32), jnp.float32(self.caution.deviations if self.caution else 0)
        process = ignorant(self.memory, OF_INVERSES)
        return Model(sketches, targets, jnp.zeros((2, self.memory), bool), process, seen, caution)

    def learn(self, model: Model, masks: Mask, evaluation: Evaluation) -> Model:
        """The model with a generation of P evaluated masks, bool[P, H, W], in place of its oldest samples.

        Masks whose inverse was not evaluated tell nothing about inverses.
        """
        sampled = self.sample(masks)
        own = sketch(sampled, self.grid)
        known = jnp.stack([jnp.ones(len(masks), bool), ~jnp.isnan(evaluation.inverse_margin)])
        sketches = jnp.concatenate([own, model.sketches])[: self.memory]
        targets = jnp.concatenate([encode(evaluation), model.targets])[: self.memory]
        known = jnp.concatenate([known, model.known], axis=1)[:, : self.memory]
        correlation = self.correlation(sketches, sketches, sampled[0].size)
        return Model(
            sketches=sketches,
            targets=targets,
            known=known,
            process=condition(correlation, targets, known, OF_INVERSES, self.noise),
            seen=jnp.concatenate([fingerprints(own), model.seen])[: self.recent],
            caution=model.caution,
        )

    def posterior(self, model: Model, masks: Mask) -> tuple[Array, Array]:
        """Mean and standard deviation of every target of P masks, given the samples: both f32[P, M]."""
        mean, variance, doubt = self._posterior(model, masks)
        return mean, jnp.sqrt(doubt * variance)

    def _posterior(self, model: Model, masks: Mask) -> list[Array]:
        """As `process.predict`."""
        across = self.correlation(sketch(masks, self.grid), model.sketches, masks[0].size)
        return predict(model.process, across, model.known, OF_INVERSES, self.noise)

    def correlation(self, first: Array, second: Array, pixels: int) -> Array:
        """Of masks of so many pixels by their sketches, [P, F] and [Q, F]: f32[P, Q] in (0, 1], 1 where they agree."""
        return jnp.exp(-jnp.maximum(differing(first, second, pixels), 0.0) / self.reach)

    def surprised(self, model: Model, held: Array, again: Array) -> Model:
        """The model with its caution after a champion was shown `again`, bool[P], and `held` or did not, bool[P]."""
        caution: Caution = self.caution  # pyright: ignore[reportAssignmentType]
        surprise = jnp.where(again, caution.level - held.astype(jnp.float32), 0.0).sum() / max(caution.again, 1)
        return dataclasses.replace(model, caution=jnp.maximum(model.caution + caution.rate * surprise, 0.0))

    def predict(self, key: Key, model: Model, masks: Mask) -> Evaluation:
        """Draws from what the model makes of P masks: an `Evaluation` with fields f32[draws, P]."""
        mean, variance, doubt = self._posterior(model, masks)
        # A mask's confidence and its margin err together.
        noise = jax.random.normal(key, (self.draws, 1, 2))[..., OF_INVERSES]
        if self.caution is None:
            return decode(
                mean[None] + jnp.sqrt(doubt * variance)[None] * noise, genes.area(masks), genes.boundary(masks)
            )
        # What will be believed once the mask was seen: the mean has moved, and a part of the doubt is gone.
        fresh = jnp.maximum(doubt - self.noise, 0.0)
        moves, stays = fresh / jnp.sqrt(doubt), jnp.sqrt(fresh * self.noise / doubt + self.noise)
        spread = jnp.sqrt(variance)
        moved = mean[None] + (moves * spread)[None] * noise
        return decode(
            moved + (WORSE[None] * model.caution * stays * spread)[None], genes.area(masks), genes.boundary(masks)
        )

    def is_known(self, model: Model, masks: Mask) -> Array:
        """bool[P]: masks as `rasterize` gives them, bool[P, h, w], that the model has seen or that equal one before
        them.

        A search by small changes breeds the same masks again and again: a patch that others cover changes nothing.
        """
        own = fingerprints(sketch(masks, self.grid))
        repeated = jnp.tril(own[:, None] == own[None], -1).any(1)
        return repeated | (own[:, None] == model.seen[None]).any(1)

    def rasterize(self, genomes: Genome, region: Mask) -> Mask:
        """Masks at some rows and columns only, enough to choose by: bool[P, h, w], h and w at most `samples`."""
        return self.sample(region[None]) & genes.rasterize(genomes, region.shape, self.stride(region.shape))

    def sample(self, masks: Mask) -> Mask:
        """The rows and columns of `rasterize`: bool[P, H, W] -> bool[P, h, w]."""
        step = self.stride(masks.shape[1:])
        return masks[:, step // 2 :: step, step // 2 :: step]

    def stride(self, shape: tuple[int, ...]) -> int:
        """Pixels from one row or column that is looked at to the next."""
        return -(-max(shape) // self.samples)


def check_screening(screening: Screening | None) -> None:
    """Raises InputError unless the sizes are whole numbers of 1 or more and the rates make sense."""
    if screening is None:
        return
    for name in ("candidates", "grid", "samples", "draws", "memory", "recent"):
        value = getattr(screening, name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"screening: {name} is {value!r}: give a whole number of 1 or more")
    if screening.caution is not None:
        _check_caution(screening.caution)
    for name in ("reach", "noise"):
        if not getattr(screening, name) > 0:
            raise InputError(f"screening: {name} is {getattr(screening, name)}: give a positive number")


def _check_caution(caution: Caution) -> None:
    if not isinstance(caution.again, int) or caution.again < 1:
        raise InputError(f"caution: again is {caution.again!r}: give a whole number of 1 or more")
    for name in ("deviations", "rate"):
        if not getattr(caution, name) >= 0:
            raise InputError(f"caution: {name} is {getattr(caution, name)}: give a number from 0")
    if not 0 < caution.level < 1:
        raise InputError(f"caution: level is {caution.level}: give a share above 0 and below 1")


def log_odds(probability: Array) -> Array:
    """Of probabilities from 0 to 1, kept finite."""
    return jnp.log(probability + 1e-9) - jnp.log1p(1e-6 - probability)


def encode(evaluation: Evaluation) -> Array:
    """What the model predicts, f32[P, 5]: confidences as log-odds; a field that was not asked for is zero."""
    nats = [
        log_odds(evaluation.confidence),
        evaluation.margin,
        log_odds(evaluation.inverse_confidence),
        evaluation.inverse_margin,
    ]
    targets = [*(jnp.clip(x, -MOST_NATS, MOST_NATS) for x in nats), evaluation.distance]
    return jnp.nan_to_num(jnp.stack(targets, axis=-1))


def decode(targets: Array, area: Array, boundary: Array) -> Evaluation:
    """The inverse of `encode`: f32[..., P, 5] and f32[P] twice -> fields f32[..., P]."""
    confidence, margin, inverse_confidence, inverse_margin, distance = jnp.moveaxis(targets, -1, 0)
    return Evaluation(
        area=jnp.broadcast_to(area[(None,) * (margin.ndim - 1)], margin.shape),
        confidence=jax.nn.sigmoid(confidence),
        margin=margin,
        inverse_confidence=jax.nn.sigmoid(inverse_confidence),
        inverse_margin=inverse_margin,
        distance=distance,
        boundary=jnp.broadcast_to(boundary[(None,) * (margin.ndim - 1)], margin.shape),
    )


def believed(posterior: tuple[Array, Array], evaluation: Evaluation, caution: Array | float) -> Evaluation:
    """What a model makes of P masks, their figures worse by `caution` deviations: fields f32[P].

    `posterior` is that of `Screening.posterior`, f32[P, M] twice. Areas and boundaries are those of `evaluation`,
    f32[P] each, and what was never seen, with an area of NaN, stays NaN.
    """
    mean, deviation = posterior
    seen = decode(mean + WORSE[None] * caution * deviation, evaluation.area, evaluation.boundary)
    unseen = jnp.isnan(evaluation.area)
    return jax.tree.map(lambda x: jnp.where(unseen, jnp.nan, x), seen)


def improvement(values: Array, best: Array) -> Array:
    """Expected improvement over `best`, f32[]: f32[draws, P] -> f32[P]. Where nothing improves, the mean value decides.

    >>> improvement(jnp.array([[1.0, 3.0], [1.0, 1.0]]), jnp.array(2.0)).round(2)
    Array([0. , 0.5], dtype=float32)
    """
    return jnp.maximum(values - best, 0.0).mean(0) + 1e-6 * values.mean(0)
