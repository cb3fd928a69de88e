"""How a picture is shown is drawn, not fixed: what must not change an answer is changed a little, again and again.

A *showing* is one draw of how the question is put: the picture a little brighter or noisier, picture and mask moved
together by a pixel or two, another fill where the mask does not show it. A mask is evidence only where it survives
that. The distribution is part of what is claimed, as in Anchors (Ribeiro et al. 2018) and delta-relevant sets
(Waeldchen et al. 2021), which draw what the mask leaves out; here what it keeps is drawn as well.

A perturbation is a pure function `(key, Showing) -> Showing`, shipped as a small record whose floats are leaves, or
anybody's own; `Perturbations` applies several in turn.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evomask import fills as fill_lib
from evomask.prng import unrolled
from evomask.search.checks import Plain, described, name_of
from evomask.types import Array, Image, InputError, Key, Mask, first_line, record, set_tuples

ROUNDING = 8 * float(np.finfo(np.float32).eps)  # what a picture may leave [0, 1] by
PROBES = 4  # showings of each plain picture that `check` looks at


@record
class Showing:
    """One way to put the question."""

    image: Array  # f32[H, W, C] in [0, 1], the perturbed picture
    blank: Array  # f32[H, W, C] in [0, 1], what shows where the mask does not
    shift: Array  # int32[2], rows and columns by which picture and mask were moved together


Perturbation = Callable[[Key, Showing], Showing]


@record
class Shift:
    """Picture, blank and mask are moved together by whole pixels, uniformly drawn, rows and columns apart.

    A network should not mind; many do (Azulay & Weiss 2019). What comes in at the border repeats the edge.

    Args:
      fraction: of the shorter side, from 0 to 1, by which they move at most, but for one pixel, which they always may.

    >>> picture = jnp.arange(9.0).reshape(3, 3, 1) / 8
    >>> shown = Perturbations((Shift(),))(jax.random.key(0), picture, jnp.zeros((3, 3, 1)))
    >>> shown.shift.tolist(), (8 * shown.image[..., 0]).astype(int).tolist()
    ([0, 1], [[0, 0, 1], [3, 3, 4], [6, 6, 7]])
    """

    fraction: float = 0.02

    called = "shift"

    def __call__(self, key: Key, showing: Showing) -> Showing:
        height, width, _ = showing.image.shape
        most = jnp.floor(self.fraction * min(height, width) + 1e-4)  # 0.02 * 50 is 1, however it is rounded
        most = jnp.maximum(most, 1).astype(jnp.int32)
        step = jax.random.randint(key, (2,), -most, most + 1)
        moved = functools.partial(_moved, shift=step, rows=-3)
        return Showing(moved(showing.image), moved(showing.blank), showing.shift + step)


@record
class Brightness:
    """The picture times a factor, uniformly drawn, and clipped to [0, 1] (Hendrycks & Dietterich 2019, far milder).

    Args:
      change: from 0 to 1; the factor lies in [1 - change, 1 + change].

    >>> half = jnp.full((1, 1, 1), 0.5)
    >>> shown = Perturbations((Brightness(0.05),))(jax.random.key(0), half, jnp.zeros((1, 1, 1)))
    >>> 0.475 <= float(shown.image[0, 0, 0]) <= 0.525, float(shown.blank[0, 0, 0])
    (True, 0.0)
    """

    change: float = 0.05

    called = "brightness"

    def __call__(self, key: Key, showing: Showing) -> Showing:
        factor = 1 + _steps(self.change * jax.random.uniform(key, (), jnp.float32, -1, 1))
        return dataclasses.replace(showing, image=jnp.clip(showing.image * factor, 0.0, 1.0))


@record
class Gaussian:
    """Independent Gaussian noise on every value of the picture, as much as is drawn; it is then clipped to [0, 1].

    Randomised smoothing certifies labels under such noise (Cohen et al. 2019). How much is drawn, as it is of a shift:
    a mask that holds under noise need not hold under less, since noise also hides what a network should not go by.

    Args:
      deviation: from 0 to 1, where 1 is white; a showing's standard deviation is drawn uniformly from 0 to this.

    >>> grey = jnp.full((64, 64, 3), 0.5)
    >>> shown = Perturbations((Gaussian(0.02),))(jax.random.key(0), grey, jnp.zeros((64, 64, 3)))
    >>> 0.0 < float(shown.image.std()) < 0.02, float(shown.blank.max())
    (True, 0.0)
    """

    deviation: float = 0.02

    called = "noise"

    def __call__(self, key: Key, showing: Showing) -> Showing:
        much, which = jax.random.split(key)
        deviation = self.deviation * jax.random.uniform(much, (), jnp.float32)
        noise = _steps(deviation * _steps(jax.random.normal(unrolled(which), showing.image.shape, jnp.float32)))
        return dataclasses.replace(showing, image=jnp.clip(showing.image + noise, 0.0, 1.0))


@record
class Fills:
    """The blank is that of one of several fills, drawn with weights, in place of the configuration's own.

    No fill is neutral: each tells the network something (missingness bias, Jain et al. 2022).

    Args:
      fills: see `evomask.fills`; all that are shipped where none is given.
      weights: one for each fill, from 0, of any positive sum; all alike where none is given.

    >>> few = Fills((fill_lib.Constant(0.0), fill_lib.Constant(1.0)), weights=(0.0, 3.0))
    >>> zeros = jnp.zeros((1, 1, 1))
    >>> float(Perturbations((few,))(jax.random.key(0), zeros, zeros).blank[0, 0, 0])
    1.0
    """

    fills: tuple[fill_lib.Fill, ...] = tuple(fill_lib.SHIPPED.values())
    weights: tuple[float, ...] = ()

    def __post_init__(self):
        set_tuples(self, ("fills", "weights"))
        if self.weights == () and isinstance(self.fills, tuple):
            object.__setattr__(self, "weights", (1.0,) * len(self.fills))

    def __call__(self, key: Key, showing: Showing) -> Showing:
        which, how = jax.random.split(key)
        blanks = jnp.stack([fill(how, showing.image) for fill in self.fills])
        chosen = jax.random.categorical(which, jnp.log(jnp.asarray(self.weights, jnp.float32)))
        return dataclasses.replace(showing, blank=blanks[chosen])

    def apart(self) -> dict[str, Fills]:
        """Each fill that can be drawn, by its name: only the weights differ.

        >>> list(Fills(weights=(1, 1, 0, 0, 0, 1)).apart())
        ['black fill', 'grey fill', 'noise fill']
        """
        names = itertools.islice(fill_lib.tried(self.fills), len(self.fills))
        only = lambda index: tuple(weight * (index == other) for other, weight in enumerate(self.weights))
        each = enumerate(zip(names, self.weights, strict=True))
        return {f"{name} fill": dataclasses.replace(self, weights=only(i)) for i, (name, weight) in each if weight > 0}


@record
class Perturbations:
    """A distribution of showings: each of the parts is applied in turn, with a key of its own.

    Args:
      parts: perturbations, in order; none shows the picture as it is.

    >>> darker = lambda key, showing: dataclasses.replace(showing, image=showing.image * 0.5)
    >>> ones = jnp.ones((2, 2, 1))
    >>> shown = Perturbations((darker, Shift()))(jax.random.key(0), ones, 0 * ones)
    >>> shown.image.reshape(-1).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    parts: tuple[Perturbation, ...] = ()

    def __post_init__(self):
        set_tuples(self, ("parts",))
        object.__setattr__(self, "parts", Plain.in_place_of_functions(self.parts))

    def __call__(self, key: Key, image: Image, blank: Array, on: Array | None = None) -> Showing:
        """One showing of a picture f32[H, W, C], whose own blank is f32[H, W, C].

        `on`, bool[parts], says which of the parts are applied; None: all. (A program that has them all can so show each
        by itself.)
        """
        return _draw(self.parts, key, image, blank, on)

    def apart(self) -> dict[str, tuple[Perturbations, np.ndarray]]:
        """Each perturbation by itself, by name, and each fill of several: what to call, and its `on`.

        >>> {name: on.tolist() for name, (_, on) in SHIPPED["local"].apart().items()}
        {'shift': [True, False, False], 'brightness': [False, True, False], 'noise': [False, False, True]}
        """
        found: dict[str, tuple[Perturbations, np.ndarray]] = {}
        for index, part in enumerate(self.parts):
            own = getattr(part, "called", name_of(part).rpartition(".")[2])
            each = part.apart() if isinstance(part, Fills) else {own: part}
            for name, one in each.items():
                numbered = (f"{name} {number}" for number in itertools.count(2))
                free = next(word for word in itertools.chain([name], numbered) if word not in found)
                parts = (*self.parts[:index], one, *self.parts[index + 1 :])
                found[free] = Perturbations(parts), np.arange(len(parts)) == index
        return found


@jax.jit  # also where it is called by itself: the same operations give the same bits
def _draw(parts: tuple[Perturbation, ...], key: Key, image: Image, blank: Array, on: Array | None) -> Showing:
    showing = Showing(image, blank, jnp.zeros(2, jnp.int32))
    for index, part in enumerate(parts):
        shown = part(jax.random.fold_in(key, index), showing)
        showing = shown if on is None else jax.tree.map(functools.partial(jnp.where, on[index]), shown, showing)
    return showing


def move(masks: Mask, shift: Array) -> Mask:
    """bool[..., H, W], int32[2] (rows down, columns right) -> the masks moved; the edge is repeated, as the picture's.

    >>> move(jnp.array([[True, False, False]]), jnp.array([0, 1])).tolist()
    [[True, True, False]]
    """
    return _moved(jnp.asarray(masks), shift, rows=-2)


def render(showing: Showing, masks: Mask) -> Array:
    """bool[P, H, W] -> f32[P, H, W, C]: the picture of a showing where the moved masks keep it, its blank elsewhere."""
    return fill_lib.apply(move(masks, showing.shift), showing.image, showing.blank)


def _steps(values: Array) -> Array:
    """f32[...], rounded to steps of 2 ** -20: a sum with it has the same bits, whatever operations a compiler fuses.

    One that adds in the same instruction in which it multiplied leaves out a rounding; here there is none.
    """
    return jnp.round(values * 2.0**20) * 2.0**-20


def _moved(pixels: Array, shift: Array, rows: int) -> Array:
    """Pixels whose rows lie along the axis `rows`, columns along the next one; what comes in repeats the edge."""
    for axis, step in zip((rows, rows + 1), shift, strict=True):  # whole rows, then columns: far faster than by pixel
        size = pixels.shape[axis]
        pixels = jnp.take(pixels, jnp.clip(jnp.arange(size, dtype=jnp.int32) - step, 0, size - 1), axis=axis)
    return pixels


CLIPPED = Shift, Brightness, Gaussian  # they keep to [0, 1] by themselves
_SMALL = (Shift(), Brightness(), Gaussian())

# Where fills are drawn, they are first, so that they are moved with the picture, as the configuration's own is.
SHIPPED = {
    "local": Perturbations(_SMALL),
    "none": Perturbations(),
    "fills": Perturbations((Fills(),)),
    "all": Perturbations((Fills(), *_SMALL)),
}


def named(name: str | Perturbations) -> Perturbations:
    """The shipped perturbations of that name; one's own are returned as they are.

    These are `local` (a small shift, brightness and noise, under the configuration's own fill), `none`, `fills` (every
    shipped fill, nothing moved) and `all` (both).

    Raises:
      InputError: there are none of that name.

    >>> named("local").parts
    (Shift(fraction=0.02), Brightness(change=0.05), Gaussian(deviation=0.02))
    """
    if isinstance(name, Perturbations):
        return name
    if isinstance(name, str) and name in SHIPPED:
        return SHIPPED[name]
    near = difflib.get_close_matches(name, SHIPPED, 1) if isinstance(name, str) else []
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(
        f"perturbation is {name!r}{meant}: give one of {', '.join(SHIPPED)}, or perturbations.Perturbations of your own"
    )


def check(perturbations: Perturbations, shape: tuple[int, int, int]) -> None:
    """Refuses perturbations that do not make showings of pictures of H x W x C; runs them on a few plain pictures.

    Raises:
      InputError: it names the perturbation, what is wrong with its numbers or with what it returned, and what to give.

    >>> bright = lambda key, showing: dataclasses.replace(showing, image=showing.image * 1.5)
    >>> check(Perturbations((bright,)), (8, 8, 3))
    Traceback (most recent call last):
    ...
    evomask.types.InputError: the perturbation <lambda> shows an image from 0 to 1.5: clip it to [0, 1]
    """
    if not isinstance(perturbations.parts, tuple):
        raise InputError(f"the parts of Perturbations are {perturbations.parts!r}: give a tuple, such as (Shift(),)")
    for part in perturbations.parts:
        _check_numbers(part)
        _check_form(part, shape)
    if all(type(part) in CLIPPED for part in perturbations.parts):
        return
    ranges = jax.device_get(_ranges(perturbations.parts, jax.random.key(0), tuple(shape)))
    for part, found in zip(perturbations.parts, ranges, strict=True):
        for what, (low, high) in found.items():
            if not (low >= -ROUNDING and high <= 1 + ROUNDING):
                raise InputError(
                    f"the perturbation {name_of(part)} shows {what} from {low:.4g} to {high:.4g}: clip it to [0, 1]"
                )


def _check_numbers(part: Perturbation) -> None:
    """Refuses a shipped perturbation with numbers out of range."""
    if isinstance(part, (Shift, Brightness, Gaussian)):
        [(name, value)] = vars(part).items()
        if not _is_from_0(value) or value > 1:
            raise InputError(f"the {name} of {name_of(part)} is {value!r}: give a number from 0 to 1")
    if isinstance(part, Fills):
        if len(part.weights) != len(part.fills):
            raise InputError(f"Fills has {len(part.fills)} fills and {len(part.weights)} weights: give one for each")
        if not all(map(_is_from_0, part.weights)) or not 0 < sum(part.weights) < np.inf:
            raise InputError(f"the weights of Fills are {part.weights}: give numbers from 0 that sum to more than 0")


def _is_from_0(value: Any) -> bool:
    try:
        return bool(float(value) >= 0)
    except (TypeError, ValueError):
        return False


def _check_form(part: Perturbation, shape: tuple[int, int, int]) -> None:
    """Refuses a perturbation that fails, or returns anything but a showing of the same form; nothing is computed."""
    picture = jax.ShapeDtypeStruct(shape, jnp.float32)
    given = Showing(picture, picture, jax.ShapeDtypeStruct((2,), jnp.int32))
    name = f"the perturbation {name_of(part)}"
    try:
        found = jax.eval_shape(lambda part, key, showing: part(key, showing), part, jax.random.key(0), given)
    except Exception as error:
        wanted = "it must take a key and a Showing, and return a Showing"
        raise InputError(f"{name} fails ({first_line(error)}): {wanted}") from error
    if not isinstance(found, Showing):
        raise InputError(f"{name} returns {described(found)}: it must return a Showing")
    for field, wanted in vars(given).items():
        if described(getattr(found, field)) != described(wanted):
            raise InputError(
                f"{name} returns the {field} {described(getattr(found, field))}: it must return {described(wanted)}"
            )


@functools.partial(jax.jit, static_argnames="shape")
def _ranges(parts: tuple[Perturbation, ...], key: Key, shape: tuple[int, int, int]) -> list[dict[str, Array]]:
    """After each part, the least and the greatest value of picture and blank: of black, white and noisy pictures."""
    plain = jnp.stack([jnp.zeros(shape), jnp.ones(shape), jax.random.uniform(key, shape)])
    images = jnp.tile(plain, (PROBES, 1, 1, 1))
    showing = Showing(images, 1 - images, jnp.zeros((len(images), 2), jnp.int32))
    found = []
    for index, part in enumerate(parts):
        keys = jax.random.split(jax.random.fold_in(key, index), len(images))
        showing = jax.vmap(part)(keys, showing)
        pictures = {"an image": showing.image, "a blank": showing.blank}
        found.append({name: jnp.stack([values.min(), values.max()]) for name, values in pictures.items()})
    return found
