"""What a blanked pixel becomes. A fill maps an image to the blank image that shows where the mask does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from evomask.types import Array, Image, Key, record

# A grey that no file of 8 or 16 bits has, and noise never hits in all channels of a pixel; see `Drop`.
DROPPED = 0.50001

Fill = Callable[[Key, Image], Array]  # f32[H, W, C] -> blank f32[H, W, C]


@record
class Constant:
    """Every blanked pixel takes one value in [0, 1]; 0 is black, the published choice.

    >>> Constant(0.5)(jax.random.key(0), jnp.zeros((1, 1, 3)))
    Array([[[0.5, 0.5, 0.5]]], dtype=float32)
    """

    value: float = 0.0

    def __call__(self, key: Key, image: Image) -> Array:
        return jnp.full_like(image, self.value)


@record
class Drop:
    """Blanked pixels are dropped: a network that knows leaves their patches out, as tokens (`classifiers.vit`). Any
    other sees grey.

    >>> Drop()(jax.random.key(0), jnp.zeros((1, 1, 1))).tolist()
    [[[0.5000100135803223]]]
    """

    def __call__(self, key: Key, image: Image) -> Array:
        return jnp.full_like(image, DROPPED)


@record
class Mean:
    """The image's own mean colour."""

    def __call__(self, key: Key, image: Image) -> Array:
        return jnp.broadcast_to(jnp.mean(image, axis=(0, 1), keepdims=True), image.shape)


@record
class Blur:
    """The image under a Gaussian blur (Fong & Vedaldi 2017); `sigma` is a fraction of the shorter side."""

    sigma: float = 0.05

    def __call__(self, key: Key, image: Image) -> Array:
        height, width, _ = image.shape
        sigma = self.sigma * min(height, width)
        rows, cols = _gaussian(height, sigma), _gaussian(width, sigma)
        return jnp.einsum("ij,jwc->iwc", rows, jnp.einsum("kw,jwc->jkc", cols, image))


@record
class Noise:
    """Independent uniform noise in [0, 1], drawn once per image from its key."""

    def __call__(self, key: Key, image: Image) -> Array:
        return jax.random.uniform(key, image.shape)


SHIPPED = {
    "black": Constant(0.0),
    "grey": Constant(0.5),
    "white": Constant(1.0),
    "mean": Mean(),
    "blur": Blur(),
    "noise": Noise(),
}


def tried(own: tuple[Fill, ...]) -> dict[str, Fill]:
    """The fills under which a final mask is tried, by name: those of the search in their order, then the shipped ones.

    One that is not shipped is called as its type is, with a number where several would be called the same.

    >>> list(tried((Constant(1.0), Constant(0.25))))
    ['white', 'constant', 'black', 'grey', 'mean', 'blur', 'noise']
    """
    named: dict[str, Fill] = {}
    for fill in own:
        shipped = [name for name, other in SHIPPED.items() if _same(fill, other)]
        kind = getattr(fill, "__name__", type(fill).__name__).strip("<>").lower()
        names = itertools.chain(shipped or [kind], (f"{kind} {number}" for number in itertools.count(2)))
        named[next(name for name in names if name not in named and (shipped or name not in SHIPPED))] = fill
    return named | others(own)


def others(own: tuple[Fill, ...]) -> dict[str, Fill]:
    """The shipped fills that are none of these, by name.

    >>> list(others((Constant(1.0), Constant(0.25))))
    ['black', 'grey', 'mean', 'blur', 'noise']
    """
    return {name: fill for name, fill in SHIPPED.items() if not any(_same(fill, one) for one in own)}


def _same(fill: Fill, other: Fill) -> bool:
    """Whether two fills are of one type and equal in every number."""
    if type(fill) is not type(other):
        return False
    leaves, tree = jax.tree.flatten(fill)
    others, same = jax.tree.flatten(other)
    return tree == same and all(np.array_equal(a, b) for a, b in zip(leaves, others, strict=True))


def _gaussian(size: int, sigma: Array) -> Array:
    """f32[size, size], rows summing to one: blurring is a matrix product, with the border renormalised."""
    offset = jnp.arange(size, dtype=jnp.float32)
    kernel = jnp.exp(-0.5 * jnp.square((offset[:, None] - offset[None, :]) / sigma))
    return kernel / kernel.sum(axis=1, keepdims=True)


def apply(mask: Array, image: Image, blank: Array) -> Array:
    """bool[..., H, W], f32[H, W, C], f32[H, W, C] -> f32[..., H, W, C]: the image where kept, the blank elsewhere."""
    lead = range(mask.ndim - 2)
    return jnp.where(mask[..., None], jnp.expand_dims(image, lead), jnp.expand_dims(blank, lead))


@jax.jit
def blank(fill: Fill, key: Key, image: Image) -> Array:
    """f32[H, W, C], the image with every pixel blanked."""
    return fill(key, image)


@jax.jit
def blanks(fills: tuple[Fill, ...], key: Key, image: Image) -> Array:
    """f32[F, H, W, C], the image with every pixel blanked, by each fill.

    >>> blanks((Constant(0.5), Mean()), jax.random.key(0), jnp.ones((1, 1, 1))).reshape(-1)
    Array([0.5, 1. ], dtype=float32)
    """
    return jnp.stack([fill(key, image) for fill in fills])
