"""From a heat map to a mask, by rules that are stated: the pixels in the order of their score, cut at a prefix.

`sweep` evaluates prefixes of equally spaced areas once, masked and inverse-masked, and costs 2 * steps evaluations
per image, which are reported apart from those of the method. The rules that need evaluations then only read the
sweep; `fixed_area`, `equal_area` and `own_mask` need none.

Equal scores are in random order, the same for all maps of one size, for in the order of the pixels a map would be given
credit for compact shapes that it does not have. A constant map therefore gives scattered pixels: its masks are computed
all the same and marked `Reason.CONSTANT`. A map with NaN or infinity gives no mask: `Reason.NOT_FINITE`. Without a mask
the whole image is returned, so that a failure counts as area 1 everywhere. Negative values are scores like any others.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask import validate
from evomask.measures.budget import Counted, Spent, bare
from evomask.search.batching import batch_size, in_batches
from evomask.search.evaluate import evaluate
from evomask.settings import pinned
from evomask.types import RATIO, Array, Classifier, InputError, Mask, Target, Verdict, decide, record, whole


class Reason(enum.IntEnum):
    """What to make of a mask cut from a heat map."""

    FOUND = 0
    NOT_FOUND = 1  # no prefix has the property asked for: the mask is the whole image
    CONSTANT = 2  # one value everywhere: the mask is pixels drawn at random and owes nothing to the method
    NOT_FINITE = 3  # NaN or infinity in the map: the mask is the whole image


@record
class Sweep:
    """What the classifier makes of T prefixes of B heat maps; a margin is positive where the label is predicted."""

    score: Array  # f32[B, H, W]
    pixels: Array  # int32[T], kept by each prefix
    area: Array  # f32[T], the same as fractions
    whole: Array  # f32[B], probability of the label for the whole image
    confidence: Array  # f32[B, T], for the masked image
    margin: Array  # f32[B, T]
    inverse_confidence: Array  # f32[B, T], for the inverse-masked image
    inverse_margin: Array  # f32[B, T]


@record
class Cut:
    """One mask per heat map."""

    mask: Mask  # bool[B, H, W]
    area: Array  # f32[B], 1 where no mask was found
    reason: Array  # int32[B], a `Reason`


def cost(steps: int = 100) -> Spent:
    """Evaluations of one image's sweep: two for every prefix, the last of which is the whole image."""
    return Spent(forward=2 * steps)


@pinned
def sweep(
    classifier: Classifier | Counted, images: Array, labels: Array, scores: Array, blanks: Array, *, steps: int = 100
) -> Sweep:
    """Evaluates the prefixes of area 1/T, 2/T, ..., 1 of every heat map, masked and inverse-masked.

    Args:
      images, blanks: f32[B, H, W, C]. labels: int[B]. scores: f32[B, H, W]. steps: T, at most H * W.

    Raises:
      InputError: the shapes do not belong together, a label is no class, or there are more steps than pixels.
    """
    images, labels, scores, blanks = validate.measured(bare(classifier), images, labels, blanks, scores=scores)
    steps = whole("steps", steps)
    if steps > scores[0].size:
        raise InputError(f"steps is {steps}: give at most {scores[0].size}, the number of pixels")
    return _sweep(bare(classifier), images, labels, scores, blanks, steps)


@functools.partial(jax.jit, static_argnames="steps")
def _sweep(classifier, images, labels, scores, blanks, steps: int) -> Sweep:
    pixels = prefix_pixels(steps, scores[0].size)

    def one(item):
        image, label, score, blank = item
        target = Target(image, label, jnp.nan)  # its confidence comes with the others, as that of the last prefix
        masks = places(score)[None] < pixels[:, None, None]
        found = evaluate(
            classifier, target, blank, masks, inverse=True, features=False, batch_size=batch_size(classifier)
        )
        return found.confidence[-1], found.confidence, found.margin, found.inverse_confidence, found.inverse_margin

    seen = jax.lax.map(one, (images, labels, scores, blanks))
    return Sweep(scores, pixels, pixels.astype(jnp.float32) / scores[0].size, *seen)


def verdict(sweep: Sweep, ratio: float = 0.0) -> Verdict:
    """Whether each prefix is sufficient, with `ratio` of the whole image's probability, and necessary: bool[B, T]."""
    return decide(sweep.margin, sweep.confidence, sweep.inverse_margin, ratio * sweep.whole[:, None])


def smallest_sufficient(sweep: Sweep, ratio: float = 0.0) -> Cut:
    """The smallest prefix that keeps the label, with at least `ratio` of the whole image's probability."""
    return _first(sweep, verdict(sweep, ratio).sufficient)


def smallest_complete(sweep: Sweep, ratio: float = RATIO) -> Cut:
    """The smallest prefix that is sufficient (see above) and whose inverse loses the label."""
    return _first(sweep, verdict(sweep, ratio).complete)


def best_cp(sweep: Sweep) -> Cut:
    """Of the prefixes that keep the label, the one with the greatest probability / area (CP)."""
    keeps = verdict(sweep).keeps_class
    cp = jnp.where(keeps, sweep.confidence / sweep.area[None], -jnp.inf)
    return _cut(sweep.score, sweep.pixels[jnp.argmax(cp, axis=-1)], keeps.any(-1))


def fixed_area(scores: Array, fraction: float) -> Cut:
    """The best `fraction` of the pixels (rounded, at least one); usually 0.05, 0.1 and 0.2.

    >>> fixed_area(jnp.arange(4.0).reshape(1, 2, 2), 0.25).mask
    Array([[[False, False],
            [False,  True]]], dtype=bool)
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction must lie in (0, 1], got {fraction}")
    pixels = max(round(fraction * scores[0].size), 1)
    return _cut(scores, jnp.full(len(scores), pixels), jnp.full(len(scores), True))


def equal_area(scores: Array, masks: Mask) -> Cut:
    """As many of the best pixels of each heat map as the mask beside it keeps: a comparison at equal area."""
    return _cut(scores, masks.sum((1, 2)), jnp.full(len(scores), True))


def own_mask(scores: Array) -> Cut:
    """score > 0, for methods whose score is itself a mask (random squares)."""
    mask = scores > 0
    return _cut(scores, mask.sum((1, 2)), mask.any((1, 2)))


def prefix_pixels(steps: int, size: int) -> Array:
    """int32[T]: round(t / T * size) for t = 1 .. T, but never zero.

    >>> prefix_pixels(4, 10)
    Array([ 3,  5,  8, 10], dtype=int32)
    """
    return jnp.asarray([max((2 * t * size + steps) // (2 * steps), 1) for t in range(1, steps + 1)], jnp.int32)


def places(score: Array, order: int = 0) -> Array:
    """f32[H, W] -> int32[H, W]: 0 for the greatest score; NaN last, equal scores in one of many random orders.

    >>> places(jnp.array([[1.0, 3.0], [2.0, jnp.nan]]))
    Array([[2, 0],
           [1, 3]], dtype=int32)
    >>> sorted(places(jnp.zeros((1, 4))).tolist()[0])
    [0, 1, 2, 3]
    """
    ties = np.random.default_rng(order).permutation(score.size)
    ranked = jnp.lexsort((jnp.asarray(ties), -score.reshape(-1)))
    return jnp.zeros(score.size, jnp.int32).at[ranked].set(jnp.arange(score.size)).reshape(score.shape)


def in_every_order(
    ask: Callable[[Array, Array, Array], Any], score: Array, pixels: Array, orders: int, size: int
) -> Any:
    """What `ask` finds at each of the pixel counts T, in each of so many orders of equal scores: [orders, T].

    Of `size` questions at a time it takes `places` int32[N, H, W], counts int32[N, 1, 1] and the questions' numbers
    int32[N], and returns a pytree of arrays [N].

    >>> best = lambda places, pixels, number: (places < pixels).sum((1, 2))
    >>> in_every_order(best, jnp.array([[1.0, 3.0], [2.0, 0.0]]), jnp.array([0, 3]), 2, 8)
    Array([[0, 3],
           [0, 3]], dtype=int32)
    """
    ranked = jnp.stack([places(score, order) for order in range(orders)])

    def asked(number: Array) -> Array:
        order, step = jnp.divmod(number, len(pixels))
        return ask(ranked[order], pixels[step][:, None, None], number)

    found = in_batches(asked, jnp.arange(orders * len(pixels)), size)
    return jax.tree.map(lambda x: x.reshape(orders, -1), found)


def _first(sweep: Sweep, holds: Array) -> Cut:
    return _cut(sweep.score, sweep.pixels[jnp.argmax(holds, axis=-1)], holds.any(-1))


def _cut(scores: Array, pixels: Array, found: Array) -> Cut:
    """The best pixels[b] of each map, or the whole image with the reason why not."""
    finite = jnp.isfinite(scores).all((1, 2))
    constant = (scores == scores[:, :1, :1]).all((1, 2))
    usable = found & finite
    masks = (jax.vmap(places)(scores) < pixels[:, None, None]) | ~usable[:, None, None]
    reason = jnp.select(
        [~finite, ~found, constant],
        [jnp.int32(Reason.NOT_FINITE), jnp.int32(Reason.NOT_FOUND), jnp.int32(Reason.CONSTANT)],
        jnp.int32(Reason.FOUND),
    )
    return Cut(masks, masks.mean((1, 2), dtype=jnp.float32), reason)
