"""What every baseline shares: one signature, one check of the inputs, one jit boundary.

A baseline is a `record` with two methods: `cost(image_shape, budget) -> Spent`, known before it runs, and
`explain(classifier, image, label, key, budget) -> score f32[H, W]` for one image, where a larger score means more
evidence for the label. Its `__call__` is `compiled` below, or `on_host` for a rival that is a Python package.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from evomask import settings, validate
from evomask.classifiers.blackbox import completed
from evomask.measures.budget import Account, Counted, bare, charge, check_budget, check_spent
from evomask.search.checks import Plain
from evomask.types import Array, Classifier, Key


def compiled(method, classifier: Classifier | Counted, images: Array, labels: Array, *, key: Key, budget: int) -> Array:
    """Scores of a batch of images, as one compiled program that works through them one after the other.

    Args:
      classifier: a `Classifier`, or `Counted` to have the cost of every image recorded.
      images: f32[B, H, W, C] in [0, 1].
      labels: int[B], the class to explain in each image.
      key: one key or a whole number, the same for every image, so that an image gets the same score alone or among
        others.
      budget: evaluations allowed per image.

    Returns:
      f32[B, H, W], or bool[B, H, W] of a method whose score is a mask. A classifier that returns NaN gives
      a NaN score, never a made-up one.

    Raises:
      InputError: bad input. BudgetExceeded: the method needs more than `budget`.
    """
    with settings.own():
        shown, classes, key, budget = check_inputs(classifier, images, labels, key, budget)
        cost = method.cost(shown.shape[1:], budget)
        check_spent(cost, budget, type(method).__name__)
        method, network = Plain.in_place_of_functions(method), settings.single(bare(classifier))
        scores = completed(_explain, method, network, shown, classes, key, budget)
    for _ in range(len(shown)):
        charge(classifier, cost)
    return scores


@functools.partial(jax.jit, static_argnames="budget")
def _explain(method, classifier, images: Array, labels: Array, key: Key, budget: int) -> Array:
    return jax.lax.map(lambda item: method.explain(classifier, *item, key, budget), (images, labels))


def on_host(method, classifier: Classifier | Counted, images: Array, labels: Array, *, key: Key, budget: int) -> Array:
    """Like `compiled`, for a method that calls the classifier from Python: its `explain` gets an `Account` instead.

    Raises:
      ImportError: the package behind the method is missing. InputError: the classifier returned NaN.
    """
    with settings.own():
        return _on_host(method, classifier, *check_inputs(classifier, images, labels, key, budget))


def _on_host(method, classifier, images: np.ndarray, labels: np.ndarray, key: Key, budget: int) -> Array:
    check_spent(method.cost(images.shape[1:], budget), budget, type(method).__name__)
    scores = []
    for image, label in zip(images, labels.tolist(), strict=True):
        account = Account(classifier, budget)
        try:
            scores.append(method.explain(account, image, label, key, budget))
        except ModuleNotFoundError as error:
            raise ImportError(
                f"{type(method).__name__} needs the {error.name!r} package: pip install 'evomask[baselines]'"
            ) from error
        charge(classifier, account.spent)
    scores = np.stack(scores)
    return jnp.asarray(scores, None if scores.dtype == bool else jnp.float32)


def check_inputs(classifier, images, labels, key, budget) -> tuple[np.ndarray, np.ndarray, Key, int]:
    """Images f32[B, H, W, C], labels int32[B], one key and the budget, or an InputError."""
    budget, key = check_budget(budget), validate.as_key(key)
    return *validate.labelled(bare(classifier), images, labels), key, budget


def probability(classifier: Classifier, images: Array, label: Array) -> Array:
    """f32[N, H, W, C], int32[] -> softmax probability f32[N] of the label."""
    return jax.nn.softmax(classifier(images), axis=-1)[:, label]


def upsample(low: Array, height: int, width: int) -> Array:
    """f32[h, w] -> f32[H, W], bilinear, pixel centres half a pixel from the border (`align_corners=False`)."""
    return jax.image.resize(low, (height, width), "bilinear", antialias=False)
