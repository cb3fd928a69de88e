"""`explain_stream`: any number of images in bounded memory, each explanation handed out as soon as it is there."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh

from evomask import presets, validate
from evomask.decisions import Decision, decided
from evomask.explaining import abreast, explain
from evomask.search.config import Config
from evomask.types import Classifier, Explanation, InputError, Key

_MISSING = object()


def explain_stream(
    classifier: Classifier,
    images: Iterable[Any],
    *,
    key: Key | int,
    labels: Iterable[int] | None = None,
    contrast: Iterable[int] | None = None,
    decision: Decision | None = None,
    config: Config | None = None,
    mesh: Mesh | None = None,
) -> Iterator[Explanation]:
    """Explains one image after the other, as `explain` does, bit for bit, and forgets each once it is handed out.

    No more images are read ahead than are searched side by side: one, unless `config.together` or a mesh says
    otherwise. If the images or the classifier fail on the way, everything before has been handed out already, so what
    the caller has written is complete.

    Args:
      classifier: see `explain`.
      images: f32[H, W, C] in [0, 1] each, all of one shape; a generator is consumed as needed.
      key: one key of `jax.random.key`, the same for every image.
      labels: the class to explain in each image, as many as images; the predicted ones where None.
      contrast: the class to explain it against, see `explain`, as many as images; all classes where None.
      decision: see `explain`.
      config: see `explain`.
      mesh: devices that share the images, see `explain`.

    Yields:
      An `Explanation` for each image, without leading axis.

    Raises:
      InputError: as `explain`; or the images are of different shapes, or there is not one label for each.

    >>> import evomask
    >>> import jax.numpy as jnp
    >>> is_bright = evomask.as_classifier(lambda x: x.mean((1, 2)) @ jnp.array([[9.0, -9.0]]))
    >>> ones = (np.ones((8, 8, 1), np.float32) for _ in range(3))
    >>> config = evomask.presets.smallest(500)
    >>> [int(found.label) for found in explain_stream(is_bright, ones, key=0, config=config)]
    [0, 0, 0]
    """
    key = validate.as_key(key)
    classifier, config = decided(classifier, decision), presets.evomask() if config is None else config
    most = abreast(classifier, config, mesh)
    return _explained(classifier, _rows(images, labels, contrast), key, config, most, mesh)


def _explained(
    classifier: Classifier, rows: Iterator[tuple], key: Key, config: Config, most: int, mesh: Mesh | None
) -> Iterator[Explanation]:
    while part := list(itertools.islice(rows, most)):
        images, *classes = zip(*part)
        labels, contrast = (None if column[0] is None else np.array(column) for column in classes)
        yield from explain(
            classifier, np.stack(images), key=key, labels=labels, contrast=contrast, config=config, mesh=mesh
        )


def _rows(
    images: Iterable[Any], labels: Iterable[int] | None, contrast: Iterable[int] | None
) -> Iterator[tuple[np.ndarray, int | None, int | None]]:
    """Images with label and contrast, and with what only a stream can get wrong checked."""
    given = {
        name: iter(classes) for name, classes in (("labels", labels), ("contrast", contrast)) if classes is not None
    }
    shape = None
    for number, image in enumerate(images):
        image = np.asarray(image)
        shape = shape or image.shape
        if image.shape != shape:
            raise InputError(f"image {number} is {list(image.shape)}, those before it {list(shape)}: give one shape")
        row = {name: next(classes, _MISSING) for name, classes in given.items()}
        for name in (name for name, value in row.items() if value is _MISSING):
            raise InputError(f"{name} ends after {number} images: give one for each")
        yield image, row.get("labels"), row.get("contrast")  # pyright: ignore[reportReturnType]
    for name, classes in given.items():
        if next(classes, _MISSING) is not _MISSING:
            raise InputError(f"{name} goes on after the last image: give one for each")
