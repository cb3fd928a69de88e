"""How often and how long XLA compiles, by JAX's own account."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

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
