"""A surrogate of the classifier, learnt as the search goes: it says which children are worth an evaluation.

Every evaluated mask is a sample of a linear model: the share of each cell of a grid that it keeps -> what the evaluation
said. More children are bred than evaluated, and those that promise the largest improvement go to the classifier; a mask
that it has seen before does not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from evomask import genome as genes
from evomask.types import Array, Evaluation, Genome, InputError, Key, Mask, record, static

OF_INVERSES = np.array([False, False, True, True, False])  # which of the targets of `encode`
MOST_NATS = 8.0  # beyond it a margin is as good as certain, and would only bend the line


@record
class Model:
    """Two ridge regressions over the samples so far, the weight of older ones fading: on masked and on inverse images.

    It also remembers which masks it has seen.
    """

    gram: Array  # f32[2, F, F], products of features: of all samples, and of those whose inverse was evaluated
    moments: Array  # f32[F, M], products of features and targets
    weights: Array  # f32[F, M], coefficients; the last row is the constant
    squares: Array  # f32[M], squared errors of the predictions that were made before each sample was seen
    count: Array  # f32[M], samples
    seen: Array  # uint32[recent], `fingerprints` of the last masks; zero, that of the empty one, where there were none


@record
class Screening:
    """Surrogate-assisted breeding (Jin 2011): choose children by expected improvement (Jones et al. 1998).

    A child's figures are predicted by the linear model, with Gaussian errors as large as those of its predictions so
    far. What counts is by how much the child is expected to pass the best of the population: a small mask that might
    hold promises more than a large one that will.
    """

    candidates: int = static(8)  # children bred for each one that is evaluated
    grid: int = static(8)  # cells to a side
    samples: int = static(112)  # the most rows and columns at which the mask of a candidate is looked at
    draws: int = static(16)  # of the prediction error
    recent: int = static(4096)  # masks evaluated last, which are not evaluated again
    memory: float = 0.95  # what is left of a sample's weight after each generation
    ridge: float = 1.0

    def init(self) -> Model:
        """A model that knows nothing."""
        size, targets = self.grid**2 + 1, 5
        nothing, none = jnp.zeros((size, targets)), jnp.zeros(targets)
        return Model(jnp.zeros((2, size, size)), nothing, nothing, none, none, jnp.zeros(self.recent, jnp.uint32))

    def learn(self, model: Model, masks: Mask, evaluation: Evaluation) -> Model:
        """The model with a generation of P evaluated masks, bool[P, H, W], added to its samples.

        Masks whose inverse was not evaluated tell nothing about inverses.
        """
        features, targets = self.features(masks), encode(evaluation)
        looked = ~jnp.isnan(evaluation.inverse_margin)
        seen = jnp.where(OF_INVERSES[None], looked[:, None], True).astype(jnp.float32)  # f32[P, M]
        errors, samples = seen * (targets - features @ model.weights), jnp.where(looked[:, None], features, 0.0)
        fade = lambda total, new: self.memory * total + new
        gram = fade(model.gram, jnp.stack([features.T @ features, samples.T @ samples]))
        moments = fade(model.moments, features.T @ (seen * targets))
        shrink = jnp.full(features.shape[1], self.ridge).at[-1].set(1e-3)  # hardly the constant
        solve = lambda gram: jax.scipy.linalg.solve(gram + jnp.diag(shrink), moments, assume_a="pos")
        weights = jnp.where(OF_INVERSES[None], solve(gram[1]), solve(gram[0]))
        squares, count = fade(model.squares, jnp.square(errors).sum(0)), fade(model.count, seen.sum(0))
        remembered = jnp.concatenate([fingerprints(self.sample(masks)), model.seen])[: self.recent]
        return Model(gram, moments, weights, squares, count, remembered)

    def features(self, masks: Mask) -> Array:
        """Share of each cell that is kept, and a one: bool[P, H, W] -> f32[P, grid^2 + 1].

        >>> Screening(grid=2).features(jnp.eye(4, dtype=bool)[None])
        Array([[0.5, 0. , 0. , 0.5, 1. ]], dtype=float32)
        """
        rows, cols = (_cells(self.grid, length) for length in masks.shape[1:])
        shares = jnp.einsum("gh,phw,kw->pgk", rows, masks.astype(jnp.float32), cols).reshape(len(masks), -1)
        return jnp.concatenate([shares, jnp.ones((len(masks), 1))], axis=1)

    def predict(self, key: Key, model: Model, masks: Mask) -> Evaluation:
        """Draws from what the model makes of P masks: an `Evaluation` with fields f32[draws, P]."""
        spread = jnp.sqrt(model.squares / jnp.maximum(model.count, 1.0))
        mean = self.features(masks) @ model.weights
        noise = jax.random.normal(key, (self.draws, 1, mean.shape[1]))
        return decode(mean[None] + spread[None, None] * noise, genes.area(masks))

    def is_known(self, model: Model, masks: Mask) -> Array:
        """bool[P]: masks as `rasterize` gives them, bool[P, h, w], that the model has seen or that equal one before them.

        A search by small changes breeds the same masks again and again: a patch that others cover changes nothing.
        """
        own = fingerprints(masks)
        repeated = jnp.tril(own[:, None] == own[None], -1).any(1)
        return repeated | (own[:, None] == model.seen[None]).any(1)

    def rasterize(self, genomes: Genome, region: Mask) -> Mask:
        """Masks at some rows and columns only, which is enough to choose by: bool[P, h, w], h and w at most `samples`."""
        return self.sample(region[None]) & genes.rasterize(genomes, region.shape, self.step(region.shape))

    def sample(self, masks: Mask) -> Mask:
        """The rows and columns of `rasterize`: bool[P, H, W] -> bool[P, h, w]."""
        step = self.step(masks.shape[1:])
        return masks[:, step // 2 :: step, step // 2 :: step]

    def step(self, shape: tuple[int, ...]) -> int:
        """Pixels from one row or column that is looked at to the next."""
        return -(-max(shape) // self.samples)


def check_screening(screening: Screening | None) -> None:
    """Raises InputError unless the sizes are whole numbers of 1 or more and the rates make sense."""
    if screening is None:
        return
    for name in ("candidates", "grid", "samples", "draws", "recent"):
        value = getattr(screening, name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"screening: {name} is {value!r}: give a whole number of 1 or more")
    if not 0 < screening.memory <= 1:
        raise InputError(f"screening: memory is {screening.memory}: give a number above 0, and at most 1")
    if not screening.ridge > 0:
        raise InputError(f"screening: ridge is {screening.ridge}: give a positive number")


def fingerprints(masks: Mask) -> Array:
    """Numbers that are equal for equal masks and hardly ever for others, zero for the empty one: bool[P, h, w] -> uint32[P].

    >>> same, other, again, empty = fingerprints(jnp.array([[[1, 0]], [[1, 1]], [[1, 0]], [[0, 0]]], bool)).tolist()
    >>> same == again, same == other, empty
    (True, False, 0)
    """
    of_pixels = np.random.default_rng(0).integers(1, 2**32, masks.shape[1:], dtype=np.uint32)
    return jnp.where(masks, of_pixels[None], np.uint32(0)).sum((1, 2), dtype=jnp.uint32)


def encode(evaluation: Evaluation) -> Array:
    """What the model predicts, f32[P, 5]: confidences as logarithms; a field that was not asked for is zero."""
    log = lambda probability: jnp.log(probability + 1e-9)
    nats = [log(evaluation.confidence), evaluation.margin, log(evaluation.inverse_confidence), evaluation.inverse_margin]
    targets = [*(jnp.clip(x, -MOST_NATS, MOST_NATS) for x in nats), evaluation.distance]
    return jnp.nan_to_num(jnp.stack(targets, axis=-1))


def decode(targets: Array, area: Array) -> Evaluation:
    """The inverse of `encode`: f32[..., P, 5] and f32[P] -> fields f32[..., P]."""
    log_confidence, margin, log_inverse, inverse_margin, distance = jnp.moveaxis(targets, -1, 0)
    probability = lambda log: jnp.exp(jnp.minimum(log, 0.0))
    return Evaluation(
        area=jnp.broadcast_to(area[(None,) * (margin.ndim - 1)], margin.shape),
        confidence=probability(log_confidence),
        margin=margin,
        inverse_confidence=probability(log_inverse),
        inverse_margin=inverse_margin,
        distance=distance,
    )


def improvement(values: Array, best: Array) -> Array:
    """Expected improvement over `best`, f32[]: f32[draws, P] -> f32[P]. Where nothing improves, the mean value decides.

    >>> improvement(jnp.array([[1.0, 3.0], [1.0, 1.0]]), jnp.array(2.0)).round(2)
    Array([0. , 0.5], dtype=float32)
    """
    return jnp.maximum(values - best, 0.0).mean(0) + 1e-6 * values.mean(0)


def _cells(grid: int, length: int) -> np.ndarray:
    """f32[grid, length]: averages over `grid` cells of nearly equal length."""
    member = np.arange(length) * grid // length == np.arange(grid)[:, None]
    return (member / np.maximum(member.sum(1, keepdims=True), 1)).astype(np.float32)
