"""How far a compiled search has come: the program calls `tick`, whoever listens is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import jax

Progress = Callable[[int, int], None]  # (evaluations done, evaluations in all)

# The compiled program outlives one call and cannot hold the listener itself, or each listener would compile anew.
_listeners: list[Callable[[int], None]] = []
_one_at_a_time = threading.Lock()  # the devices of a mesh call from threads of their own


@contextlib.contextmanager
def reporting(progress: Progress | None, total: int) -> Iterator[None]:
    """While open, evaluations reported by `tick` are added up and passed on to `progress`.

    >>> with reporting(lambda done, total: print(done, "of", total), 100):
    ...     tick(40)
    40 of 100
    """
    if progress is None:
        yield
        return
    done = 0

    def listener(evaluations: int) -> None:
        nonlocal done
        done += evaluations
        progress(done, total)

    _listeners.append(listener)
    try:
        yield
        jax.effects_barrier()  # callbacks may still be on their way when the results are there
    finally:
        _listeners.remove(listener)


def tick(evaluations: int, speaks: bool = True) -> None:
    """Called from the compiled program: so many evaluations are about to be made; ignored from a device that does not
    speak.
    """
    with _one_at_a_time:
        if _listeners and speaks:
            _listeners[-1](evaluations)
