"""How far a compiled search has come: the program calls `tick`, whoever listens to this call of it is told."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import jax
import numpy as np

Progress = Callable[[int, int], None]  # (evaluations done, evaluations in all)

# The compiled program outlives one call and cannot hold the listener itself, or each listener would compile anew. It is
# told the number of its listener, as an argument: another thread may be running the same program for somebody else.
_listeners: dict[int, Callable[[int], None]] = {}
_numbers = itertools.count()


@contextlib.contextmanager
def reporting(progress: Progress | None, total: int) -> Iterator[np.ndarray | None]:
    """While open, evaluations reported by `tick` are added up and passed on to `progress`.

    Yields:
      The number by which `tick` finds this listener, int32[]; None where nobody listens.

    >>> with reporting(lambda done, total: print(done, "of", total), 100) as listener:
    ...     tick(40, listener)
    40 of 100
    """
    if progress is None:
        yield None
        return
    done, number = 0, next(_numbers) % 2**31
    one_at_a_time = threading.Lock()  # the devices of a mesh call from threads of their own

    def told(evaluations: int) -> None:
        nonlocal done
        with one_at_a_time:
            done += evaluations
            progress(done, total)

    _listeners[number] = told
    try:
        yield np.int32(number)  # pyright: ignore[reportReturnType]
        jax.effects_barrier()  # callbacks may still be on their way when the results are there
    finally:
        del _listeners[number]


def tick(evaluations: int, listener: int, speaks: bool = True) -> None:
    """Called from the compiled program: so many evaluations are about to be made; ignored from a device that does not
    speak, and where the listener has gone.
    """
    told = _listeners.get(int(listener))
    if told is not None and speaks:
        told(evaluations)
