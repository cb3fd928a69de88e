"""Input checks, before anything is compiled: each error names the input, the problem and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np

from evomask import genome
from evomask.classifiers.wrappers import check_classifier
from evomask.config import Config
from evomask.refine import check_stages
from evomask.types import Classifier, InputError


def inputs(classifier: Classifier, images: Any, labels: Any, config: Config) -> tuple[np.ndarray, np.ndarray | None]:
    """Checks what `explain` is given; returns images as f32[B, H, W, C] and labels as int32[B] or None."""
    images = _images(images)
    classes = _classes(classifier, images, config)
    configuration(config, images.shape[1:3])
    return images, None if labels is None else _labels(labels, len(images), classes)


def configuration(config: Config, shape: tuple[int, int]) -> None:
    """Checks stages and thresholds for images of H x W pixels."""
    check_stages(config.stages)
    for stage in config.stages:
        genome.scale_radii(stage.radii, shape)
    if not 0 <= config.confidence_ratio <= 1:
        raise InputError(f"confidence_ratio is {config.confidence_ratio}: give a fraction from 0 to 1, such as 0.9")
    if config.batch_size is not None and config.batch_size < 1:
        raise InputError(f"batch_size is {config.batch_size}: give 1 or more, or None for the classifier's own")


def _images(images: Any) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise InputError(f"images have shape {images.shape}: give [B, H, W, C], for one image image[None]")
    if not (np.issubdtype(images.dtype, np.floating) or np.issubdtype(images.dtype, np.bool_)):
        raise InputError(f"images are {images.dtype}: give floats in [0, 1], such as images / 255")
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        low, high = images.min(), images.max()
        raise InputError(f"images range from {low:.4g} to {high:.4g}: give values in [0, 1], normalise in the classifier")
    return images.astype(np.float32)


def _classes(classifier: Classifier, images: np.ndarray, config: Config) -> int:
    """The number of classes, found by tracing the classifier without running it."""
    classes = check_classifier(classifier, images.shape[1:])
    if config.fitness.needs_features and not hasattr(classifier, "features"):
        raise InputError(
            "the fitness compares features, but the classifier has none: give it a method features(images), "
            "or use fitness.smallest_complete()"
        )
    return classes


def _labels(labels: Any, num: int, classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (num,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels are {labels.dtype}{list(labels.shape)}: give {num} integers, one for each image")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"label {labels.min() if labels.min() < 0 else labels.max()} is out of range: give 0 to {classes - 1}")
    return labels.astype(np.int32)
