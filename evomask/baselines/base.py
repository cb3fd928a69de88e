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

from evomask.budget import Account, Counted, bare, charge, check_budget, check_spent
from evomask.types import Array, Classifier, Key


def compiled(
    method, classifier: Classifier | Counted, images: Array, labels: Array, *, key: Key, budget: int
) -> Array:
    """Scores of a batch of images, as one compiled program that works through them one after the other.

    Args:
      classifier: a `Classifier`, or `Counted` to have the cost of every image recorded.
      images: f32[B, H, W, C] in [0, 1].
      labels: int[B], the class to explain in each image.
      key: one key, from which image b takes `fold_in(key, b)`; or B keys, one per image, used as they are.
      budget: evaluations allowed per image.

    Returns:
      f32[B, H, W]. A classifier that returns NaN gives a NaN score, never a made-up one.

    Raises:
      ValueError, TypeError: bad input. BudgetExceeded: the method needs more than `budget`.
    """
    images, labels, keys = check_inputs(classifier, images, labels, key, budget)
    cost = method.cost(images.shape[1:], budget)
    check_spent(cost, budget, type(method).__name__)
    scores = _explain(method, bare(classifier), images, labels, keys, budget)
    for _ in range(len(images)):
        charge(classifier, cost)
    return scores


@functools.partial(jax.jit, static_argnames="budget")
def _explain(method, classifier, images: Array, labels: Array, keys: Array, budget: int) -> Array:
    return jax.lax.map(lambda item: method.explain(classifier, *item, budget), (images, labels, keys))


def on_host(
    method, classifier: Classifier | Counted, images: Array, labels: Array, *, key: Key, budget: int
) -> Array:
    """Like `compiled`, for a method that calls the classifier from Python: its `explain` gets an `Account` instead.

    Raises:
      ImportError: the package behind the method is missing. ValueError: the classifier returned NaN.
    """
    images, labels, keys = check_inputs(classifier, images, labels, key, budget)
    check_spent(method.cost(images.shape[1:], budget), budget, type(method).__name__)
    scores = []
    for image, label, one in zip(np.asarray(images), labels.tolist(), keys, strict=True):
        account = Account(classifier, budget)
        try:
            scores.append(method.explain(account, image, label, one, budget))
        except ModuleNotFoundError as error:
            raise ImportError(f"{type(method).__name__} needs the {error.name!r} package: "
                              "pip install 'evomask[baselines]'") from error
        charge(classifier, account.spent)
    return jnp.asarray(np.stack(scores), jnp.float32)


def check_inputs(classifier, images, labels, key, budget) -> tuple[Array, Array, Array]:
    """Images f32[B, H, W, C], labels int32[B] and keys[B], or an error that names the input and the remedy."""
    check_budget(budget)
    images, labels = jnp.asarray(images), jnp.asarray(labels)
    if images.ndim != 4 or images.dtype != jnp.float32 or 0 in images.shape:
        raise ValueError(f"images must be float32[B, H, W, C], got {images.dtype}{list(images.shape)}: "
                         "add the batch axis with images[None], divide uint8 pixels by 255")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images must lie in [0, 1] and be finite, got values from {low} to {high}")
    shape = getattr(bare(classifier), "image_shape", images.shape[1:])
    if tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(f"the classifier takes images of shape {tuple(shape)}, got {images.shape[1:]}: resize them")
    if labels.shape != images.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be int[{len(images)}], one per image, got {labels.dtype}{list(labels.shape)}")
    logits = jax.eval_shape(bare(classifier), jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32))
    if logits.ndim != 2 or logits.shape[0] != 1 or logits.shape[1] < 2:
        raise ValueError(f"the classifier must return logits [N, K] with K >= 2, got shape {logits.shape} for N = 1")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ValueError(f"labels must lie in 0..{logits.shape[1] - 1}, got {np.asarray(labels).tolist()}")
    return images, labels.astype(jnp.int32), keys_for(key, len(images))


def keys_for(key: Key, num: int) -> Array:
    """One key per image: `fold_in(key, b)` of a single key, or the B keys that were given."""
    if not jnp.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        raise TypeError("key must be made by jax.random.key(seed); an integer or a raw uint32 key is not enough")
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num))
    if key.shape != (num,):
        raise ValueError(f"give one key, or one key for each of the {num} images; got keys of shape {key.shape}")
    return key


def probability(classifier: Classifier, images: Array, label: Array) -> Array:
    """f32[N, H, W, C], int32[] -> softmax probability f32[N] of the label."""
    return jax.nn.softmax(classifier(images), axis=-1)[:, label]


def upsample(low: Array, height: int, width: int) -> Array:
    """f32[h, w] -> f32[H, W], bilinear, pixel centres half a pixel from the border (`align_corners=False`)."""
    return jax.image.resize(low, (height, width), "bilinear", antialias=False)


