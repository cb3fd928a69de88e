"""A grid of cells whose unions are few enough to try them all, and the search with nothing else to choose from.

A cell is one gene, a square of odd side, so that neighbours may share a pixel. Nothing is approximated by that: what is
enumerated are the masks that the genes make, the same that the search may choose.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from evomask import operators, racing
from evomask.explaining import search
from evomask.measures.certainty import Precision
from evomask.search import genome
from evomask.search.config import Config
from evomask.types import Array, Classifier, InputError, Key, Mask, Question
from evomask.verify import spent_after

from ..benchmarks.ablations import Around, Flip

MOST = 4  # cells along a side: 65,536 unions
CHUNK = 1024  # unions whose pixels are counted at a time


def tiles(cells: int, shape: tuple[int, int]) -> np.ndarray:
    """The genes int32[cells * cells, 3] of a grid that covers an image of H x W.

    Raises:
      InputError: so many cells cannot all be tried, or are less than three pixels wide.

    >>> tiles(2, (32, 32)).tolist()
    [[8, 8, 8], [8, 24, 8], [24, 8, 8], [24, 24, 8]]
    """
    if type(cells) is not int or not 2 <= cells <= MOST:
        raise InputError(f"cells is {cells!r}: give 2 to {MOST} along a side, for all unions of them are tried")
    everywhere, nobody = genome.space(jnp.ones(shape, bool), jnp.array([1])), jnp.full((1, 3), genome.OFF)
    found = np.asarray(operators.Tile(1.0)(jax.random.key(0), everywhere, 1, cells * cells, nobody)[0])
    if found[:, 2].min() < 1:
        raise InputError(f"cells is {cells}, which does not suit images of {shape[0]} x {shape[1]} pixels: give less")
    return found


def unions(tiles: Array, numbers: Array, shape: tuple[int, int]) -> Mask:
    """The masks bool[N, H, W] of the numbers int32[N], whose bits say which of the tiles are kept.

    >>> unions(jnp.array([[0, 0, 0], [0, 1, 0]]), jnp.array([0, 1, 2, 3]), (1, 2)).astype(int).tolist()
    [[[0, 0]], [[1, 0]], [[0, 1]], [[1, 1]]]
    """
    places = jnp.arange(len(tiles), dtype=jnp.int32)
    is_on = (numbers[:, None] >> places[None]) % 2 == 1
    genomes = jnp.broadcast_to(tiles[None], (len(numbers), *tiles.shape))
    return genome.rasterize(genomes.at[..., 2].set(jnp.where(is_on, tiles[None, :, 2], genome.OFF)), shape)


def by_size(tiles: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of all unions from small to large, and how many pixels each keeps: int32[2 ** tiles] each.

    >>> order, pixels = by_size(tiles(2, (4, 6)), (4, 6))
    >>> order[:3].tolist(), pixels[:3].tolist(), int(pixels[-1])
    ([0, 4, 8], [0, 6, 6], 24)
    """
    count = jax.jit(lambda numbers: unions(jnp.asarray(tiles), numbers, shape).sum((1, 2), dtype=jnp.int32))
    numbers = np.arange(2 ** len(tiles), dtype=np.int32)
    pixels = np.concatenate([count(part) for part in np.split(numbers, range(CHUNK, len(numbers), CHUNK))])
    order = np.argsort(pixels, kind="stable")
    return numbers[order], pixels[order]


def number_of(mask: np.ndarray, tiles: np.ndarray) -> int | None:
    """The number of the union that a mask bool[H, W] is; None where it is none.

    >>> number_of(np.array([[True, False, False]]), np.array([[0, 0, 0], [0, 1, 0], [0, 2, 0]]))
    1
    """
    each = unions(jnp.asarray(tiles), jnp.int32(1) << jnp.arange(len(tiles), dtype=jnp.int32), mask.shape)
    holds = (np.asarray(each) <= mask[None]).all((1, 2))
    number = int((holds << np.arange(len(tiles))).sum())
    same = unions(jnp.asarray(tiles), jnp.array([number], jnp.int32), mask.shape)[0]
    return number if (np.asarray(same) == mask).all() else None


def on_grid(config: Config, tiles: np.ndarray) -> Config:
    """The configuration whose genes are bits, one for each tile; all else stays, the budget as well.

    No stage is confined to the mask of the one before it, since what is left of a tile there would be no tile.
    """
    bits = {"genes": len(tiles), "radii": (int(tiles[0, 2]),), "confines": False, "founders": Around()}
    changed = config.replace(mutation=Flip(), **bits)
    first = dataclasses.replace(changed.stages[0], founders=operators.Tile(0.1))
    return changed.replace(stages=(first, *changed.stages[1:]))


def smallest_held(
    classifier: Classifier, question: Question, tiles: np.ndarray, *, key: Key, config: Config
) -> tuple[np.ndarray, int, Precision]:
    """What the search of a configuration `on_grid` with showings finds: mask, evaluations, and the precision of it.

    The race is run among unions: the champion grown is one only where it covers the picture.
    """
    refined = search(classifier, key, config, [question])
    evolving = int(spent_after(refined, config)[0, -1])
    refined = jax.tree.map(lambda field: field[0], refined)
    some = racing.candidates(refined)
    is_union = np.array([number_of(mask, tiles) is not None for mask in some.masks])
    unions = racing.Candidates(*(field[is_union] for field in some[:3]), int(is_union[: some.first].sum()))
    options = {"key": key, "config": config, "excused": bool(refined.breaks)}
    _, mask, spent, held = racing.settle_one(classifier, question, unions, **options)
    return mask, evolving + spent, held
