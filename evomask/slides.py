"""`explain_slide`: pictures too large for memory, whose network looks at tiles and decides by all of them together.

The tiles become a grid of embeddings, read row by row, and a small picture of its own: which of the tiles did the
network decide on? The best of these are then explained pixel by pixel, one after the other. So memory does not grow
with the slide but with its grid, and what is said is true of the slide: a blanked tile has the embedding that the
network gives it, and the mask of a tile is sufficient and necessary together with the other tiles of the mask.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evomask import presets, validate
from evomask.classifiers.wrappers import as_classifier, check_classifier, described
from evomask.decisions import Decision, decided
from evomask.explaining import concluded, explain, pose, search
from evomask.fills import Constant
from evomask.search.config import Config
from evomask.types import Array, Classifier, Explanation, InputError, Key, Niche, first_line, handed_on, record, whole


class SlideExplanation(NamedTuple):
    """What `explain_slide` found; row r and column c of the grid are the pixels [r t, r t + t) x [c t, c t + t)."""

    overview: Explanation  # of the grid, one pixel a tile; its image is the mean colour of each, f32[R, C, channels]
    tiles: dict[tuple[int, int], Explanation]  # of the tiles looked into, by row and column: the best one first
    tile: int  # t, side of a tile in pixels


def explain_slide(
    slide: Any,
    embed: Any,
    decide: Any,
    *,
    key: Key | int,
    tile: int = 256,
    into: int = 1,
    blank: float = 0.0,
    decision: Decision | None = None,
    label: int | None = None,
    config: Config | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SlideExplanation:
    """Which tiles of a slide, and which pixels of the best of them, does a network decide on?

    The network is given in its two parts, as it is trained on slides (attention pooling and the like: Ilse et al.
    2018). First the mask of tiles: those kept are enough, and without them the decision is lost. Then, for each tile
    looked into, the mask of its pixels: in place of the whole tile it has to do the same, beside the other tiles that
    are kept, of which those looked into before keep their own masks only. The first pixel of such a tile is never kept:
    it tells the network which of the two pictures it sees.

    Args:
      slide: [H, W, C], bytes or floats in [0, 1]: an array, whatever can be cut like one (`np.memmap`, zarr), or the
        path of a `.npy` or an uncompressed `.tif` file, of which no more than a row of
        tiles is in memory at a time.
      embed: tiles f32[N, tile, tile, C] in [0, 1] -> f32[N, D]; what `as_classifier` takes.
      decide: embeddings f32[N, R, C, D] of the R x C tiles -> logits f32[N, K], or whatever the decision takes; what
        `as_classifier` takes.
      key: one key of `jax.random.key`, or a seed.
      tile: side of a tile in pixels. Those at the lower and right border are filled up with `blank`.
      into: how many tiles to look into, at most as many as the mask keeps: those of the greatest score.
      blank: what a blanked pixel becomes, in [0, 1].
      decision: what is explained of what `decide` returns, see `explain`.
      label: the class to explain; the predicted one where None.
      config: of both searches, without showings; None: `presets.smallest()`.
      progress: called after each row of tiles with the tiles embedded so far and in all.

    Raises:
      InputError: the slide is none, or has fewer tiles than 2 x 2; the parts of the network do not fit each other; or
        the configuration draws showings, which are of photographs and not of grids.

    >>> slide = np.zeros((64, 64, 3), np.uint8)
    >>> slide[16:32, 32:48, 0] = 255
    >>> redness = lambda tiles: jnp.stack([tiles[..., 0].mean((1, 2)), tiles[..., 1].mean((1, 2))], 1)
    >>> decide = lambda grids: 9 * grids.max((1, 2)) - jnp.array([[0.0, 1.0]])
    >>> found = explain_slide(slide, redness, decide, key=0, tile=16, config=presets.smallest(500))
    >>> np.argwhere(found.overview.mask).tolist(), list(found.tiles)
    ([[1, 2]], [(1, 2)])
    """
    config = presets.smallest() if config is None else config
    if config.perturbation is not None:
        raise InputError("config draws showings, which are of a photograph: give presets.smallest() for a slide")
    if not 0 <= blank <= 1:
        raise InputError(f"blank is {blank!r}: give a number in [0, 1], such as 0 for black")
    tile, into = whole("tile", tile), whole("into", into, least=0)
    embed = as_classifier(embed)
    grid, colours, gone = _embedded(slide, embed, tile, float(blank), progress)
    network = decided(as_classifier(decide), decision)
    check_classifier(network, grid.shape)
    low, span = _scale(grid, gone)
    labels = None if label is None else [label]
    as_picture = ((grid - low) / span)[None]
    own = config.replace(fill=Constant(jnp.asarray((gone - low) / span)))
    overview = explain(_OfGrid(network, low, span), as_picture, config=own, key=key, labels=labels)[0]

    kept = np.where(overview.mask[..., None], grid, gone)
    rest = np.where(overview.mask[..., None], gone, grid)
    channels = jnp.array([*[blank] * colours.shape[-1], 0.0], jnp.float32)  # and one that says what is shown
    inner, tiles = config.replace(fill=Constant(channels)), {}
    for row, column in _best(overview, into):
        [pixels] = _row(slide, row, tile, float(blank), slice(column, column + 1))
        arrays = map(jnp.asarray, (grid, gone, kept, rest, (row, column)))
        classifier = _OfTile(network, embed, *arrays)
        found = _of_pixels(classifier, pixels, int(overview.label), validate.as_key(key), inner)
        tiles[row, column] = _seen(found, pixels, blank)
        both = np.stack([np.where(shown[..., None], pixels, blank) for shown in (found.mask, ~found.mask)])
        kept[row, column], rest[row, column] = np.asarray(_embed(embed, both.astype(np.float32)))
    return SlideExplanation(_seen(overview, colours, blank), tiles, tile)


def _of_pixels(classifier: Classifier, pixels: np.ndarray, label: int, key: Key, config: Config) -> Explanation:
    """The explanation of one tile, whose first pixel no mask keeps."""
    asked = {"key": key, "config": config, "mesh": None}
    picture = np.concatenate([pixels, np.ones((*pixels.shape[:2], 1), np.float32)], axis=-1)
    questions = pose(classifier, picture[None], [label], None, **asked)
    region = np.ones((1, *pixels.shape[:2]), bool)
    region[0, 0, 0] = False
    niche = Niche(region, np.zeros_like(region), np.zeros(1, np.float32))
    refined = search(classifier, questions=questions, niche=niche, **asked)
    refined = dataclasses.replace(refined, masks=refined.masks & region[:, None])
    return concluded(classifier, questions, refined, key, config, region)[0]


def _seen(found: Explanation, image: np.ndarray, blank: float) -> Explanation:
    """With a picture for people, and under the fill that was asked for: others make no sense of embeddings."""
    verdict = jax.tree.map(lambda said: said[:1], found.under_fills)
    blanks = np.full((1, *image.shape), blank, np.float32)
    return dataclasses.replace(found, image=image, blanks=blanks, under_fills=verdict, fills=found.fills[:1])


@record
class _OfGrid:
    """A network of embeddings, for a grid scaled to [0, 1]."""

    decide: Any
    low: Array  # f32[D]
    span: Array  # f32[D]

    def __call__(self, grids: Array) -> Array:
        return self.decide(grids * self.span.reshape(1, 1, 1, -1) + self.low.reshape(1, 1, 1, -1))

    def __getattr__(self, name: str) -> Any:
        return handed_on(self, self.decide, name, ("batch_size", "labels"))


@record
class _OfTile:
    """What a network decides of a slide, as a classifier of the pixels of one tile with a channel of ones.

    Where that is all there, the whole slide is shown, where it is gone, nothing; otherwise the tile in the masked slide
    or, where the first pixel is there, in the inverse-masked one.
    """

    decide: Any
    embed: Any
    grid: Array  # f32[R, C, D], of the slide
    gone: Array  # f32[D], of a blank tile
    kept: Array  # f32[R, C, D], of the masked slide
    rest: Array  # f32[R, C, D], of the inverse-masked one
    place: Array  # int32[2]

    def __call__(self, tiles: Array) -> Array:
        shown = tiles[..., -1] > 0.5
        states = shown.all((1, 2)), shown.any((1, 2)), shown[:, 0, 0]
        gone = self.gone.reshape(1, 1, -1)

        def whole(embedding: Array, is_all: Array, is_any: Array, is_inverse: Array) -> Array:
            part = jnp.where(is_inverse, self.rest, self.kept)
            slide = jnp.where(is_all, self.grid, jnp.where(is_any, part, gone))
            return slide.at[self.place[0], self.place[1]].set(embedding)

        return self.decide(jax.vmap(whole)(self.embed(tiles[..., :-1]), *states))

    def __getattr__(self, name: str) -> Any:
        return handed_on(self, self.decide, name, ("batch_size", "labels"))


_embed = jax.jit(lambda embed, tiles: embed(tiles))


def _embedded(
    slide: Any, embed: Classifier, tile: int, blank: float, progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The embeddings f32[R, C, D] of the tiles, their mean colours f32[R, C, channels], that of a blank tile f32[D]."""
    height, width, channels = _shape(slide)
    rows, columns = -(-height // tile), -(-width // tile)
    if min(rows, columns) < 2:
        raise InputError(f"the slide has {rows} x {columns} tiles of {tile} pixels: give a smaller tile")
    nothing = np.full((1, tile, tile, channels), blank, np.float32)
    gone = _checked(embed, nothing)[0]
    grid, colours = [], []
    for row in range(rows):
        pixels = np.stack(list(_row(slide, row, tile, blank)))
        size = int(getattr(embed, "batch_size", None) or columns)
        parts = [pixels[first : first + size] for first in range(0, columns, size)]
        grid.append(np.concatenate([np.asarray(_embed(embed, part)) for part in parts]))
        colours.append(pixels.mean((1, 2)))
        if progress is not None:
            progress((row + 1) * columns, rows * columns)
    return np.stack(grid), np.stack(colours), gone


def _checked(embed: Classifier, nothing: np.ndarray) -> np.ndarray:
    """The embedding of a blank tile, f32[1, D]."""
    try:
        found = _embed(embed, nothing)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"embed fails on tiles f32{list(nothing.shape)} ({first_line(error)}): it must take f32[N, H, W, C]"
        ) from error
    if getattr(found, "ndim", 0) != 2 or len(found) != 1 or not jnp.issubdtype(found.dtype, jnp.floating):
        raise InputError(f"embed returns {described(found)} for one tile: it must return embeddings f32[N, D]")
    return np.asarray(found)


def _scale(grid: np.ndarray, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least of each embedding's number f32[D], and how far it goes, f32[D]."""
    every = np.concatenate([grid.reshape(-1, grid.shape[-1]), gone[None]])
    if not np.isfinite(every).all():
        raise InputError("embed returned NaN or infinity: check its weights and what it makes of a blank tile")
    low, high = every.min(0), every.max(0)
    return low, np.where(high > low, high - low, 1.0).astype(np.float32)


def _best(overview: Explanation, num: int) -> list[tuple[int, int]]:
    """The places of the best of the kept tiles."""
    rows, columns = np.nonzero(overview.mask)
    order = np.argsort(-overview.score[rows, columns], kind="stable")[:num]
    return [(int(rows[i]), int(columns[i])) for i in order]


# ----------------------------------------------------------------------------------------------------------- reading


def _opened(slide: Any) -> Any:
    """The slide as something with a shape that can be cut; a file is mapped anew, so that what was read is let go."""
    if not isinstance(slide, str | Path):
        return slide
    path = Path(slide)
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix in (".tif", ".tiff"):
            import tifffile

            return tifffile.memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(
            f"slide {path} cannot be read ({first_line(error)}): give a .npy or an uncompressed .tif"
        ) from error
    raise InputError(f"slide {path} is of an unknown kind: give a .npy, an uncompressed .tif, or an array")


def _shape(slide: Any) -> tuple[int, int, int]:
    pixels = _opened(slide)
    kind = np.dtype(getattr(pixels, "dtype", object))
    if len(getattr(pixels, "shape", ())) != 3 or not (kind == np.uint8 or np.issubdtype(kind, np.floating)):
        raise InputError(f"the slide is {described(pixels)}: give bytes or floats in [0, 1], [H, W, C]")
    return tuple(int(size) for size in pixels.shape)  # pyright: ignore[reportReturnType]


def _row(slide: Any, row: int, tile: int, blank: float, columns: slice = slice(None)) -> Iterator[np.ndarray]:
    """The tiles of one row of the grid, f32[tile, tile, channels] in [0, 1] each."""
    pixels = _opened(slide)
    cut = pixels[row * tile : (row + 1) * tile]
    for column in range(-(-pixels.shape[1] // tile))[columns]:
        part = np.asarray(cut[:, column * tile : (column + 1) * tile])
        part = part.astype(np.float32) / (255 if part.dtype == np.uint8 else 1)
        if not (part.min() >= 0 and part.max() <= 1):
            raise InputError(
                f"the slide has values from {part.min():.4g} to {part.max():.4g} in row {row}, column {column} of its "
                "tiles: give values in [0, 1]"
            )
        missing = [(0, tile - size) for size in part.shape[:2]]
        yield np.pad(part, [*missing, (0, 0)], constant_values=blank)
