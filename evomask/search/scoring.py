"""The score matrix: how much each pixel contributed to the decision, without a gradient.

A scoring rule says what a generation adds to a running sum: `(Seen) -> f32[H, W]`. Where it has `init(shape)`, which
gives the sum to begin with, the sum may be any pytree of arrays, and `merge(sums, others)` may say what else than the
sum becomes of two; `effects(sums)` makes of it what each pixel contributes and the standard error of that,
f32[..., H, W] each, and `contributions(sums)` what the score is made of, if not of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evomask.search.genome import Space, coverage
from evomask.types import Array, Evaluation, Genome, Mask, record

STEPS = 4096  # of one, in which confidences and their squares are summed
FINEST = 12  # halvings from the greatest weight of a mask to the least that counts
LOWEST = -(2**30)  # the level of no mask
AHEAD = 4.0  # how much more windows count than a pixel's own contribution, outside of the mask
FEW = 2  # pictures that show a pixel, and as many that do not, from which on something is known of it


class Seen(NamedTuple):
    """What a scoring rule is told of a generation."""

    champion: Genome  # int32[G, 3], the best individual so far
    evaluation: Evaluation  # fields f32[], of the champion
    feasible: Array  # bool[], whether it meets every constraint
    space: Space
    masks: Mask  # bool[P, H, W], evaluated in this generation
    evaluated: Evaluation  # fields f32[P], of these; NaN where an inverse was not asked for


class Scores(NamedTuple):
    """What is left of the sums in the end."""

    score: np.ndarray  # f32[B, H, W] in [0, 1], see `normalize`
    effect: np.ndarray | None  # f32[B, H, W], signed, NaN where nothing is known; None: the rule does not say
    error: np.ndarray | None  # f32[B, H, W], its standard error


@record
class BestOfGeneration:
    """The published rule: every patch of the generation's best individual adds score / (pixels of its mask).

    The score is the confidence of the masked image, and `infeasible` where the class changed or the inverse keeps it
    (or another constraint is broken): -1 as published. With 0 only masks that hold say what a pixel contributes; where
    none ever does, only the final mask has a score. Overlapping patches add up, so pixels that many patches agree on
    stand out, and smaller masks say more per pixel. (Run from top to bottom, the published code stops here with a
    TypeError: it calls its `score_mask` with one argument too few.)

    >>> from evomask.search.genome import space
    >>> everywhere, patches = space(jnp.ones((1, 3), bool), jnp.array([1])), jnp.array([[0, 0, 1], [0, 0, 0]])
    >>> evaluation = Evaluation(*map(jnp.float32, (2 / 3, 0.5, 1.0, 0.1, -1.0, jnp.nan, 1.0)))
    >>> BestOfGeneration()(Seen(patches, evaluation, jnp.array(True), everywhere, None, None))
    Array([[0.5 , 0.25, 0.  ]], dtype=float32)
    """

    infeasible: float = -1.0

    def __call__(self, seen: Seen) -> Array:
        region, evaluation = seen.space.region, seen.evaluation
        score = jnp.where(seen.feasible, evaluation.confidence, self.infeasible)
        pixels = jnp.maximum(evaluation.area * region.size, 1.0)
        return jnp.where(region, coverage(seen.champion, seen.space.shape), 0.0) * score / pixels


@record
class Sums:
    """Over the masked and over the inverse-masked pictures that the network was shown, apart: their number, their
    confidences y, the squares of these; `kept_...` over those that show a pixel.
    """

    num: Array  # f32[2]
    total: Array  # f32[2]
    squares: Array  # f32[2]
    kept_num: Array  # f32[2, H, W]
    kept_total: Array  # f32[2, H, W]
    kept_squares: Array  # f32[2, H, W]


@record
class MainEffects:
    """The main effect of every pixel, from everything that was seen: how much more confident the network is with it.

    The mean confidence where a pixel is shown less the mean where it is blanked: the main effect of a factor with two
    levels in a designed experiment (Box, Hunter & Hunter 2005, chapter 5), here of a design that the search has chosen.
    It is taken over the masked pictures and over the inverse-masked ones, and is the mean of the two, each of which has
    its share: else a pixel that no mask keeps would seem to speak against the class, for it is shown in inverse-masked
    pictures most of the time. RISE (Petsiuk et al. 2018) takes the first of the two means, over random masks. In
    [-1, 1]; the standard error is Welch's, as if the pictures were independent draws.

    >>> figures = jnp.array([[0.5, 0.5], [0.5, 1.0], [0.0, 0.0], [0.25, jnp.nan], *[[0.0, 0.0]] * 3])
    >>> masks = jnp.array([[[True, False]], [[True, True]]])
    >>> sums = MainEffects()(Seen(None, None, None, None, masks, Evaluation(*figures)))
    >>> sums.num.tolist(), sums.kept_total.tolist()
    ([2.0, 1.0], [[[1.5, 1.0]], [[0.0, 0.25]]])
    """

    def init(self, shape: tuple[int, int]) -> Sums:
        """The sums over no picture of H x W pixels."""
        return Sums(*[jnp.zeros(2)] * 3, *[jnp.zeros((2, *shape))] * 3)

    def __call__(self, seen: Seen) -> Sums:
        confidences = jnp.stack([seen.evaluated.confidence, seen.evaluated.inverse_confidence])
        asked = jnp.isfinite(confidences)  # bool[2, P]
        values = _steps(jnp.where(asked, confidences, 0.0))
        powers = jnp.stack([asked.astype(jnp.float32), values, _steps(values**2)])  # f32[3, 2, P]
        total = powers.sum(-1)
        masked, inverse = _kept(powers[:, 0], seen.masks), total[:, 1, None, None] - _kept(powers[:, 1], seen.masks)
        return Sums(*total, *jnp.stack([masked, inverse], axis=1))

    def effects(self, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
        """The effect and its standard error, f32[..., H, W] each; NaN where among neither kind of pictures two show a
        pixel and two do not.
        """
        wide = (np.asarray(x, np.float64)[..., None, None] for x in (sums.num, sums.total, sums.squares))
        kept = [np.asarray(x, np.float64) for x in (sums.kept_num, sums.kept_total, sums.kept_squares)]
        shown, blanked = _mean(*kept), _mean(*(whole - part for whole, part in zip(wide, kept)))
        effect, variance = shown[0] - blanked[0], shown[1] + blanked[1]  # f64[..., 2, H, W]
        known = np.isfinite(effect)
        kinds = np.where(known.any(-3), known.sum(-3), np.nan)
        effect, variance = (np.where(known, x, 0.0).sum(-3) for x in (effect, variance))
        return (effect / kinds).astype(np.float32), (np.sqrt(variance) / kinds).astype(np.float32)


@record
class Good:
    """Over the masks whose inverse was asked for, and over the others, apart: sums of weights 2^(level - top)."""

    top: Array  # int32[2], the highest level so far
    total: Array  # f32[2], of the weights, in units of 2^-FINEST
    kept: Array  # f32[2, H, W], of the weights of the masks that keep a pixel
    main: Sums  # of `MainEffects`


@record
class GoodMasks:
    """The share of the good masks that keep a pixel, of all that the search has evaluated.

    The mean of all evaluated masks, each with the weight exp((confidence - inverse confidence) / temperature): what a
    Gibbs distribution over the masks that the search has visited says of each pixel, and what the cross-entropy method
    (Rubinstein 1999) would draw the next masks from. A mask that keeps the class and takes it from the rest is
    what insertion and deletion ask for. Where a mask's inverse is not asked for, the weight is
    exp((confidence - area) / temperature), and those masks count only where no inverse ever was, as with
    `demand="sufficient"`. In [0, 1]. What it says of effects is what `MainEffects` says.

    Of pixels outside the final mask it says little, and each key something else: windows tell them apart, see
    `told_apart`.

    >>> figures = jnp.array([[0.5, 0.5], [0.75, 0.75], [0.0, 0.0], [0.25, 0.75], *[[0.0, 0.0]] * 3])
    >>> masks, rule = jnp.array([[[True, False]], [[True, True]]]), GoodMasks(temperature=0.25)
    >>> share = rule.contributions(rule(Seen(None, None, None, None, masks, Evaluation(*figures))))
    >>> share.astype(float).round(2).tolist()
    [[1.0, 0.2]]
    """

    temperature: float = 0.05  # in units of confidence

    def init(self, shape: tuple[int, int]) -> Good:
        """The sums over no mask of H x W pixels."""
        return Good(jnp.full(2, LOWEST, jnp.int32), jnp.zeros(2), jnp.zeros((2, *shape)), MainEffects().init(shape))

    def __call__(self, seen: Seen) -> Good:
        masked, inverse = seen.evaluated.confidence, seen.evaluated.inverse_confidence
        both, either = jnp.isfinite(masked) & jnp.isfinite(inverse), jnp.isfinite(masked) | jnp.isfinite(inverse)
        alone = jnp.where(jnp.isfinite(masked), masked, -inverse) - seen.evaluated.area
        known = jnp.stack([both, either & ~both])  # bool[2, P]
        levels = jnp.floor(jnp.stack([masked - inverse, alone]) / (self.temperature * math.log(2.0)))
        level = jnp.where(known, levels, LOWEST).astype(jnp.int32)
        top = level.max(axis=1)
        # Powers of two, so that no sum of them is rounded: it has the same bits in whatever order a compiler adds.
        weight = jnp.where(known, _down(jnp.float32(2**FINEST), level - top[:, None]), 0.0)
        return Good(top, weight.sum(axis=1), _kept(weight, seen.masks), MainEffects()(seen))

    def merge(self, sums: Good, others: Good) -> Good:
        """The sums over all masks of both."""
        top = jnp.maximum(sums.top, others.top)
        low = [
            (_down(one.total, one.top - top), _down(one.kept, (one.top - top)[:, None, None])) for one in (sums, others)
        ]
        (total, kept), (more, others_kept) = low
        return Good(top, total + more, kept + others_kept, jax.tree.map(jnp.add, sums.main, others.main))

    def effects(self, sums: Good) -> tuple[np.ndarray, np.ndarray]:
        """As `MainEffects.effects`."""
        return MainEffects().effects(sums.main)

    def contributions(self, sums: Good) -> np.ndarray:
        """f32[..., H, W] in [0, 1]: the weighted share of the masks that keep a pixel; 0 where there are no masks."""
        total, kept = np.asarray(sums.total)[..., None, None], np.asarray(sums.kept)
        share = kept / np.maximum(total, 1.0)
        return np.where(total[..., 0, :, :] > 0, share[..., 0, :, :], share[..., 1, :, :])


def _kept(weights: Array, masks: Mask) -> Array:
    """Sums f32[N, H, W] of the weights f32[N, P] of those of the masks bool[P, H, W] that keep a pixel."""
    # On an accelerator a product of less than full precision would round the weights.
    return jnp.tensordot(weights, masks.astype(jnp.float32), axes=1, precision=jax.lax.Precision.HIGHEST)


def _down(values: Array, exponent: Array) -> Array:
    """values * 2^exponent, exponent <= 0, without its fraction."""
    return jnp.floor(jnp.ldexp(values, jnp.maximum(exponent, -2 * FINEST)))


def _steps(values: Array) -> Array:
    """Rounded so that no sum of a generation is: it has the same bits, in whatever order a compiler adds."""
    return jnp.round(values * STEPS) / STEPS


def _mean(num: np.ndarray, total: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and its squared standard error; NaN of too few."""
    num = np.where(num >= FEW, num, np.nan)
    mean = total / num
    return mean, np.maximum(squares / num - mean**2, 0.0) / (num - 1)


def begin(rule: Callable[[Seen], Any], shape: tuple[int, int]) -> Any:
    """The running sum of a rule before the first generation."""
    return rule.init(shape) if hasattr(rule, "init") else jnp.zeros(shape)  # pyright: ignore[reportFunctionMemberAccess]


def merge(rule: Callable[[Seen], Any], sums: Any, others: Any) -> Any:
    """The running sum with what a generation adds to it."""
    if hasattr(rule, "merge"):
        return rule.merge(sums, others)  # pyright: ignore[reportFunctionMemberAccess]
    return jax.tree.map(jnp.add, sums, others)


def scores(rule: Callable[[Seen], Any], sums: Any, masks: np.ndarray, lost: np.ndarray, inside_only: bool) -> Scores:
    """What a rule's sums over all generations say of each pixel, given the final masks bool[B, H, W].

    `lost` f32[B, H, W] is what windows lose, NaN where none were asked.
    """
    says = lambda what: getattr(rule, what)(sums) if hasattr(rule, what) else None
    effect, error = says("effects") or (None, None)
    total = says("contributions")
    if total is None:
        total = np.maximum(sums, 0.0) if effect is None else _from_zero(effect)
    return Scores(normalize(told_apart(total, masks, lost), masks, inside_only), effect, error)


def _from_zero(effect: np.ndarray) -> np.ndarray:
    """What is not known is no effect; the least is 0."""
    known = np.nan_to_num(effect)
    return known - known.min((-2, -1), keepdims=True)


def told_apart(total: np.ndarray, masks: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Contributions f32[..., H, W], those of pixels outside the masks told apart by what windows lose there.

    A pixel outside has its own contribution and `AHEAD` times what is lost, each scaled over these pixels. Where no
    window was asked (NaN) nothing is changed.

    >>> total, masks = np.array([[4.0, 2.0, 0.0, 0.0]]), np.array([[True, False, False, False]])
    >>> told_apart(total, masks, np.array([[0.5, 0.25, 0.5, 0.0]])).tolist()
    [[4.0, 3.0, 4.0, 0.0]]
    """
    asked = np.isfinite(lost)
    own, windows = (_spread(x, ~masks) for x in (total, np.where(asked, lost, 0.0)))
    return np.where(asked & ~masks, own + AHEAD * windows, total)


def _spread(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """From 0, the least of those that are `among`, to 1, the greatest of them."""
    least = np.where(among, values, np.inf).min((-2, -1), keepdims=True)
    return _to_one(np.where(among, values - least, 0.0))


def normalize(total: np.ndarray, mask: np.ndarray, inside_only: bool) -> np.ndarray:
    """Contributions from 0 -> score f32[..., H, W] in [0, 1], where the largest becomes one.

    Args:
      total: f32[..., H, W], how much each pixel contributes.
      mask: bool[..., H, W], the final mask.
      inside_only: the published form, where pixels outside the final mask score zero. Otherwise they follow below every
        pixel of the mask, in the order of their own contributions, so that the score ranks the whole image.

    >>> total, mask = np.array([[4.0, 2.0, 3.0, 0.0]]), np.array([[True, True, False, False]])
    >>> normalize(total, mask, inside_only=True).tolist()
    [[1.0, 0.5, 0.0, 0.0]]
    >>> normalize(total, mask, inside_only=False).tolist()
    [[1.0, 0.75, 0.375, 0.0]]
    """
    part = lambda inside: _to_one(np.where(inside, total, 0.0))
    if inside_only:
        return part(mask).astype(np.float32)
    return np.where(mask, 0.5 + 0.5 * part(mask), 0.375 * part(~mask)).astype(np.float32)


def _to_one(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(values.max((-2, -1), keepdims=True), np.finfo(np.float32).tiny)
