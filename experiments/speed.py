"""How much of the time is the network? `python -m experiments.speed` compares `explain` with forward passes alone.

Both send the same number of images, in batches of the same size, through the same network inside one compiled program, and
take turns, so that a machine whose speed drifts treats them alike. What is printed is the ratio of each pair.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

import evomask
from evomask import images
from evomask.config import Config
from evomask.evaluate import batches
from evomask.types import Classifier, InputError
from experiments import _cli
from experiments.explain import build_config


def main(argv: list[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return _cli.run(measure, "speed", argv)


def measure(config: DictConfig) -> int:
    """Times pairs of runs on the shipped photograph and prints their ratio."""
    if not isinstance(config.pairs, int) or config.pairs < 1:
        raise InputError(f"pairs is {config.pairs!r}: give a whole number of 1 or more")
    settings = build_config(config)
    classifier = evomask.as_classifier(_cli.instantiate(config.model))
    photo = images.load(images.sample(), classifier.image_shape, getattr(classifier, "crop", 1.0))
    image = photo.image[None]
    start = time.perf_counter()
    forward = compile_forward(classifier, image, settings)
    compile_forward_seconds = time.perf_counter() - start
    compile_seconds = evomask.precompile(classifier, image, config=settings)
    explain = lambda: evomask.explain(classifier, image, key=jax.random.key(0), config=settings)
    seconds(forward), seconds(explain)  # the first run of each also touches its memory for the first time
    pairs = np.array([(seconds(forward), seconds(explain)) for _ in range(config.pairs)])
    Console().print(table(pairs, settings.evaluations, (compile_forward_seconds, compile_seconds)))
    return 0


def compile_forward(classifier: Classifier, image: np.ndarray, settings: Config) -> Callable[[], jax.Array]:
    """The forward passes of one explanation and nothing else: as many images, in batches as large, in one program."""
    sizes = [(stage.generations + 1, *batches(settings.generation_cost(stage), settings.batch_size_for(classifier)))
             for stage in settings.stages]

    def run(classifier: Classifier, image: jax.Array) -> list[jax.Array]:
        def look(total: jax.Array, dimmed: jax.Array, size: int):
            # Every batch differs, or the compiler would compute it only once.
            batch = jnp.broadcast_to(image * dimmed, (size, *image.shape[1:]))
            return total + classifier(batch).sum(), None

        passes = [(jnp.linspace(0.5, 1.0, rounds * calls), size) for rounds, calls, size in sizes]
        return [jax.lax.scan(lambda t, d, s=size: look(t, d, s), jnp.float32(0), dims)[0] for dims, size in passes]

    compiled = jax.jit(run).lower(classifier, image).compile()
    return lambda: compiled(classifier, image)


def seconds(function: Callable) -> float:
    """Wall-clock seconds of one call, to the end of its computation."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def table(pairs: np.ndarray, evaluations: int, compiling: tuple[float, float]) -> Table:
    """Medians, and the ratio pair by pair with its spread."""
    ratios = pairs[:, 1] / pairs[:, 0]
    out = Table("", "compiling, s", "running, s", "ms per image", title=f"{evaluations} images, {len(pairs)} pairs")
    for name, compiled, times in zip(("forward passes alone", "explain"), compiling, pairs.T):
        median = np.median(times)
        out.add_row(name, f"{compiled:.1f}", f"{median:.2f}", f"{1000 * median / evaluations:.2f}")
    out.caption = f"explain / forward: median {np.median(ratios):.3f}, from {ratios.min():.3f} to {ratios.max():.3f}"
    return out


if __name__ == "__main__":
    sys.exit(main())
