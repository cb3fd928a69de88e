"""Input checks, before anything is compiled: each error names the input, the problem and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask import perturbations, settings
from evomask.classifiers.wrappers import check_classifier
from evomask.search import checks, genome
from evomask.search.config import Config
from evomask.search.stages import check_stages
from evomask.search.surrogate import check_screening
from evomask.types import Array, Classifier, InputError, Key, Question, check_demand, whole

THREEFRY = "threefry2x32"  # so that a seed gives the same bits whatever generator is JAX's default in this process
SINGLE = float(np.finfo(np.float32).eps)  # what rounding to single precision may add to 1
SEEDS = 2**32 - 1  # the largest: JAX drops higher bits, or keeps them, depending on the process


def inputs(
    classifier: Classifier, images: Any, labels: Any, contrast: Any, config: Config
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Checks what `explain` is given: images as f32[B, H, W, C], labels and contrast as int32[B] or None."""
    images = check_images(images)
    classes = check_classifier(classifier, images.shape[1:])
    if config.sought.fitness.needs_features and not hasattr(classifier, "features"):
        raise InputError(
            "the fitness compares features, but the classifier has none: give it a method features(images), "
            "or use fitness.smallest_complete()"
        )
    configuration(config, images.shape[1:3])
    for fill in config.fills:
        checks.fill(fill, images.shape[1:])
    if config.perturbation is not None:
        perturbations.check(config.perturbation, images.shape[1:])
    labels = None if labels is None else check_labels(labels, len(images), classes)
    return images, labels, None if contrast is None else check_labels(contrast, len(images), classes, "contrast")


def configuration(config: Config, shape: tuple[int, int]) -> None:
    """Checks stages, operators and thresholds for images of H x W pixels."""
    check_demand(config.demand)
    if not 0 <= config.wish < np.inf:
        raise InputError(f"wish is {config.wish}: give a fraction of the image from 0, such as 0.02")
    check_stages(config.stages)
    for stage in config.stages:
        genome.scale_radii(stage.radii, shape)
    check_screening(config.operators.screening)
    if not 0 <= config.confidence_ratio <= 1:
        raise InputError(f"confidence_ratio is {config.confidence_ratio}: give a fraction from 0 to 1, such as 0.9")
    whole("windows", config.windows, 0)
    if config.batch_size is not None and config.batch_size < 1:
        raise InputError(f"batch_size is {config.batch_size}: give 1 or more, or None for the classifier's own")
    checks.operators(config.sought, shape)
    showings(config.sought)


def showings(config: Config) -> None:
    """Checks what concerns drawn showings, but for their pictures, see `perturbations.check`."""
    for name in ("showings", "rehearsals", "race", "draws", "finalists"):
        whole(name, getattr(config, name))
    whole("draws_apart", config.draws_apart, 0)
    if not 0 <= config.slack < np.inf:
        raise InputError(f"slack is {config.slack}: give nats from 0, such as 0.3")
    caution = config.operators.screening and config.operators.screening.caution
    for stage in config.stages:
        seen = min(stage.num_offspring, stage.num_inverses) if config.fitness.needs_inverse else stage.num_offspring
        if caution is not None and caution.again >= seen:
            raise InputError(
                f"stage {stage.name!r}: the champion is shown again {caution.again} times in a generation that sees "
                f"{seen}: lower again of caution, or raise offspring and inverses"
            )
    if config.perturbation is not None and config.fitness.needs_features:
        raise InputError(
            "the fitness compares features with those of the whole picture, which drawn showings do not have: give "
            "perturbation=None, or another fitness"
        )


def can_be_met(demand: str, questions: Sequence[Question]) -> None:
    """Refuses to ask only for necessity where another class is predicted: what is not there cannot be lost."""
    for number, question in enumerate(questions):
        if demand == "necessary" and question.counterfactual:
            raise InputError(
                f"image {number} is predicted as class {question.whole.label}, so no mask is necessary for class "
                f"{question.label}: give another label, or the demand complete or sufficient"
            )


def labelled(
    classifier: Classifier, images: Any, labels: Any, any_label: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Checks images with their classes: f32[B, H, W, C] and int32[B]."""
    images = check_images(images)
    classes = check_classifier(classifier, images.shape[1:])
    return images, check_labels(labels, len(images), None if any_label else classes)


def check_images(images: Any, name: str = "images") -> np.ndarray:
    """The images as f32[B, H, W, C] in [0, 1], from floats (or booleans) of that form, or from bytes.

    Bytes (uint8) are divided by 255. A value that is past 0 or 1 by a rounding error of its type is put back.

    Raises:
      InputError: it names the shape or the range, and what to give.

    >>> check_images(np.full((1, 1, 1, 1), 255, np.uint8)).tolist()
    [[[[1.0]]]]
    """
    given = as_array(images, name)
    kind = "f" if jax.numpy.issubdtype(given.dtype, np.floating) else given.dtype.kind  # bfloat16 is of kind "V"
    is_bytes = given.dtype == np.uint8
    if given.ndim != 4 or not given.size or not (kind in "fb" or is_bytes):
        raise InputError(
            f"{name} are {given.dtype}{list(given.shape)}: give floats in [0, 1] or bytes (uint8) [B, H, W, C]; "
            "a single image goes in as image[None]"
        )
    if is_bytes and given.max() == 1:
        raise InputError(f"{name} are bytes of 0 and 1, where 255 is white: give them as floats, or times 255")
    rounding = max(float(jax.numpy.finfo(given.dtype).eps), 8 * SINGLE) if kind == "f" else 0.0
    pixels = given.astype(np.float32) / np.float32(255) if is_bytes else given.astype(np.float32)
    low, high = pixels.min(), pixels.max()
    if not (low >= -rounding and high <= 1 + rounding):
        raise InputError(
            f"{name} range from {low:.4g} to {high:.4g}: give values in [0, 1], normalise in the classifier"
        )
    return np.clip(pixels, 0.0, 1.0) if low < 0 or high > 1 else pixels


def as_array(values: Any, name: str) -> np.ndarray:
    """Anything that NumPy makes an array of; InputError for lists of different lengths, keys and the like."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{name} cannot be made an array ({reason}): give an array, or lists of equal lengths"
        ) from error


def check_labels(labels: Any, num: int, classes: int | None, name: str = "label") -> np.ndarray:
    """The labels as int32[num], each below `classes`; with None, any whole numbers.

    Raises:
      InputError: they are no whole numbers, there is not one for each image, or one is no class.
    """
    labels = as_array(labels, f"{name}s")
    if labels.shape != (num,) or labels.dtype.kind not in "iu":
        raise InputError(f"{name}s are {labels.dtype}{list(labels.shape)}: give {num} integers, one per image")
    if classes is not None and (wrong := labels[(labels < 0) | (labels >= classes)]).size:
        raise InputError(f"{name} {wrong[0]} is out of range: give classes from 0 to {classes - 1}")
    return labels.astype(np.int32)


def measured(
    classifier: Classifier, images: Any, labels: Any, blanks: Any, *, any_label: bool = False, **maps: Any
) -> tuple[Array, Array, Array, Array]:
    """Checks what a metric is given: images and blanks f32[B, H, W, C], labels int32[B], and one map for each image.

    Args:
      any_label: whether a label may be no class.
      **maps: by its name, which is "masks" for bool[B, H, W], and anything else for heat maps f32[B, H, W].

    Returns:
      Images, labels, maps and blanks, on the device.
    """
    images, labels = labelled(classifier, images, labels, any_label)
    blanks = as_array(blanks, "blanks")
    if blanks.shape != images.shape:
        raise InputError(
            f"blanks are {list(blanks.shape)}, the images {list(images.shape)}: give one of the same size for each"
        )
    [(name, values)] = maps.items()
    values = as_array(values, name)
    kinds, kind = ("b", bool) if name == "masks" else ("fbiu", np.float32)
    if values.shape != images.shape[:3] or values.dtype.kind not in kinds:
        wanted = f"{'booleans' if kind is bool else 'numbers'} {list(images.shape[:3])}, one map per image"
        raise InputError(f"{name} are {values.dtype}{list(values.shape)}: give {wanted}")
    return (
        jnp.asarray(images),
        jnp.asarray(labels),
        jnp.asarray(values.astype(kind)),
        jnp.asarray(blanks.astype(np.float32)),
    )


def different(labels: np.ndarray, contrast: np.ndarray | None) -> None:
    """Refuses to explain a class against itself."""
    if contrast is not None and (labels == contrast).any():
        image = int(np.argmax(labels == contrast))
        raise InputError(
            f"image {image} is to explain class {labels[image]} against itself: give another contrast or label"
        )


@settings.own()
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
    if jnp.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
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
