"""Everything that fitness and scoring want to know about the P masks of a generation, in one batched forward pass.

Where only some masks are worth a look at their inverse, it takes a second pass for these (see `Hopeful`).

A population is cut into equal batches of at most `batch_size` images, which go through the classifier one after the
other. The shape of a batch follows from the population alone, so an image gets the same bits however many are explained
together, and only one batch of masked images exists at a time. (The published code runs the network nine times for
each mask, one image at a time.)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evomask import fills
from evomask.search import genome
from evomask.search.batching import in_batches
from evomask.types import Array, Classifier, Evaluation, Image, Mask, Target

FEATURE_DEPTHS = 3  # the published distance compares three depths; the shipped networks name a fourth for Grad-CAM


class Hopeful(NamedTuple):
    """Which masks have their inverse evaluated, once it is known what they are worth themselves."""

    num: int
    rank: Callable[[Evaluation], Array]  # of P masks, inverse fields NaN -> f32[P]; those of the largest are looked at


def evaluate(
    classifier: Classifier,
    target: Target,
    blank: Array,
    masks: Mask,
    *,
    inverse: bool,
    features: bool,
    batch_size: int,
    axis: str | None = None,
) -> Evaluation:
    """Sends P masked images (and P inverse-masked ones, if asked) through the classifier.

    Args:
      classifier: logits of images in [0, 1].
      target: image and class; with features, its feature maps.
      blank: f32[H, W, C], what shows where a mask does not.
      masks: bool[P, H, W].
      inverse: whether to evaluate the inverse-masked images too; their fields are NaN otherwise.
      features: whether to compare feature maps; `distance` is NaN otherwise.
      batch_size: the most images in one call of the classifier.
      axis: of a mesh, whose devices share the calls; see `in_batches`.
    """
    num = len(masks)
    queue = jnp.concatenate([masks, ~masks]) if inverse else masks
    _, size = batches(len(queue), batch_size)
    look = functools.partial(_look, classifier, target, blank, features)
    log_prob, margin, distance = in_batches(look, queue, size, axis)
    missing = jnp.full(num, jnp.nan)
    return Evaluation(
        area=genome.area(masks),
        confidence=jnp.exp(log_prob[:num]),
        margin=margin[:num],
        inverse_confidence=jnp.exp(log_prob[num:]) if inverse else missing,
        inverse_margin=margin[num:] if inverse else missing,
        distance=distance[:num],
        boundary=genome.boundary(masks),
    )


def evaluate_fills(
    classifier: Classifier,
    target: Target,
    blanks: Array,
    masks: Mask,
    *,
    inverse: bool,
    hopeful: Hopeful | None = None,
    **options,
) -> Evaluation:
    """`evaluate` under every fill, blanks f32[F, H, W, C]; of each mask and each figure the worst counts.

    So a mask holds where it holds under all of the fills, and what it lacks is what it lacks under the hardest. With
    `hopeful`, inverses are evaluated of that many masks only; the inverse fields of the others are NaN.
    """
    later = inverse and hopeful is not None
    seen = _under_each(classifier, target, blanks, masks, inverse=inverse and not later, **options)
    worst = Evaluation(
        area=seen.area[0],
        confidence=seen.confidence.min(0),
        margin=seen.margin.min(0),
        inverse_confidence=seen.inverse_confidence.max(0),
        inverse_margin=seen.inverse_margin.max(0),
        distance=seen.distance.max(0),
        boundary=seen.boundary[0],
    )
    if not later:
        return worst
    chosen = jax.lax.top_k(hopeful.rank(worst), hopeful.num)[1]  # pyright: ignore[reportOptionalMemberAccess]
    options = {**options, "features": False}
    inverses = _under_each(classifier, target, blanks, ~masks[chosen], inverse=False, **options)
    return with_inverses(worst, chosen, inverses.confidence.max(0), inverses.margin.max(0))


def with_inverses(seen: Evaluation, chosen: Array, confidence: Array, margin: Array) -> Evaluation:
    """The evaluation of P masks, with what was said of the inverses of those int32[N] that were chosen, f32[N] each."""
    return dataclasses.replace(
        seen,
        inverse_confidence=seen.inverse_confidence.at[chosen].set(confidence),
        inverse_margin=seen.inverse_margin.at[chosen].set(margin),
    )


def _under_each(classifier: Classifier, target: Target, blanks: Array, masks: Mask, **options) -> Evaluation:
    """`evaluate` under every fill: fields f32[F, P]."""
    under = lambda blank: evaluate(classifier, target, blank, masks, **options)
    if len(blanks) == 1:  # no loop
        return jax.tree.map(lambda field: field[None], under(blanks[0]))
    return jax.lax.map(under, blanks)


def cost(masks: int, inverses: int = 0, fills: int = 1) -> int:
    """Evaluations, that is images sent through the classifier, of so many masks and inverses."""
    return (masks + inverses) * fills


def batches(num: int, most: int) -> tuple[int, int]:
    """How many calls of the classifier, and of how many images each, `num` images take at no more than `most` a call.

    >>> batches(20, 8)
    (3, 7)
    """
    calls = -(-num // most)
    return calls, -(-num // calls)


def log_prob_and_margin(logits: Array, label: Array, contrast: Array | None = None) -> tuple[Array, Array]:
    """f32[N, K], int32[] -> log-probability of the label and its margin over the best other class, both f32[N].

    With a contrast (int32[]) it is the only other class: the decision between the two is explained, whatever else the
    image might be.

    >>> log_prob, margin = log_prob_and_margin(jnp.array([[0.0, 2.0, 0.0]]), 1)
    >>> round(float(margin[0]), 4)
    2.0
    >>> round(float(log_prob_and_margin(jnp.array([[1.0, 2.0, 9.0]]), 1, contrast=0)[1][0]), 4)
    1.0
    """
    if contrast is not None:
        classes = jnp.arange(logits.shape[-1])
        logits = jnp.where(((classes == label) | (classes == contrast))[None], logits, -jnp.inf)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    is_label = (jnp.arange(logits.shape[-1]) == label)[None]
    own = jnp.max(jnp.where(is_label, log_probs, -jnp.inf), axis=-1)
    other = jnp.max(jnp.where(is_label, -jnp.inf, log_probs), axis=-1)
    return own, own - other


def _look(classifier: Classifier, target: Target, blank: Array, features: bool, masks: Mask):
    images = fills.apply(masks, target.image, blank)
    if not features:
        log_prob, margin = log_prob_and_margin(classifier(images), target.label, target.contrast)
        return log_prob, margin, jnp.full_like(margin, jnp.nan)
    maps, logits = features_and_logits(classifier, images)
    log_prob, margin = log_prob_and_margin(logits, target.label, target.contrast)
    distances = [
        jnp.mean(jnp.square(seen - whole[None]), axis=range(1, seen.ndim)) for seen, whole in zip(maps, target.features)
    ]
    return log_prob, margin, sum(distances) / len(distances)


def feature_maps(classifier: Classifier, image: Image) -> tuple[Array, ...]:
    """The feature maps of one image that distances are measured on: f32[h, w, c] each, shallow to deep."""
    return tuple(maps[0] for maps in classifier.features(image[None])[:FEATURE_DEPTHS])  # pyright: ignore[reportAttributeAccessIssue]


def features_and_logits(classifier: Classifier, images: Array) -> tuple[tuple[Array, ...], Array]:
    """Feature maps and logits, from one pass where the classifier offers it."""
    if hasattr(classifier, "features_and_logits"):
        return classifier.features_and_logits(images)  # pyright: ignore[reportAttributeAccessIssue]
    return classifier.features(images), classifier(images)  # pyright: ignore[reportAttributeAccessIssue]
