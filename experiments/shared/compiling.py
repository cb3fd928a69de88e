"""How often and how long XLA compiles, by JAX's own account; and where what it compiled is kept for the next start."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

from evomask import executables

EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compile_seconds() -> Iterator[list[float]]:
    """Collects the seconds that each compilation took while it is open; an empty list where nothing was compiled.

    >>> with compile_seconds() as seconds:
    ...     program = jax.jit(lambda x: x + 1).lower(1.0).compile()
    >>> len(seconds), seconds[0] > 0
    (1, True)
    """
    seconds: list[float] = []

    def listener(event: str, duration: float, **_) -> None:
        if event == EVENT:
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """While open, programs are looked up in a folder before they are compiled, and put there afterwards.

    The search is looked up before it is even traced, see `evomask.executables`, everything else in JAX's own cache.
    JAX's settings come first: JAX_COMPILATION_CACHE_DIR names another folder, for JAX's cache alone, and
    JAX_ENABLE_COMPILATION_CACHE=false switches all of this off. A folder that cannot be read or written, or is full,
    costs the time of compiling and no more.
    """
    where = str(folder / processor())
    settings = {"jax_compilation_cache_dir": where, "jax_persistent_cache_min_compile_time_secs": 0.1}
    if jax.config.jax_compilation_cache_dir is not None:
        settings = {}
    ours = settings and jax.config.jax_enable_compilation_cache
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        with warnings.catch_warnings(), executables.kept(Path(where)) if ours else contextlib.nullcontext():
            warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
            for name, value in settings.items():
                jax.config.update(name, value)
            yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def processor() -> str:
    """A name for this kind of processor: code for one may not run on another, and machines may share a home."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # no Linux
        lines = [platform.processor()]
    kind = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))} or set(lines))
    return f"{platform.machine()}-{hashlib.sha256(repr(kind).encode()).hexdigest()[:8]}"
