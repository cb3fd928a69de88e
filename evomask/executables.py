"""Compiled programs that are kept by what they were made from: a later process neither traces nor compiles them.

JAX's own cache on disk is asked what a program's text compiles to, so every start first makes the text, which takes
longer than all the rest. Here a program is found by its name, the shapes and the static parts of its arguments, the
source of evomask, and the versions and settings of what it is made with. What words cannot describe for certain, such
as a function of the user's, is not kept: then `keepable` is `jax.jit` and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import importlib.metadata
import os
import pickle
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import serialize_executable

MOST = 512 << 20  # bytes of a folder; what was not used for longest goes first
MAKERS = "jax", "jaxlib", "numpy", "flax"
OURS = {__name__.partition(".")[0], "builtins", "collections", "numpy", "jax", "jaxlib"}  # packages that versions name
NO_MATTER = "cache", "guard", "debug"  # parts of the names of settings that change no program


class Indescribable(Exception):
    """Something may differ from one process to the next without its description saying so."""


class Ready:
    """A program that can be called with the arguments it was made for, static ones left out."""

    def __init__(self, compiled: jax.stages.Compiled, out_info: Any):
        self.call, self.out_info = compiled, out_info  # the latter with a shape and a dtype for each leaf


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
        return self._jitted(*args) if ready is None else ready.call(*self.parts(args)[0])

    def prepare(self, *args: Any) -> Ready:
        """Compiles, or finds, what a call with such arguments runs; instead of arrays their shapes will do."""
        ready = None if _store is None else _store.get(self, args)
        if ready is None:
            lowered = self.lower(*args)
            ready = Ready(lowered.compile(), lowered.out_info)
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


_store: Store | None = None  # of all threads: programs are prepared in others than those that run them


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """While open, keepable programs for the CPU are looked up in a folder, and put there once they are compiled.

    It is for programs that own their process: whoever replaces parts of evomask while it runs must leave it closed.
    A folder that cannot be read or written, or is full, costs the time of compiling and no more.
    """
    global _store
    before, _store = _store, Store(folder)
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
        structure = jax.tree.structure((program.parts(args)[0], {}))
        return self._read(link, structure) or self._made(program, args, link, structure)

    def _path(self, program: Program, said: str, suffix: str) -> Path:
        name = f"{program.name} {said}"
        return self.folder / f"{program.name.rpartition('.')[2]}-{hashlib.sha256(name.encode()).hexdigest()}{suffix}"

    def _read(self, link: Path, structure: Any) -> Ready | None:
        """What was written before; None where there is nothing, or nothing that can be read."""
        _find_lapack()
        try:
            name, out_tree, outs = pickle.loads(link.read_bytes())
            path, devices = self.folder / name, jax.devices()[:1]
            found = serialize_executable.deserialize_and_load(
                path.read_bytes(), structure, out_tree, execution_devices=devices
            )
        except Exception:  # a file that was cut off raises whatever it likes
            return None
        with contextlib.suppress(OSError):  # a folder that others have filled
            os.utime(path)
        return Ready(found, out_tree.unflatten([jax.ShapeDtypeStruct(*each) for each in outs]))

    def _made(self, program: Program, args: tuple[Any, ...], link: Path, structure: Any) -> Ready:
        lowered = program.lower(*args)
        path = self._path(program, f"{lowered.as_text()} {_settings()} {_versions()}", ".executable")
        outs = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(lowered.out_info)]
        _write(link, pickle.dumps((path.name, lowered.out_tree, outs)))
        if (ready := self._read(link, structure)) is not None:
            return ready
        compiled = _compiled(lowered)
        with contextlib.suppress(NotImplementedError, ValueError):  # JAX cannot write it down
            _write(path, serialize_executable.serialize(compiled)[0])
            _forget(self.folder)
        return Ready(compiled, lowered.out_info)


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
    """Whether all is where a program runs that nobody told where: on the first device, a CPU."""
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
    """A digest of all of this package."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def described(part: Any) -> str:
    """The static part of a program in words that another process would use of an equal one only.

    >>> described((1, "a", None, np.dtype("float32")))
    "tuple(int 1, str 'a', NoneType None, dtype float32)"
    >>> described(lambda x: x)
    Traceback (most recent call last):
    ...
    evomask.executables.Indescribable: <lambda>
    """
    kind = type(part)
    if kind in (type(None), bool, int, float, complex, str, bytes):
        return f"{kind.__name__} {part!r}"
    if isinstance(part, jax.tree_util.PyTreeDef):
        return _of_structure(part)
    if isinstance(part, np.dtype):
        return f"dtype {part}"
    if isinstance(part, type | types.FunctionType | types.BuiltinFunctionType):
        return _of_name(part)
    if isinstance(part, enum.Enum):
        return f"{_of_name(kind)}.{part.name}"
    if isinstance(part, tuple):
        return f"{_of_name(kind)}({', '.join(map(described, part))})"
    if kind is functools.partial:
        return f"partial({described((part.func, part.args, tuple(part.keywords.items())))})"
    if dataclasses.is_dataclass(part):
        values = [f"{field.name}={described(getattr(part, field.name))}" for field in dataclasses.fields(part)]
        return f"{_of_name(kind)}({', '.join(values)})"
    raise Indescribable(kind.__name__)


def _of_structure(structure: Any) -> str:
    """Of a tree of arguments: its nodes, with what is static in them."""
    if structure == jax.tree_util.tree_structure(0):
        return "*"
    kind, aux = structure.node_data()
    if kind is type(None):
        return "None"
    parts = ", ".join(map(_of_structure, structure.children()))
    names = tuple(aux) if kind is dict else aux
    return f"{_of_name(kind)}[{described(names)}]({parts})"


def _of_name(named: Any) -> str:
    """A class or function that a module of `OURS` has under the name that it goes by."""
    module, name = named.__module__ or "", named.__qualname__
    if module.partition(".")[0] not in OURS:
        raise Indescribable(f"{module}.{name}")
    found: Any = sys.modules[module]
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    if found is not named:
        raise Indescribable(name)
    return name if module == "builtins" else f"{module}.{name}"


def _write(path: Path, content: bytes) -> None:
    """Puts a file in its place at once; where it cannot be, there is none."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            try:
                file.write(content)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise


def _forget(folder: Path) -> None:
    """Deletes what was not used for longest, until the folder's executables have `MOST` bytes."""
    total = 0
    with contextlib.suppress(OSError):  # of another process that forgets, too
        for path in sorted(folder.glob("*.executable"), key=lambda path: -path.stat().st_mtime):
            total += path.stat().st_size
            if total > MOST:
                path.unlink(missing_ok=True)
