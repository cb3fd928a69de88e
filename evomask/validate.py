"""Input checks, before anything is compiled: each error names the input, the problem and the remedy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from evomask.classifiers.wrappers import check_classifier
from evomask.search import genome
from evomask.search.config import Config
from evomask.search.refine import check_stages
from evomask.search.surrogate import check_screening
from evomask.types import Classifier, InputError, Key

THREEFRY = "threefry2x32"  # so that a seed gives the same bits whatever generator is JAX's default in this process
SEEDS = 2**32 - 1  # the largest: JAX drops higher bits, or keeps them, depending on the process


def inputs(
    classifier: Classifier, images: Any, labels: Any, contrast: Any, key: Any, config: Config
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Checks what `explain` is given: images as f32[B, H, W, C], labels and contrast as int32[B] or None."""
    check_key(key)
    images = check_images(images)
    classes = check_classifier(classifier, images.shape[1:])
    if config.fitness.needs_features and not hasattr(classifier, "features"):
        raise InputError(
            "the fitness compares features, but the classifier has none: give it a method features(images), "
            "or use fitness.smallest_complete()"
        )
    configuration(config, images.shape[1:3])
    labels = None if labels is None else check_labels(labels, len(images), classes)
    return images, labels, None if contrast is None else check_labels(contrast, len(images), classes, "contrast")


def configuration(config: Config, shape: tuple[int, int]) -> None:
    """Checks stages and thresholds for images of H x W pixels."""
    check_stages(config.stages)
    for stage in config.stages:
        genome.scale_radii(stage.radii, shape)
    check_screening(config.operators.screening)
    if not 0 <= config.confidence_ratio <= 1:
        raise InputError(f"confidence_ratio is {config.confidence_ratio}: give a fraction from 0 to 1, such as 0.9")
    if config.batch_size is not None and config.batch_size < 1:
        raise InputError(f"batch_size is {config.batch_size}: give 1 or more, or None for the classifier's own")


def check_images(images: Any) -> np.ndarray:
    """The images as f32[B, H, W, C] in [0, 1], from floats (or booleans) of that form."""
    images = np.asarray(images)
    if images.ndim != 4 or not images.size or images.dtype.kind not in "fb":
        raise InputError(
            f"images are {images.dtype}{list(images.shape)}: give floats [B, H, W, C], for one image image[None], "
            "for bytes images / 255"
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"images range from {low:.4g} to {high:.4g}: give values in [0, 1], normalise in the classifier"
        )
    return images.astype(np.float32)


def check_labels(labels: Any, num: int, classes: int, name: str = "label") -> np.ndarray:
    """The labels as int32[num], each below `classes`."""
    labels = np.asarray(labels)
    if labels.shape != (num,) or labels.dtype.kind not in "iu":
        raise InputError(f"{name}s are {labels.dtype}{list(labels.shape)}: give {num} integers, one per image")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise InputError(f"{name} {wrong[0]} is out of range: give classes from 0 to {classes - 1}")
    return labels.astype(np.int32)


def different(labels: np.ndarray, contrast: np.ndarray | None) -> None:
    """Refuses to explain a class against itself."""
    if contrast is not None and (labels == contrast).any():
        image = int(np.argmax(labels == contrast))
        raise InputError(
            f"image {image} is to explain class {labels[image]} against itself: give another contrast or label"
        )


def as_key(key: Any) -> Key:
    """One key of the new style, of a seed, an old-style key or such a key.

    Args:
      key: a whole number from 0 to 4294967295, which stands for `jax.random.key(key)`; one key of `jax.random.key`; or
        one of the old style, uint32[2] of `jax.random.PRNGKey`, which is the same key.

    Raises:
      InputError: it is none of these: an array of keys, a truth value, a number out of range or with a fraction.

    >>> bool(as_key(3) == jax.random.key(3)), bool(as_key(jax.random.PRNGKey(3)) == jax.random.key(3))
    (True, True)
    """
    if jax.dtypes.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        if not key.ndim:
            return key
        raise InputError(f"key is an array of {key.size} keys: give one of them, such as key[0]")
    given = np.asarray(key) if isinstance(key, (int, np.integer, np.ndarray, jax.Array)) else np.asarray(None)
    if given.shape == () and given.dtype.kind in "iu" and 0 <= given <= SEEDS:
        return jax.random.key(int(given), impl=THREEFRY)
    if given.shape == (2,) and given.dtype == np.uint32:
        return jax.random.wrap_key_data(given, impl=THREEFRY)
    what = f"{given.dtype}{list(given.shape)}" if given.ndim else repr(key)
    raise InputError(f"key is {what}: give a whole number from 0 to {SEEDS}, or one key of jax.random.key(seed)")


def check_key(key: Any) -> None:
    """Refuses anything but one key of the new style."""
    if not jax.dtypes.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key) or key.ndim:
        raise InputError("key must be one key of jax.random.key(seed), not an integer, a raw key or an array of keys")
