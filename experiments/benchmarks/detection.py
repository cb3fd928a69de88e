"""A detector of one's own and its detections: the network, how it is trained, and what is asked about each scene.

The network sees scenes of `evomask.data.scenes`. It divides a picture into cells of 8 x 8 pixels; each cell says of
which shape the thing is whose middle lies in it, and how far the thing reaches to all four sides (as FCOS, Tian et al.
2019, with one cell for each thing).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from flax import traverse_util

from evomask import data
from evomask.decisions import Box
from evomask.decisions.places import overlaps
from evomask.training.recipe import any_dtypes
from evomask.types import Array, InputError, Key, record, static

from ..shared import cli
from .imagesets import Shape, Source, trained_once

SIDE, CELL = 64, 8  # pixels
SEEN = 0.5  # the score and the overlap from which a thing counts as found


class Recipe(NamedTuple):
    """How the detector is trained, on scenes that are drawn anew for every step."""

    widths: tuple[int, ...] = (24, 48, 96)
    steps: int = 2000
    batch: int = 32
    rate: float = 3e-3
    seed: int = 0


class Cells(nn.Module):
    """Images f32[N, H, W, 3] in [0, 1] -> of each cell the logits of the shapes and the logarithms of four distances in
    cells, f32[N, H / 8, W / 8, K + 4].
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = 4.0 * (images - 0.45)
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (4, 4), (2, 2))(x))
            x = nn.relu(nn.Conv(width, (3, 3))(x))
        prior = nn.initializers.constant(-3.0)  # most cells are empty (Lin et al. 2017)
        return jnp.concatenate([nn.Conv(len(data.SHAPES), (1, 1), bias_init=prior)(x), nn.Conv(4, (1, 1))(x)], -1)


@record
class Detector:
    """A trained network: images f32[N, 64, 64, 3] -> boxes f32[N, 64, 4] in pixels, scores f32[N, 64, K]."""

    params: Any
    widths: tuple[int, ...] = static()

    labels = data.SHAPES
    image_shape = (SIDE, SIDE, 3)

    def __call__(self, images: Array) -> dict[str, Array]:
        found = Cells(self.widths).apply({"params": self.params}, images)
        logits, reach = jnp.split(found.reshape(len(images), -1, found.shape[-1]), [len(data.SHAPES)], -1)  # pyright: ignore
        return {"boxes": _boxes(reach), "scores": jax.nn.sigmoid(logits)}


def _middles() -> Array:
    """f32[M, 2], x and y of every cell's middle in pixels, row by row."""
    row, column = jnp.mgrid[: SIDE // CELL, : SIDE // CELL].astype(jnp.float32)
    return CELL * (jnp.stack([column, row], -1).reshape(-1, 2) + 0.5)


def _boxes(reach: Array) -> Array:
    """Logarithms of distances f32[N, M, 4] -> boxes f32[N, M, 4] in pixels."""
    near, far = jnp.split(CELL * jnp.exp(reach), 2, -1)
    return jnp.concatenate([_middles()[None] - near, _middles()[None] + far], -1)


# ------------------------------------------------------------------------------------------------------------ training


def detector(recipe: Recipe = Recipe()) -> Detector:
    """The detector, trained here the first time that it is asked for (minutes on a CPU) and then kept in the cache
    folder (`EVOMASK_CACHE`).
    """

    def write(path: Path) -> None:
        cli.say("training the detector of scenes")
        part = path.with_suffix(".part")
        safetensors.numpy.save_file(traverse_util.flatten_dict(train(recipe), sep="."), part)
        part.replace(path)

    flat = safetensors.numpy.load_file(trained_once("detector", f"{recipe}", write))
    return Detector(traverse_util.unflatten_dict(flat, sep="."), recipe.widths)


def train(recipe: Recipe) -> Any:
    """Parameters of `Cells` after so many steps on fresh scenes; the rate falls to zero as a cosine."""
    init_key, step_key = jax.random.split(jax.random.key(recipe.seed))
    network = Cells(recipe.widths)
    params = network.init(init_key, jnp.zeros((1, SIDE, SIDE, 3)))["params"]
    optimizer = any_dtypes(optax.adam(optax.cosine_decay_schedule(recipe.rate, max(recipe.steps, 1))))

    @jax.jit
    def step(params: Any, state: Any, key: Key) -> tuple[Any, Any]:
        images, boxes, shapes = data.scenes(key, recipe.batch, SIDE)
        error = lambda params: loss(network.apply({"params": params}, images), boxes, shapes)
        updates, state = optimizer.update(jax.grad(error)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for number in range(recipe.steps):
        params, state = step(params, state, jax.random.fold_in(step_key, number))
    return jax.device_get(params)


def loss(found: Array, boxes: Array, shapes: Array) -> Array:
    """Focal loss of the shapes and 1 - IoU of the boxes, for each thing, of `Cells`' f32[N, h, w, K + 4]."""
    logits, reach = jnp.split(found.reshape(len(found), -1, found.shape[-1]), [len(data.SHAPES)], -1)
    is_here, wanted = targets(boxes, shapes)
    kinds = jnp.einsum("nmt,ntk->nmk", is_here, jax.nn.one_hot(shapes, len(data.SHAPES)))
    things = jnp.maximum(is_here.sum(), 1.0)
    focal = optax.sigmoid_focal_loss(logits, jnp.minimum(kinds, 1.0), alpha=0.25, gamma=2.0).sum()
    shared = jax.vmap(jax.vmap(overlaps))(_boxes(reach), wanted)
    return (focal + (is_here.max(-1) * (1.0 - shared)).sum()) / things


def targets(boxes: Array, shapes: Array) -> tuple[Array, Array]:
    """Of T things, given as boxes f32[N, T, 4] and shapes int32[N, T]: which lies in which of M cells f32[N, M, T], and
    each cell's box f32[N, M, 4].
    """
    middles = (boxes[..., :2] + boxes[..., 2:]) / 2
    across = SIDE // CELL
    column, row = jnp.split(jnp.clip(middles // CELL, 0.0, across - 1.0).astype(jnp.int32), 2, -1)
    cell = (row * across + column)[..., 0]
    is_here = jax.nn.one_hot(cell, across * across, axis=1) * (shapes >= 0)[:, None].astype(jnp.float32)
    first = jnp.where(jnp.cumsum(is_here, -1) == 1, is_here, 0.0)  # of two things in a cell
    return is_here, jnp.einsum("nmt,ntc->nmc", first, boxes)


# ----------------------------------------------------------------------------------------------------------- the source


def detections(shape: Shape, crop: float, candidates: int, seed: int) -> Source:
    """Of each scene the surest box of the detector that lies on a thing and has its shape; scenes without are left out.

    Args:
      candidates: scenes that are drawn.
      seed: of the scenes, which are none of those that the detector was trained on.

    Raises:
      InputError: the network takes pictures of another size.
    """
    if tuple(shape) != Detector.image_shape:
        raise InputError(f"scenes are {list(Detector.image_shape)}, the network takes {list(shape)}: use another")
    key = jax.random.fold_in(jax.random.key(seed), int.from_bytes(b"look", "big"))
    pixels, boxes, shapes = jax.device_get(jax.jit(data.scenes, static_argnums=(1, 2))(key, candidates, SIDE))
    pixels = np.asarray(np.round(255 * pixels), np.uint8)

    def decide(network: Any, index: int) -> Box | None:
        image = pixels[index : index + 1].astype(np.float32) / np.float32(255)
        return right(jax.device_get(_seen(network, image)), boxes[index], shapes[index])

    return Source([f"scene_{seed}_{index:04}" for index in range(candidates)], pixels.__getitem__, decide=decide)


_seen = jax.jit(lambda network, images: network(images))


def right(found: dict[str, np.ndarray], boxes: np.ndarray, shapes: np.ndarray) -> Box | None:
    """The surest of a detector's boxes of one scene that lies on a thing and has its shape; None without one."""
    places, scores = found["boxes"][0], found["scores"][0]
    for cell in np.argsort(-scores.max(1), kind="stable"):
        label = int(scores[cell].argmax())
        if scores[cell, label] < SEEN:
            return None
        shared = np.asarray(overlaps(jnp.asarray(boxes), jnp.asarray(places[cell])))
        if (shared[shapes == label] >= SEEN).any():
            return Box(places[cell], label)
    return None


def precision_recall(network: Any, seed: int, num: int = 500) -> tuple[float, float]:
    """Of boxes surer than one half, the share that lies on a thing of its shape; of things, the share that is found."""
    drawn = jax.jit(data.scenes, static_argnums=(1, 2))(jax.random.key(seed), num, SIDE)
    found = _seen(network, drawn[0])
    shared = jax.vmap(jax.vmap(overlaps, (None, 0)), (0, 0))(found["boxes"], drawn[1])  # [N, T, M]
    kinds, sure = found["scores"].argmax(-1), found["scores"].max(-1) >= SEEN
    fits = (shared >= SEEN) & (kinds[:, None] == drawn[2][..., None]) & sure[:, None]
    return float(fits.any(1).sum() / sure.sum()), float(fits.any(2).sum() / (drawn[2] >= 0).sum())
