"""What a user sets for all of JAX and NumPy changes no explanation: public functions have settings of their own.

And settings that are the user's: where things are kept that cost time to make again, and what becomes of memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import mmap
import os
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib.version
import numpy as np

MALLOPT = {-8: 1, -4: 0, -1: 2**31 - 1}  # glibc's M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD
RESERVED = 7 << 28  # bytes of addresses; M_TRIM_THRESHOLD is an int, and from there on memory is trimmed after all
COMPILER = ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_experimental_ynn_fusion_type=")  # flags of XLA

_outside = threading.local()  # what the user had set before this thread came in here
_last = types.SimpleNamespace(x64=False)  # the same of whichever thread came in last


@contextlib.contextmanager
def own() -> Iterator[None]:
    """While open, this thread computes in single precision, with the same random bits, and lets NaN pass.

    The search counts on all three: NaN stands for what was not evaluated. What a black box does on the way is its own
    business, see `users`.

    >>> with own():
    ...     jax.numpy.ones(1).dtype
    dtype('float32')
    """
    with contextlib.ExitStack() as stack:
        if not hasattr(_outside, "x64"):
            _outside.x64 = _last.x64 = _is_double()
            stack.callback(delattr, _outside, "x64")
        for setting in (
            jax.enable_x64(False),
            jax.threefry_partitionable(True),
            jax.debug_nans(False),
            jax.debug_infs(False),
            jax.debug_key_reuse(False),
            jax.transfer_guard("allow"),
            np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
        ):
            stack.enter_context(setting)
        yield


@contextlib.contextmanager
def users() -> Iterator[None]:
    """While open, this thread computes in the user's precision, for a function of the user's.

    A callback runs in any thread, also in one that is inside of `own`, or in one of JAX's, which knows of no user:
    there it is what the last call of a public function came with.
    """
    with jax.enable_x64(getattr(_outside, "x64", _last.x64)):
        yield


def _is_double() -> bool:
    """Whether this thread computes in double precision at the moment."""
    return jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue] (JAX adds its options at run time)


def pinned(function: Callable) -> Callable:
    """The function of a classifier and more, called under `own` settings and with weights of at most 32 bits.

    >>> @pinned
    ... def doubled(classifier, x):
    ...     return 2 * x * classifier
    >>> doubled(np.float64(0.5), np.float32(1)).dtype
    dtype('float32')
    """

    @functools.wraps(function)
    def call(classifier: Any, *args: Any, **options: Any) -> Any:
        with own():
            return function(single(classifier), *args, **options)

    return call


def single(tree: Any) -> Any:
    """The pytree with numbers of 64 bits in 32; everything else, and a pytree without any, is handed on as it is."""
    wide = lambda leaf: getattr(leaf, "dtype", None) in NARROWER
    if not any(map(wide, jax.tree.leaves(tree))):
        return tree
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(NARROWER[leaf.dtype]) if wide(leaf) else leaf, tree)


NARROWER = {np.dtype(name + "64"): np.dtype(name + "32") for name in ("float", "int", "uint")}
NARROWER[np.dtype("complex128")] = np.dtype("complex64")


def one_blas_thread() -> contextlib.AbstractContextManager:
    """While open, OpenBLAS has one thread, in all of the process.

    The screening factorizes small matrices between forward passes. OpenBLAS's threads wait for the next one by
    spinning, on the very cores that the forward pass needs.
    """
    import scipy.linalg  # noqa: F401 (the OpenBLAS that JAX calls comes with it, and must be there to be limited)
    import threadpoolctl  # here, because it sets a variable of the environment when it is imported

    return threadpoolctl.threadpool_limits(1, user_api="blas")


def collect_rarely() -> None:
    """Let this process look for unreachable cycles of objects a seventieth as often: for programs, before they import.

    Tracing makes objects by the hundred thousand that stay, and every look goes through all of them: a fifth of what a
    program takes until it searches.
    """
    gc.set_threshold(50_000, 20, 50)


def tune_compiler() -> None:
    """Tell XLA how to compile for CPUs: for programs, before they use JAX.

    Without its fusion emitters a search compiles in four fifths of the time; without the library YNNPACK, which splits
    small matrix products among threads that wait for each other, the CIFAR-10 network runs in half of it. Later
    versions of jaxlib than 0.10 have nothing else than the former, gain nothing by the latter, and end the process
    where they are told an unknown flag. What the user says in `XLA_FLAGS` counts for more.
    """
    if jaxlib.version.__version__.startswith("0.10."):
        said = os.environ.get("XLA_FLAGS", "").split()
        missing = [flag for flag in COMPILER if flag not in said]  # a program may be started from another
        os.environ["XLA_FLAGS"] = " ".join([*missing, *said])


@functools.cache
def reuse_memory() -> bool:
    """Let this process keep the memory that it frees, for good, in huge pages: for programs, before they use JAX.

    By default a forward pass on a CPU gives hundreds of megabytes back to the system each time, and spends a quarter of
    its time on getting them anew, a page of 4 KiB at a time. Sets glibc's `mallopt` (one arena, no mapping of its own
    for what is large, no trimming), and reserves addresses, which are no memory yet, for the kernel to back with huge
    pages (`madvise`).

    Returns:
      Whether that was done; False, and nothing is changed, without glibc or with `EVOMASK_REUSE_MEMORY=false` in the
      environment.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    wanted = os.environ.get("EVOMASK_REUSE_MEMORY") != "false" and hasattr(libc, "mallopt")
    if not wanted or not all(libc.mallopt(option, value) for option, value in MALLOPT.items()):
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if reserved := libc.malloc(RESERVED):  # None where so much may not be promised
        first_page = -(-reserved // mmap.PAGESIZE) * mmap.PAGESIZE
        libc.madvise(first_page, RESERVED - mmap.PAGESIZE, mmap.MADV_HUGEPAGE)  # a kernel that has none says so
        libc.free(reserved)
    return True


def cache_folder() -> Path:
    """Where decoded image sets, trained networks and compiled programs are kept: `EVOMASK_CACHE` in the environment, or
    else `evomask` in the user's folder for such things.
    """
    own = os.environ.get("EVOMASK_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evomask"
