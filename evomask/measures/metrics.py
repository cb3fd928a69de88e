"""What an explanation is worth: metrics of masks, of heat maps, and of both against the truth.

Masks bool[B, H, W], heat maps (scores) f32[B, H, W]; every function works on leading axes [...] and returns
f32[...]. Wherever a heat map holds NaN or infinity its metric is NaN, and `evomask.measures.statistics` counts that as
a failure; what constant and empty maps give is said in each docstring. Confidences are softmax probabilities of the
explained label.

Names that others use for something else: Quantus "Sufficiency" compares explanations of images with one
prediction, and Quantus "Completeness" is the sum rule of attributions; here both are about masks (see `sufficient`
and `complete`).

What needs no classifier (against the truth, or of a heat map by itself) is written in `maps`, and has its name here as
well.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from evomask import settings, validate
from evomask.classifiers.blackbox import completed
from evomask.fills import apply
from evomask.measures.budget import Counted, bare
from evomask.measures.curves import ORDERS as ORDERS
from evomask.measures.curves import Curves as Curves
from evomask.measures.curves import area_under as area_under
from evomask.measures.curves import auc_cost as auc_cost
from evomask.measures.curves import deletion_auc as deletion_auc
from evomask.measures.curves import deletion_curves as deletion_curves
from evomask.measures.curves import insertion_auc as insertion_auc
from evomask.measures.curves import mean_area as mean_area
from evomask.measures.curves import orders as orders
from evomask.measures.maps import correlation as correlation
from evomask.measures.maps import cp as cp
from evomask.measures.maps import cp_floored as cp_floored
from evomask.measures.maps import distinct as distinct
from evomask.measures.maps import energy_in_object as energy_in_object
from evomask.measures.maps import gini as gini
from evomask.measures.maps import nan_unless_finite, scaled
from evomask.measures.maps import pointing_game as pointing_game
from evomask.measures.maps import precision as precision
from evomask.measures.maps import rank_correlation as rank_correlation
from evomask.measures.maps import recall as recall
from evomask.measures.maps import ssim as ssim
from evomask.search.batching import batch_size, in_batches
from evomask.search.evaluate import evaluate
from evomask.settings import pinned
from evomask.types import RATIO, Array, Classifier, InputError, Key, Mask, Target, Verdict, decide, record, whole

# ---------------------------------------------------------------------------------------- masks and the classifier


@record
class Judgement:
    """What the classifier makes of B masks, one per image, seen one image at a time (four evaluations each)."""

    area: Array  # f32[B], fraction of pixels kept
    whole: Array  # f32[B], probability of the label for the whole image
    confidence: Array  # f32[B], for the masked image
    margin: Array  # f32[B], log p[label] - log p[next class]: positive where the label is predicted
    inverse_confidence: Array  # f32[B], for the inverse-masked image
    inverse_margin: Array  # f32[B]
    blank_confidence: Array  # f32[B], for the blank image
    blank_margin: Array  # f32[B]: positive where the blank image has the label by itself, and nothing is necessary


@pinned
def judge(classifier: Classifier | Counted, images: Array, labels: Array, masks: Mask, blanks: Array) -> Judgement:
    """Sends B whole, masked, inverse-masked and blank images through the classifier, at batch size 1.

    A label that is no class has a confidence of 0, and is never predicted.

    Args:
      images, blanks: f32[B, H, W, C]. labels: int[B]. masks: bool[B, H, W].

    Raises:
      InputError: the shapes do not belong together.
    """
    plain = bare(classifier)
    images, labels, masks, blanks = validate.measured(plain, images, labels, blanks, any_label=True, masks=masks)
    return completed(_judge, plain, images, labels, masks, blanks)


@jax.jit
def _judge(classifier, images, labels, masks, blanks) -> Judgement:
    def one(item):
        image, label, mask, blank = item
        both = jnp.stack([mask, jnp.full_like(mask, True)])
        target = Target(image, label, jnp.nan)  # its confidence comes with the others, as that of the full mask
        return evaluate(classifier, target, blank, both, inverse=True, features=False, batch_size=1)

    seen = jax.lax.map(one, (images, labels.astype(jnp.int32), masks, blanks))
    return Judgement(
        area=seen.area[:, 0],
        whole=seen.confidence[:, 1],
        confidence=seen.confidence[:, 0],
        margin=seen.margin[:, 0],
        inverse_confidence=seen.inverse_confidence[:, 0],
        inverse_margin=seen.inverse_margin[:, 0],
        blank_confidence=seen.inverse_confidence[:, 1],
        blank_margin=seen.inverse_margin[:, 1],
    )


def verdict(judged: Judgement, ratio: float = RATIO) -> Verdict:
    """bool[B] each: what `decide` says of the masks, at `ratio` of the whole images' probability."""
    return decide(judged.margin, judged.confidence, judged.inverse_margin, ratio * judged.whole)


def sufficient(judged: Judgement, ratio: float = RATIO) -> Array:
    """bool[B]: the masked image keeps the label, with at least `ratio` of the whole image's probability."""
    return verdict(judged, ratio).sufficient


def necessary(judged: Judgement) -> Array:
    """bool[B]: the inverse-masked image loses the label."""
    return verdict(judged).necessary


def complete(judged: Judgement, ratio: float = RATIO) -> Array:
    """bool[B]: sufficient and necessary."""
    return verdict(judged, ratio).complete


def complete_area(judged: Judgement, ratio: float = RATIO) -> Array:
    """The area of a complete mask, and 1 for one that is not; range [0, 1], smaller is better."""
    return jnp.where(complete(judged, ratio), judged.area, 1.0)


def confidence_drop(whole: Array, confidence: Array) -> Array:
    """Drop of confidence, max(0, whole - masked) / whole; range [0, 1], smaller is better.

    Its mean is the Average Drop of Chattopadhay et al. 2018 (Grad-CAM++, section 5.1), there in per cent and with
    the image multiplied by the heat map; here with the masked image.
    """
    return jnp.maximum(whole - confidence, 0.0) / whole


def confidence_increase(whole: Array, confidence: Array) -> Array:
    """1 where the masked image has more confidence than the whole one, else 0; larger is better.

    Its mean is the Increase in Confidence of Chattopadhay et al. 2018 (see `confidence_drop`).
    """
    return (confidence > whole).astype(jnp.float32)


# ------------------------------------------------------------------------------------ heat maps and the classifier


@settings.own()
def random_subsets(key: Key | int, num: int, shape: tuple[int, int], size: int) -> Array:
    """bool[num, H, W]: subsets of `size` pixels, uniform without replacement."""
    key = validate.as_key(key)
    pixels = jnp.broadcast_to(jnp.arange(shape[0] * shape[1]) < size, (num, shape[0] * shape[1]))
    return jax.random.permutation(key, pixels, axis=1, independent=True).reshape(num, *shape)


@pinned
def mu_fidelity(
    classifier: Classifier | Counted, images: Array, labels: Array, scores: Array, blanks: Array, subsets: Array
) -> Array:
    """muFidelity (Bhatt et al. 2020, eq. 4): does the score of a set of pixels tell what blanking it costs?

    Pearson correlation, over the subsets bool[N, H, W], of the sum of scores and the drop of the label's
    probability; range [-1, 1]. 0 where either does not vary (constant map, constant classifier). Costs N + 1
    evaluations. Equals Quantus `FaithfulnessCorrelation` on the same subsets, where a model's outputs are
    probabilities and a pixel is perturbed in all its channels.

    Raises:
      InputError: the shapes do not belong together, or a label is no class.
    """
    return jax.vmap(correlation)(*drops(classifier, images, labels, scores, blanks, subsets))


@pinned
def drops(
    classifier: Classifier | Counted, images: Array, labels: Array, scores: Array, blanks: Array, subsets: Array
) -> tuple[Array, Array]:
    """f32[B, N] each: the sum of scores of every subset, and the probability that is lost when it is blanked.

    The sums of a map that is not finite are NaN. Costs N + 1 evaluations.

    Raises:
      InputError: as `mu_fidelity`.
    """
    images, labels, scores, blanks = validate.measured(bare(classifier), images, labels, blanks, scores=scores)
    given = validate.as_array(subsets, "subsets")
    if given.ndim != 3 or given.shape[1:] != images.shape[1:3] or given.dtype != bool:
        wanted = f"booleans [N, {images.shape[1]}, {images.shape[2]}], such as those of random_subsets"
        raise InputError(f"subsets are {given.dtype}{list(given.shape)}: give {wanted}")
    return completed(_drops, bare(classifier), images, labels, scores, blanks, jnp.asarray(given))


@jax.jit
def _drops(classifier, images, labels, scores, blanks, subsets) -> tuple[Array, Array]:
    kept = ~jnp.concatenate([jnp.zeros_like(subsets[:1]), subsets])

    def one(item):
        image, label, score, blank = item

        def probability(kept: Array) -> Array:
            return jax.nn.softmax(classifier(apply(kept, image, blank)), axis=-1)[:, label]

        found = in_batches(probability, kept, batch_size(classifier))
        sums = jnp.where(subsets, score[None], 0.0).sum((1, 2))
        return nan_unless_finite(score, sums), found[0] - found[1:]

    return jax.lax.map(one, (images, labels, scores, blanks))


def max_sensitivity(
    explainer: Callable[[Array], Array], images: Array, *, key: Key | int, radius: float = 0.02, samples: int = 10
) -> Array:
    """Max-sensitivity (Yeh et al. 2019, def. 2): how far the heat map moves when the image moves a little; f32[B].

    The largest |score(x + e) - score(x)| / |score(x)| over `samples` of e uniform in [-radius, radius], x + e
    clipped to [0, 1]; range [0, inf), smaller is better. Equals Captum `sensitivity_max` and Quantus
    `MaxSensitivity` on the same perturbed images (they do not clip). A zero map is divided by 1, as in Captum.

    Args:
      explainer: images f32[B, H, W, C] -> scores f32[B, H, W]; called samples + 1 times.

    Raises:
      InputError: bad images, key or number of samples.
    """
    shown = jnp.asarray(validate.check_images(images))
    near = _near(validate.as_key(key), shown, radius, whole("samples", samples))
    return sensitivity(explainer(shown), jnp.stack([explainer(one) for one in near]))


@settings.own()
def _near(key: Key, images: np.ndarray, radius: float, num: int) -> list[Array]:
    """The images `num` times, each with noise of its own."""
    noise = lambda one: jax.random.uniform(one, images.shape, minval=-radius, maxval=radius)
    return [jnp.clip(images + noise(one), 0.0, 1.0) for one in jax.random.split(key, num)]


def sensitivity(scores: Array, perturbed: Array) -> Array:
    """f32[B, H, W], f32[S, B, H, W] -> f32[B]: largest relative distance of S other maps, see `max_sensitivity`."""
    norm = jnp.linalg.norm(scores, axis=(-2, -1))
    distance = jnp.linalg.norm(perturbed - scores[None], axis=(-2, -1))
    return distance.max(0) / jnp.where(norm == 0, 1.0, norm)


@settings.own()
def shuffle_weights(key: Key | int, classifier: Classifier) -> Classifier:
    """The classifier with the entries of each of its arrays in a random order: same distributions, nothing learnt.

    Raises:
      InputError: the classifier has no arrays, so there is nothing to shuffle (a plain function).
    """
    leaves, structure = jax.tree.flatten(settings.single(classifier))
    if not leaves:
        raise InputError("the classifier has no weights as leaves, so they cannot be shuffled: pass them as params")
    keys = jax.random.split(validate.as_key(key), len(leaves))
    return jax.tree.unflatten(structure, [shuffled(k, x) for k, x in zip(keys, leaves, strict=True)])


@settings.own()
def shuffled(key: Key, values: Array) -> Array:
    """The same values in a random order."""
    return jax.random.permutation(key, jnp.ravel(values)).reshape(jnp.shape(values))


def randomisation_check(
    explainer: Callable[[Classifier, Array], Array], classifier: Classifier, images: Array, *, key: Key | int
) -> tuple[Array, Array]:
    """Parameter randomisation (Adebayo et al. 2018, section 3): is the map the same after the weights are shuffled?

    Returns:
      The rank correlation f32[B] in [-1, 1] of the maps before and after, and the SSIM f32[B] of the two, each
      scaled to [0, 1]. Near 0 is good: a map that survives did not come from what was learnt. All arrays are
      shuffled at once; layer by layer see `faithfulness.cascading_randomisation`. Images smaller than 11 pixels have
      no SSIM (InputError).

    Args:
      explainer: (classifier, images f32[B, H, W, C]) -> scores f32[B, H, W].
    """
    before, after = explainer(classifier, images), explainer(shuffle_weights(key, classifier), images)
    return jax.vmap(rank_correlation)(before, after), jax.vmap(ssim)(scaled(before), scaled(after))


# ------------------------------------------------------------------------------------------ stability across seeds


def iou(mask: Mask, other: Mask) -> Array:
    """Intersection over union of bool[..., H, W]; range [0, 1]; 1 for two empty masks.

    >>> float(iou(jnp.array([[True, True]]), jnp.array([[True, False]])))
    0.5
    """
    union = (mask | other).sum((-2, -1)).astype(jnp.float32)
    both = (mask & other).sum((-2, -1)).astype(jnp.float32)
    return jnp.where(union > 0, both / jnp.maximum(union, 1.0), 1.0)


def mask_stability(masks: Mask) -> Array:
    """bool[S, ..., H, W], the masks of S seeds -> mean IoU over all pairs of seeds, f32[...]; range [0, 1]."""
    first, second = _pairs(len(masks))
    return iou(masks[first], masks[second]).mean(0)


def score_stability(scores: Array) -> Array:
    """f32[S, B, H, W], the maps of S seeds -> mean rank correlation over all pairs of seeds, f32[B]; [-1, 1]."""
    first, second = _pairs(len(scores))
    return jax.vmap(jax.vmap(rank_correlation))(scores[first], scores[second]).mean(0)


def _pairs(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    if seeds < 2:
        raise InputError(f"stability needs the results of two seeds or more, got {seeds}")
    return np.triu_indices(seeds, 1)
