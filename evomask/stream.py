"""`explain_stream`: any number of images in bounded memory, each explanation handed out as soon as it is there."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from evomask import presets, validate
from evomask.explaining import explain, lower, multiple_of, round_up
from evomask.search.config import Config
from evomask.types import Classifier, Explanation, InputError, Key

CHUNK = 16  # images in one call of the compiled program, where nothing speaks for fewer

_MISSING = object()


def explain_stream(
    classifier: Classifier,
    images: Iterable[Any],
    *,
    key: Key,
    labels: Iterable[int] | None = None,
    contrast: Iterable[int] | None = None,
    config: Config | None = None,
    memory_limit: int | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
) -> Iterator[Explanation]:
    """Explains one image after the other, as `explain` does, bit for bit, and forgets each once it is handed out.

    No more than one chunk of images is read ahead, and one program is compiled for the whole stream. If the images or
    the classifier fail on the way, everything before the chunk in question has been handed out already, so what the
    caller has written is complete. A `BlackBox`, which may fail at any time, therefore gets its images one at a time,
    or `config.together`.

    Args:
      classifier: see `explain`.
      images: f32[H, W, C] in [0, 1] each, all of one shape; a generator is consumed as needed.
      key: one key of `jax.random.key`, the same for every image.
      labels: the class to explain in each image, as many as images; the predicted ones where None.
      contrast: the class to explain it against, see `explain`, as many as images; all classes where None.
      config: see `explain`.
      memory_limit: bytes that the compiled program may use for arguments, temporaries and results, as its own
        analysis estimates them, on each device; it lowers the chunk below the usual 16. Memory of the function in a
        `BlackBox` is not counted.
      chunk: images in one call of the compiled program; where it is given, nothing is estimated.
      mesh: devices that share each chunk, see `explain`; a chunk has so many images, or a multiple.

    Yields:
      An `Explanation` for each image, without leading axis.

    Raises:
      InputError: as `explain`; or the images are of different shapes, there is not one label for each, or the
        program does not fit the limit even for one image.

    >>> import evomask
    >>> is_bright = evomask.as_classifier(lambda x: x.mean((1, 2)) @ jax.numpy.array([[9.0, -9.0]]))
    >>> ones = (np.ones((8, 8, 1), np.float32) for _ in range(3))
    >>> config = evomask.presets.smallest(500)
    >>> [int(found.label) for found in explain_stream(is_bright, ones, key=jax.random.key(0), config=config)]
    [0, 0, 0]
    """
    key = validate.as_key(key)
    config = presets.evomask() if config is None else config
    for name, value in (("chunk", chunk), ("memory_limit", memory_limit)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name} is {value!r}: give a whole number of 1 or more, or None")
    multiple = multiple_of(classifier, config, mesh)
    most = chunk or _balanced(operator.length_hint(images), round_up(getattr(classifier, "chunk", CHUNK), multiple))
    limit = None if chunk else memory_limit
    return _explained(classifier, _rows(images, labels, contrast), key, config, round_up(most, multiple), limit, mesh)


def _explained(
    classifier: Classifier,
    rows: Iterator[tuple],
    key: Key,
    config: Config,
    most: int,
    limit: int | None,
    mesh: Mesh | None,
) -> Iterator[Explanation]:
    size = None
    while part := list(itertools.islice(rows, size or 1)):
        if size is None:
            size = most if limit is None else fitting_chunk(classifier, part[0][0], config, limit, most, mesh)
            part += itertools.islice(rows, size - 1)
            size = len(part)  # a stream that ends here needs no padding
        images, *classes = zip(*part, *[part[-1]] * (size - len(part)))
        labels, contrast = (None if column[0] is None else np.array(column) for column in classes)
        found = explain(
            classifier,
            np.stack(images),
            key=key,
            labels=labels,
            contrast=contrast,
            config=config,
            chunk=size,
            mesh=mesh,
        )
        yield from found[: len(part)]


def fitting_chunk(
    classifier: Classifier, image: Any, config: Config, limit: int, most: int = CHUNK, mesh: Mesh | None = None
) -> int:
    """The largest chunk, `most` or fewer, whose compiled program uses at most `limit` bytes (on each device of the
    mesh).

    One program is compiled, and that is the one that will run, where `most` fits. Otherwise the program for the
    smallest chunk, one image on each device or `config.together` of them, tells what every further step costs.

    Raises:
      InputError: the smallest chunk does not fit.
    """
    multiple = multiple_of(classifier, config, mesh)
    most = round_up(most, multiple) // multiple  # from here on, in steps
    used = lambda size: program_bytes(classifier, image, config, size * multiple, mesh)
    whole = used(most)
    if whole <= limit:
        return most * multiple
    one = whole if most == 1 else used(1)
    if one > limit:
        raise InputError(
            f"explaining {'one image' if config.together == 1 else f'{config.together} images together'} takes {one} "
            f"bytes, the memory limit is {limit}: raise the limit, or lower batch_size or together of the configuration"
        )
    size = 1 + int((limit - one) * (most - 1) / (whole - one))
    size = min(size, most - 1)
    return size * multiple if used(size) <= limit else multiple


def program_bytes(classifier: Classifier, image: Any, config: Config, chunk: int, mesh: Mesh | None = None) -> int:
    """Bytes that the compiled search of `chunk` images needs on each of its devices, by the compiler's own account."""
    images = np.broadcast_to(np.asarray(image)[None], (chunk, *np.shape(image)))
    used = lower(classifier, images, config=config, chunk=chunk, mesh=mesh).compile().memory_analysis()
    if used is None:
        raise InputError(f"{jax.default_backend()} does not say how much memory a program needs: give chunk instead")
    return used.argument_size_in_bytes + used.temp_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes


def _balanced(length: int, most: int) -> int:
    """The smallest chunk that makes as few chunks as `most` does; `most` where the length is not known, 0.

    >>> _balanced(17, 16), _balanced(3, 16), _balanced(0, 16)
    (9, 3, 16)
    """
    return -(-length // -(-length // most)) if length else most


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
