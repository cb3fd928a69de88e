"""How much memory explanations take: of many images one after the other, or of a slide that is larger than memory."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

import evomask
from evomask import presets
from evomask.classifiers.wrappers import check_classifier
from evomask.data import photographs
from evomask.settings import one_blas_thread, reuse_memory
from evomask.types import Array, Classifier, InputError, record

from ..explain import build_config
from ..shared import cli

KEY = 0


def table(config: DictConfig) -> Table:
    """The peak memory of one process for each number of images in `config.stream`, or each side in `config.slide`."""
    name, work, unit = ("stream", stream, "images") if config.stream is not None else ("slide", slide, "pixels a side")
    plain, out = OmegaConf.to_container(config), Table(unit, "peak memory, MiB", "s", "found")
    for num in config[name]:
        if not isinstance(num, int) or num < 1:
            raise InputError(f"{name} has {num!r}: give whole numbers of {unit}")
        # A process of its own, because a peak is never forgotten, and a spawned one, which starts with nothing.
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), as_in_programs) as pool:
            peak, taken, found = pool.submit(work, plain, num).result()
        out.add_row(str(num), peak, f"{taken:.1f}", found)
    return out


def as_in_programs() -> None:
    """What `cli.launch` does before it runs a task."""
    reuse_memory()
    one_blas_thread()


def stream(plain: dict, num: int) -> tuple[str, float, str]:
    """Peak memory of this process, and seconds, compiling included, for explaining `num` different images."""
    config = OmegaConf.create(plain)
    classifier = evomask.as_classifier(cli.instantiate(config.model))
    check_classifier(classifier, classifier.image_shape)
    draw = np.random.default_rng(KEY)
    noise = (draw.uniform(size=classifier.image_shape).astype(np.float32) for _ in range(num))
    start = time.perf_counter()
    explained = sum(1 for _ in evomask.explain_stream(classifier, noise, key=KEY, config=build_config(config)))
    return peak(), time.perf_counter() - start, f"{explained} explanations"


def slide(plain: dict, side: int) -> tuple[str, float, str]:
    """The same for one slide of side x side pixels: noise, and somewhere in it a shipped photograph.

    Its network is the model, tile by tile, and says of the slide what it says of the tile that it is surest of.
    """
    config = OmegaConf.create(plain)
    network = evomask.as_classifier(cli.instantiate(config.model))
    height, width, _ = network.image_shape
    photograph = photographs.load(photographs.sample(), network.image_shape).image
    label = int(jnp.argmax(network(jnp.asarray(photograph)[None])[0]))
    row, column = side // height * 2 // 3, side // width // 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.npy"
        _write(path, side, photograph, row, column)
        start = time.perf_counter()
        options = {"key": KEY, "tile": height, "config": presets.smallest(config.budget)}
        some = jnp.array([label, *(other for other in range(8) if other != label)])
        decide = evomask.as_classifier(lambda grids: grids.max((1, 2)), batch_size=4)
        found = evomask.explain_slide(path, _Some(network, some), decide, label=0, **options)
        taken = time.perf_counter() - start
    kept, places = found.overview.mask, list(found.tiles)
    said = f"{kept.sum()} of {kept.size} tiles{', the photograph among them' if kept[row, column] else ''}"
    return peak(), taken, f"{said}; in {places} {found.tiles[places[0]].area:.0%} of the pixels"


@record
class _Some:
    """A few logits of a network, as embeddings."""

    network: Classifier
    labels: Array  # int32[D]

    def __call__(self, tiles: Array) -> Array:
        return self.network(tiles)[:, self.labels]

    @property
    def batch_size(self) -> int:
        return self.network.batch_size  # pyright: ignore[reportAttributeAccessIssue]


def _write(path: Path, side: int, photograph: np.ndarray, row: int, column: int) -> None:
    """Noise, tile row by tile row, with the photograph in one tile."""
    (height, width, _), draw = photograph.shape, np.random.default_rng(KEY)
    np.lib.format.open_memmap(path, "w+", np.uint8, (side, side, 3)).flush()
    for top in range(0, side, height):
        rows = np.lib.format.open_memmap(path, "r+")[top : top + height]
        rows[:] = draw.integers(0, 256, rows.shape, np.uint8)
        if top == row * height:
            rows[:, column * width : (column + 1) * width] = np.round(255 * photograph)


def peak() -> str:
    """The most memory that this process has had, in MiB, and on each accelerator: "1133, cuda:0 2048"."""
    had = {device: device.memory_stats() for device in jax.local_devices()}  # None on a CPU
    host = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f}"
    return ", ".join(
        [host, *(f"{device} {stats['peak_bytes_in_use'] / 2**20:.0f}" for device, stats in had.items() if stats)]
    )
