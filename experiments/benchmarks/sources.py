"""Which code decided the numbers of a run: found from what modules import, not from a list that somebody keeps.

The sources of a run are the modules that compute it (`ENGINE`), those in which its `_target_`s are defined, and
whatever these import, from evomask, from experiments or from a file of the user's own. A name that is imported from a
package leads to the module that defines it, so a new line in a package's `__init__` changes no run. Comments,
docstrings and layout do not count; neither does `evomask.report`, which draws what was decided elsewhere.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from ..shared import cli

ROOT = Path(__file__).parents[2]
ENGINE = f"{__package__}.jobs"  # from a configuration and images to numbers
HOUSE = {"evomask", cli.PROGRAMS.partition(".")[0]}  # a package that is called experiments may be the user's own
SHOWS = "evomask.report"
_LOADED: dict[str, str] = {}  # of the user's modules: the source that this process has loaded
INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def of_run(config: Any, engine: str = ENGINE) -> dict[str, dict[str, str]]:
    """{"modules": {name: digest}, "own": {name: digest}} of everything that a run with this configuration is made by;
    `own` are the user's files.
    """
    found = reached([engine, *_defined_in(targets(config))])
    split = {"modules": {}, "own": {}}
    for name, path in sorted(found.items()):
        kind, known = ("modules", _in_a_clone(name)) if _is_house(name) else ("own", name)
        split[kind][known] = meaning(path, path.stat().st_mtime_ns)
    return split


def _in_a_clone(name: str) -> str:
    """What a module of the house is called in a clone, so that runs made there and elsewhere can be compared."""
    return name.removeprefix("evomask.") if name.startswith(f"{cli.INSTALLED}.") else name


def own(config: Any) -> dict[str, str]:
    """The user's files among the sources of a configuration, as they are on disk: {module: digest}.

    A file that was edited since this process loaded it is loaded again when it is next needed, so that in a long sweep,
    too, what is named here is what runs.
    """
    paths = reached(_defined_in(targets(config)), house=False)
    found = {name: meaning(path, path.stat().st_mtime_ns) for name, path in sorted(paths.items())}
    edited = {name for name, digest in found.items() if _LOADED.get(name, digest) != digest}
    for name in found if edited else ():
        if edited & set(reached([name], house=False)):
            sys.modules.pop(name, None)
            Path(importlib.util.cache_from_source(str(paths[name]))).unlink(missing_ok=True)
    _LOADED.update(found)
    return found


def version(config: Any) -> dict[str, Any]:
    """Commit and dirty flag of the repository, null outside of one, and the sources of a run."""
    return {**commit(), **of_run(config)}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs were made by the same sources."""
    return all(one.get(kind) == other.get(kind) for kind in ("modules", "own"))


@functools.cache
def commit() -> dict[str, Any]:
    """Of the repository, null outside of one: {"commit": ..., "dirty": ...}."""
    if not (ROOT / "pyproject.toml").is_file():  # installed, perhaps in the midst of somebody else's repository
        return {"commit": None, "dirty": None}
    git = lambda *args: subprocess.run(("git", "-C", str(ROOT), *args), capture_output=True, text=True)
    try:
        head = git("rev-parse", "HEAD")
    except FileNotFoundError:  # no git on this machine
        return {"commit": None, "dirty": None}
    if head.returncode:
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "--", "evomask", "experiments", "conf").stdout
    return {"commit": head.stdout.strip(), "dirty": bool(changes)}


def targets(config: Any) -> Iterator[str]:
    """Every `_target_` in a configuration of dicts and lists.

    >>> list(targets({"fill": {"_target_": "a.B", "parts": [{"_target_": "c"}]}}))
    ['a.B', 'c']
    """
    if isinstance(config, Mapping):
        if isinstance(config.get("_target_"), str):
            yield cli.here(config["_target_"])
            if config["_target_"].startswith("hydra.utils.get_") and isinstance(config.get("path"), str):
                yield cli.here(config["path"])  # the function itself, not what it returns
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from targets(item)


def reached(names: Iterable[str], house: bool = True) -> dict[str, Path]:
    """{module: file} of these modules and all that they import, of the house or, alone or with it, the user's own."""
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        path = None if name in found or not house and _is_house(name) else _source(name)
        if path is not None:
            found[name] = path
            waiting += _imports(name, path, path.stat().st_mtime_ns)
    return found


@functools.cache
def meaning(path: Path, changed: int) -> str:
    """Digest of a source file, comments, docstrings and layout left out; of its bytes, where it is not Python's."""
    del changed  # a key of the cache
    content = path.read_bytes()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return hashlib.sha256(content).hexdigest()[:16]
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()[:16]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            text = first.value if isinstance(first, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                del node.body[0]
    return tree


@functools.cache
def _imports(name: str, path: Path, changed: int) -> tuple[str, ...]:
    """The modules whose names a module takes, wherever in it the import stands."""
    del changed
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    packages: dict[str, str] = {}  # `import evomask`: what is used of it, stands further down
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.asname is None and "." in each.name:
                    found.append(each.name)
                packages[each.asname or each.name.partition(".")[0]] = (
                    each.name if each.asname else each.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            base = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                if node.level
                else node.module
            )
            found += [home for each in node.names for home in _homes(base, each.name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages:
            found += _homes(packages[node.value.id], node.attr)
    return tuple(dict.fromkeys(found))


def _executed(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node but those for type checkers only."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop(0)
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            waiting += ast.iter_child_nodes(node)


def _homes(base: str, name: str) -> tuple[str, ...]:
    """The modules that define `base.name`: of a package of the house, that which defines it, not its `__init__`."""
    if not _is_house(base):
        return base, f"{base}.{name}"
    if _shows(base) or not _is_package(base):  # nothing is imported only to be looked at
        return (base,)
    if _spec(f"{base}.{name}") is not None:
        return (f"{base}.{name}",)
    try:
        value = getattr(_module(base), name, None)
    except Exception:  # a name that is looked up late, in a module that cannot be had here
        value = None
    if isinstance(value, ModuleType):
        return (value.__name__,)
    home = getattr(value, "__module__", None) if callable(value) else None
    return (home if isinstance(home, str) and _is_house(home) else base,)


def _defined_in(names: Iterable[str]) -> Iterator[str]:
    """The modules in which the objects of these dotted names are defined; of one that cannot be found, nothing, for
    building it will say so.
    """
    for name in names:
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            module = _module(".".join(parts[:length]))
            if module is None:
                continue
            value = functools.reduce(lambda node, part: getattr(node, part, None), parts[length:], module)
            home = inspect.getattr_static(value, "__module__", None) if value is not None else None
            if not _is_house(module.__name__):
                yield module.__name__
            yield home if isinstance(home, str) else module.__name__
            break


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception:  # whatever is wrong with it, whoever needs it will say so
        return None


def _source(name: str) -> Path | None:
    """The file of a module of the house or of the user's own; None for what is installed, built in, or no module."""
    if _shows(name):
        return None
    if not _is_house(name) and _is_installed(name.partition(".")[0]):  # looked up without importing it
        return None
    spec = getattr(sys.modules.get(name), "__spec__", None) or _spec(name)
    if spec is None or not spec.has_location or not Path(spec.origin).is_file():
        return None
    return Path(spec.origin).resolve()


@functools.cache
def _is_installed(top: str) -> bool:
    """Whether a package comes with Python or from an index, and is not the user's own."""
    spec = getattr(sys.modules.get(top), "__spec__", None) or _spec(top)
    file = spec.origin if spec is not None and spec.has_location else None
    if spec is None or file is None:
        return spec is not None and spec.submodule_search_locations is None  # built in
    return any(Path(file).resolve().is_relative_to(Path(folder).resolve()) for folder in INSTALLED)


def _shows(name: str) -> bool:
    return name == SHOWS or name.startswith(f"{SHOWS}.")


def _is_package(name: str) -> bool:
    spec = _spec(name)
    return spec is not None and spec.submodule_search_locations is not None


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):  # of what is no package
        return None


def _is_house(name: str) -> bool:
    return name.partition(".")[0] in HOUSE


def digest(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over JSON values, arrays and bytes (in dicts, lists and tuples).

    >>> digest({"a": 1, "b": [0.5]}) == digest({"b": [0.5], "a": 1})
    True
    >>> digest(np.zeros(2, np.float32)) == digest(np.zeros(2, np.float64))
    False
    """
    found = hashlib.sha256()

    def add(node: Any) -> None:
        if isinstance(node, Mapping):
            found.update(b"{%d" % len(node))
            for key in sorted(node):
                add(key), add(node[key])
        elif isinstance(node, (list, tuple)):
            found.update(b"[%d" % len(node))
            for item in node:
                add(item)
        elif isinstance(node, (np.ndarray, jax.Array)):
            node = np.ascontiguousarray(node)
            found.update(f"{node.dtype.str}{node.shape}".encode() + node.tobytes())
        else:
            found.update(json.dumps(node).encode() + b";")

    add(value)
    return found.hexdigest()[:16]
