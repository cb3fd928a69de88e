"""Compiled programs that are kept by what they were made from: a later process neither traces nor compiles them.

JAX's own cache on disk is asked what a program's text compiles to, so every start first makes the text, which takes
longer than all the rest. Here a program is found by its name, the shapes and the static parts of its arguments, the
source of evomask, and the versions and settings of what it is made with. What words cannot describe for certain, such
as a function of the user's, is not kept: then `keepable` is `jax.jit` and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import logging
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import serialize_executable

from evomask.described import OURS, Indescribable, described
from evomask.files import write_atomically

MOST = 512 << 20  # bytes of a folder; what was not used for longest goes first
MAKERS = "jax", "jaxlib", "numpy", "flax"
IMPORTED = time.time()
LOG = logging.getLogger(__name__)
NO_MATTER = "cache", "guard", "debug"  # parts of the names of settings that change no program


class Ready:
    """A program that can be called with the arguments it was made for, static ones left out; or soon can."""

    def __init__(self, found: Future[jax.stages.Compiled], out_info: Any, make: Callable[[], Ready] | None = None):
        self.out_info = out_info  # a shape and a dtype for each leaf
        self._found, self._make = found, make

    def compiled(self) -> jax.stages.Compiled:
        """What is called; made in this thread where it could not be read in another."""
        try:
            compiled = self._found.result()
        except Exception as error:  # a file that was cut off raises whatever it likes
            if self._make is None:
                raise
            LOG.warning("a kept program cannot be read, and is made anew: %r", error)
            compiled = self._make().compiled()
            self._found = at_hand(compiled)
        self._make = None
        return compiled


def at_hand(compiled: jax.stages.Compiled) -> Future[jax.stages.Compiled]:
    """What need not be waited for."""
    future: Future[jax.stages.Compiled] = Future()
    future.set_result(compiled)
    return future


class Program:
    """A jitted function, which looks in the open folder before it is traced; see `keepable`."""

    def __init__(self, function: Callable[..., Any], static_argnames: tuple[str, ...]):
        functools.update_wrapper(self, function)
        self.ours = function.__module__.partition(".")[0] in OURS
        self.name = f"{function.__module__}.{function.__qualname__}"
        self._jitted = jax.jit(function, static_argnames=static_argnames)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        self._static = {names.index(name) for name in static_argnames}

    def __call__(self, *args: Any) -> Any:
        ready = None if _store is None else _store.get(self, args)
        return self._jitted(*args) if ready is None else ready.compiled()(*self.parts(args)[0])

    def prepare(self, *args: Any) -> Ready:
        """Compiles, or begins to read, what a call with such arguments runs; instead of arrays their shapes will do."""
        ready = None if _store is None else _store.get(self, args)
        if ready is None:
            lowered = self.lower(*args)
            ready = Ready(at_hand(lowered.compile()), lowered.out_info)
        return ready

    def lower(self, *args: Any) -> jax.stages.Lowered:
        return self._jitted.lower(*args)

    def parts(self, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The arguments that are arrays, and those that are static."""
        split = lambda static: tuple(arg for place, arg in enumerate(args) if (place in self._static) is static)
        return split(False), split(True)

    def _cache_size(self) -> int:
        return self._jitted._cache_size()  # pyright: ignore[reportAttributeAccessIssue] (of jitted functions)


def keepable(*static_argnames: str) -> Callable[[Callable[..., Any]], Program]:
    """`jax.jit` of a function that is called by position, whose programs may be kept.

    >>> @keepable("power")
    ... def raised(x, power):
    ...     return x**power
    >>> raised(np.float32(3.0), 2).item()
    9.0
    """
    return lambda function: Program(function, static_argnames)


_store: Store | None = None  # the open one, of all threads: programs are prepared in others than those that run them


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """While open, keepable programs for the CPU are looked up in a folder, and put there once they are compiled.

    It is for programs that own their process: whoever replaces parts of evomask while it runs must leave it closed.
    A folder that cannot be read or written, or is full, costs the time of compiling and no more. It belongs to one user
    and one kind of processor: what lies in it is run.
    """
    global _store
    before, _store = _store, _store_of(folder)
    try:
        yield
    finally:
        _store = before


class Store:
    """A folder of executables, and those that this process has loaded or made.

    What a program was made from leads to a file that says what it became, and where the executable is, which is named
    after its text: source that was edited elsewhere leads to the same one again.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[Any, Ready | None] = {}
        self.readers = ThreadPoolExecutor(max_workers=2)  # XLA reads without Python's lock

    def get(self, program: Program, args: tuple[Any, ...]) -> Ready | None:
        """What runs for such arguments; None where only JAX can tell."""
        arrays, static = program.parts(args)
        leaves, structure = jax.tree.flatten(arrays)
        if not _is_plain(leaves):
            return None
        asked = (program, structure, static, tuple(map(_kind, leaves)), _settings())
        if asked not in self.known:
            self.known[asked] = self._found(program, args, asked)
        return self.known[asked]

    def _found(self, program: Program, args: tuple[Any, ...], asked: tuple[Any, ...]) -> Ready | None:
        _, structure, static, kinds, settings = asked
        if not program.ours:
            return None
        try:
            said = described(structure), described(static), kinds, settings, _source(), _versions()
        except Indescribable:
            return None
        link = self._path(program, repr(said), ".program")
        make = functools.partial(self._made, program, args, link, jax.tree.structure((program.parts(args)[0], {})))
        return self._read(link, make) or make()

    def _path(self, program: Program, said: str, suffix: str) -> Path:
        name = f"{program.name} {said}"
        return self.folder / f"{program.name.rpartition('.')[2]}-{hashlib.sha256(name.encode()).hexdigest()}{suffix}"

    def _read(self, link: Path, make: functools.partial[Ready]) -> Ready | None:
        """What was written before, read in another thread; None where there is nothing."""
        try:
            name, out_tree, outs = pickle.loads(link.read_bytes())
            content = (self.folder / name).read_bytes()
        except OSError as error:  # nothing there, as a rule
            LOG.info("not kept: %s", error)
            return None
        except Exception as error:  # as above
            LOG.warning("%s cannot be read, and is made anew: %r", link, error)
            return None
        with contextlib.suppress(OSError):  # a folder that others have filled
            for used in (link, self.folder / name):
                os.utime(used)
        _find_lapack()
        asked = content, make.args[-1], out_tree
        found = self.readers.submit(
            serialize_executable.deserialize_and_load, *asked, execution_devices=jax.devices()[:1]
        )
        out_info = out_tree.unflatten([jax.ShapeDtypeStruct(*each) for each in outs])
        return Ready(found, out_info, functools.partial(make, anew=True))

    def _made(self, program: Program, args: tuple[Any, ...], link: Path, structure: Any, anew: bool = False) -> Ready:
        """Traced, and compiled where its text is unknown, or what is kept of it of no use (`anew`)."""
        lowered = program.lower(*args)
        path = self._path(program, f"{lowered.as_text()} {_settings()} {_versions()}", ".executable")
        outs = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(lowered.out_info)]
        _write(link, pickle.dumps((path.name, lowered.out_tree, outs)))
        make = functools.partial(self._made, program, args, link, structure)
        if not anew and (ready := self._read(link, make)) is not None:
            return ready
        compiled = _compiled(lowered)
        try:
            content = serialize_executable.serialize(compiled)[0]
        except (NotImplementedError, ValueError) as error:
            LOG.warning("JAX cannot write down %s, which each start compiles: %s", program.name, error)
        else:
            _write(path, content)
            _forget(self.folder)
        return Ready(at_hand(compiled), lowered.out_info)


_store_of = functools.cache(Store)  # for what a process has read it need not read twice


def _compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiled past JAX's own cache: an executable that was read from there cannot be written a second time.

    (It can, but the functions that it calls are missing; jaxlib 0.10.) An option that changes nothing leads to another
    entry of that cache, and one that took less than for ever to compile is not entered.
    """
    seconds = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, seconds)
    jax.config.update(seconds, 1e9)
    try:
        return lowered.compile({"xla_embed_ir_in_executable": False})
    finally:
        jax.config.update(seconds, before)


@functools.cache
def _find_lapack() -> None:
    """JAX hands LAPACK to executables when it lowers what needs it, and not when these are only read."""
    jax.jit(jnp.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), np.float32))


def _is_plain(leaves: list[Any]) -> bool:
    """Whether all is there, and where a program runs that nobody told where: on the first device, a CPU."""
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return False
    device = jax.devices()[0]
    here = lambda leaf: not isinstance(leaf, jax.Array) or leaf.devices() == {device}
    placed = any(isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding is not None for leaf in leaves)
    free = getattr(jax.config, "jax_default_device", None) is None
    return device.platform == "cpu" and free and not placed and all(map(here, leaves))


def _kind(leaf: Any) -> tuple[Any, ...]:
    """Shape, dtype, and whether the latter gives way to others."""
    of = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    return of.shape, str(of.dtype), bool(of.weak_type)


def _settings() -> str:
    """What JAX and XLA were told, and how many devices there are."""
    told = jax.config.values  # of this process, and below what this thread has instead
    names = [name for name in sorted(told) if not any(word in name for word in NO_MATTER)]
    said = [f"{name}={getattr(jax.config, name, told[name])!r}" for name in names]
    return f"{os.environ.get('XLA_FLAGS', '')} {jax.device_count()} {' '.join(said)}"


@functools.cache
def _versions() -> str:
    return " ".join([sys.version, *(importlib.metadata.version(name) for name in MAKERS)])


@functools.cache
def _source() -> str:
    """A digest of all of this package.

    Raises:
      Indescribable: it is not what this process has imported: in an archive, or edited since.
    """
    folder, digest = Path(__file__).parent, hashlib.sha256()
    files = sorted(folder.rglob("*.py"))
    if not files or max(path.stat().st_mtime for path in files) > IMPORTED:
        raise Indescribable("evomask")
    for path in files:
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Puts a file in its place, or nowhere where there is none for it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        LOG.info("%s cannot be written: %s", path, error)


def _forget(folder: Path) -> None:
    """Deletes what was not used for longest, until the folder's files of ours have `MOST` bytes."""
    total = 0
    with contextlib.suppress(OSError):  # of another process that forgets, too
        files = [*folder.glob("*.executable"), *folder.glob("*.program")]
        for path in sorted(files, key=lambda path: -path.stat().st_mtime):
            total += path.stat().st_size
            if total > MOST:
                path.unlink(missing_ok=True)
