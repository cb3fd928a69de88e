"""A Python function whose outputs are several arrays, or one of any shape: a detector's boxes, a segmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask.classifiers.blackbox import BlackBox
from evomask.types import Array, InputError, handed_on, record, static, whole

Shape = tuple[int, ...]


@record
class Structured:
    """A `BlackBox` whose numbers are dealt out to arrays, see `from_function`."""

    box: BlackBox
    shapes: tuple[Shape, ...] = static()  # of the arrays of one image
    structure: Any = static()  # PyTreeDef

    def __call__(self, images: Array) -> Any:
        numbers, ends = self.box(images), np.cumsum([math.prod(shape) for shape in self.shapes])
        parts = jnp.split(numbers, ends[:-1], axis=1)
        arrays = [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return jax.tree.unflatten(self.structure, arrays)

    def __getattr__(self, name: str) -> Any:
        """What else a classifier may have is the black box's."""
        return handed_on(self, self.box, name, ("image_shape", "batch_size", "labels"))


def from_function(function: Callable[[np.ndarray], Any], shapes: Any, **options: Any) -> Structured:
    """A Python function of images f32[N, H, W, C] in [0, 1] whose outputs are arrays of the shapes that are given.

    As `BlackBox`, which takes scores [N, K] only; a decision says what is explained, `evomask.decisions.Box` of a
    detector, `Segment` of a segmentation.

    Args:
      function: images f32[N, H, W, C] -> N times each shape, in the structure of `shapes`. A detector that finds
        another number of boxes in every image fills up with boxes of score 0, or leaves some out.
      shapes: the shape of each output of one image, in a dict or a tuple of these, {"boxes": (100, 4), "scores":
        (100, 80)}, or one alone, (32, 32, 21).
      **options: of `BlackBox`, such as image_shape, labels, batch_size, timeout or retries.

    Raises:
      InputError: the shapes are none, or, at a call, the function returns something else.

    >>> def corners(images):
    ...     bright = images.mean((1, 2, 3))[:, None, None]
    ...     return {"boxes": np.tile([[[0, 0, 4, 4]]], (len(images), 1, 1)), "scores": bright}
    >>> detector = from_function(corners, {"boxes": (1, 4), "scores": (1, 1)})
    >>> {name: part.shape for name, part in detector(jnp.ones((2, 8, 8, 3))).items()}
    {'boxes': (2, 1, 4), 'scores': (2, 1, 1)}
    """
    found, structure = jax.tree.flatten(shapes, is_leaf=_is_shape)
    if not found or not all(map(_is_shape, found)):
        raise InputError(
            f"shapes is {shapes!r}: give the shape of each output of one image, such as {{'boxes': (100, 4)}}"
        )
    kept = tuple(tuple(whole("shapes", length) for length in shape) for shape in found)
    flat = _Flat(function, kept, structure)
    box = BlackBox(flat, sum(math.prod(shape) for shape in kept), outputs="values", **options)
    return Structured(box, kept, structure)


def _is_shape(node: Any) -> bool:
    return isinstance(node, list | tuple) and all(isinstance(length, int | np.integer) for length in node)


class _Flat:
    """The outputs of a function as one array [N, K]."""

    def __init__(self, function: Callable, shapes: tuple[Shape, ...], structure: Any):
        self.function, self.shapes, self.structure = function, shapes, structure

    def __call__(self, images: np.ndarray) -> np.ndarray:
        found = self.function(images)
        try:
            arrays = [np.asarray(part) for part in self.structure.flatten_up_to(found)]
        except ValueError:
            raise InputError(f"the function returned a {type(found).__name__}: {self._wanted(len(images))}") from None
        wanted = [(len(images), *shape) for shape in self.shapes]
        if [array.shape for array in arrays] != wanted or any(array.dtype.kind not in "fiub" for array in arrays):
            came = ", ".join(f"{array.dtype}{list(array.shape)}" for array in arrays)
            raise InputError(f"the function returned {came}: {self._wanted(len(images))}")
        return np.concatenate([array.reshape(len(images), -1).astype(np.float32) for array in arrays], axis=1)

    def _wanted(self, num: int) -> str:
        shapes = jax.tree.unflatten(self.structure, [f"numbers{[num, *shape]}" for shape in self.shapes])
        return f"shapes promises {shapes} for {num} images"
