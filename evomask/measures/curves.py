"""What happens while the best pixels of a heat map are blanked or put back: curves, and the areas under them.

Conventions are those of `evomask.measures.metrics`, which has all of it, too.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evomask import validate
from evomask.classifiers.blackbox import completed
from evomask.fills import apply
from evomask.measures.budget import Counted, Spent, bare
from evomask.measures.maps import distinct, nan_unless_finite
from evomask.measures.thresholding import in_every_order, prefix_pixels
from evomask.search.batching import batch_size
from evomask.settings import pinned
from evomask.types import Array, Classifier, whole

ORDERS = 4  # of equal scores, that a curve is averaged over


def auc_cost(steps: int = 100, orders: int = 1) -> Spent:
    """Evaluations per image of `deletion_auc` or `insertion_auc`, of maps with equal scores in so many orders."""
    return Spent(forward=orders * (steps + 1))


@pinned
def deletion_auc(
    classifier: Classifier | Counted, images: Array, labels: Array, scores: Array, blanks: Array, *, steps: int = 100
) -> Array:
    """Deletion (Petsiuk et al. 2018): area under the probability while the best pixels are blanked.

    Range [0, 1], smaller is better. Step t of `steps` has blanked the best round(t / steps * H * W) pixels, from none
    to all; trapezoid rule; activation softmax. The paper blanks with 0 and takes steps of one image row.

    Where a map has equal scores, it is the mean over four random orders of these: the order of the pixels would follow
    the picture's rows, and give a map with few scores credit for what it does not say.

    Raises:
      InputError: the shapes do not belong together, a label is no class, or there is no step.
    """
    return mean_area(deletion_curves(classifier, images, labels, scores, blanks, steps=steps).probability)


@pinned
def insertion_auc(
    classifier: Classifier | Counted, images: Array, labels: Array, scores: Array, blanks: Array, *, steps: int = 100
) -> Array:
    """Insertion (Petsiuk et al. 2018): the same while the best pixels are put back; range [0, 1], larger is better.

    Starts from the blank image; the paper's is a Gaussian blur (`fills.Blur`).

    Raises:
      InputError: as for deletion.
    """
    images, labels, scores, blanks = validate.measured(bare(classifier), images, labels, blanks, scores=scores)
    asked = bare(classifier), labels, scores, blanks, images
    return mean_area(completed(_curves, *asked, whole("steps", steps), orders(scores)).probability)


class Curves(NamedTuple):
    """What happens while the best pixels of B maps are changed, in each of O orders of equal scores, in T steps."""

    probability: Array  # f32[B, O, T + 1], of the label
    share: Array  # f32[B, O, T + 1], of the sum of positive scores, that the changed pixels hold


@pinned
def deletion_curves(
    classifier: Classifier | Counted, images: Array, labels: Array, scores: Array, blanks: Array, *, steps: int = 100
) -> Curves:
    """The curves under which `deletion_auc` is the area, and what the scores promise of them; costs `auc_cost`.

    A map that is zero everywhere promises the same of each pixel. Curves of a map that is not finite are NaN.

    Raises:
      InputError: as for deletion.
    """
    images, labels, scores, blanks = validate.measured(bare(classifier), images, labels, blanks, scores=scores)
    asked = bare(classifier), labels, scores, images, blanks
    return completed(_curves, *asked, whole("steps", steps), orders(scores))


def mean_area(curves: Array) -> Array:
    """f32[B, O, T + 1] -> f32[B]: the area under the curves of each map, in the mean over its orders."""
    return jax.vmap(jax.vmap(area_under))(curves).mean(-1)


def orders(scores: Array) -> int:
    """In how many orders of equal scores the curves of f32[B, H, W] are measured: one where there are none."""
    return 1 if bool((distinct(scores) == 1).all()) else ORDERS


@functools.partial(jax.jit, static_argnames=("steps", "orders"))
def _curves(classifier, labels, scores, starts, ends, steps: int, orders: int) -> Curves:
    pixels = jnp.concatenate([jnp.zeros(1, jnp.int32), prefix_pixels(steps, scores[0].size)])

    def one(item):
        label, score, start, end = item
        parts = jnp.maximum(score, 0.0)
        total = parts.sum()
        parts = jnp.where(total > 0, parts / jnp.where(total > 0, total, 1.0), 1.0 / score.size)

        def asked(places: Array, pixels: Array, _) -> Curves:
            changed = places < pixels
            probability = jax.nn.softmax(classifier(apply(changed, end, start)), axis=-1)[:, label]
            return Curves(probability, jnp.where(changed, parts[None], 0.0).sum((1, 2)))

        found = in_every_order(asked, score, pixels, orders, batch_size(classifier))
        return jax.tree.map(functools.partial(nan_unless_finite, score), found)

    return jax.lax.map(one, (labels, scores, starts, ends))


def area_under(curve: Array) -> Array:
    """f32[T + 1] -> f32[]: trapezoid rule over [0, 1] at equal distances.

    >>> float(area_under(jnp.array([0.0, 1.0, 1.0])))
    0.75
    """
    return (curve.sum() - 0.5 * (curve[0] + curve[-1])) / (len(curve) - 1)
