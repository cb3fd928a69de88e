"""`evomask doctor`: which versions, devices, caches and extras are here, and what to install for the rest.

evomask doctor: exit code 0, or 1 if something that evomask cannot do without is missing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

import evomask
from evomask.settings import cache_folder

CUDA = "pip install 'evomask[cuda]'"
DEVELOPERS = ("check", "test")  # extras of a clone
# "jax[cuda13]>=0.10.2; extra == 'cuda'": a name, its own extras, and the extra that asks for it
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[([^\]]*)\])?[^;]*(?:;(.*))?")
MARKER = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")


def main(argv: Sequence[str] = ()) -> int:
    """Prints the lines of `report`; 1 if something that evomask cannot do without is missing, 2 for any `argv`."""
    if argv:
        print(f"error: evomask doctor takes no more words, got {' '.join(argv)}", file=sys.stderr)
        return 2
    print("\n".join(f"{name:<11} {words}" for name, words in report()))
    return 1 if missing(None) else 0


def report() -> Iterator[tuple[str, str]]:
    """What is here: (name, words) for each line."""
    yield "evomask", f"{evomask.__version__} in {Path(evomask.__file__).parent}"
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "JAX", f"{jax.__version__}, jaxlib {version('jaxlib') or 'missing: pip install jaxlib'}"
    if lacking := missing(None):
        yield "packages", f"{', '.join(lacking)} missing: pip install {' '.join(lacking)}"
    yield from devices()
    cache = cache_folder()
    yield "cache", f"{cache} ({size(cache)}): what costs time to make again; EVOMASK_CACHE=... moves it"
    compiled = Path(jax.config.values.get("jax_compilation_cache_dir") or cache / "programs")
    off = not jax.config.values.get("jax_enable_compilation_cache")
    kept = "not kept, as JAX_ENABLE_COMPILATION_CACHE says" if off else f"kept in {compiled} ({size(compiled)})"
    yield "compiled", f"programs are {kept}; delete the folder to compile anew"
    for extra in extras():
        lacking = missing(extra)
        install = f"{', '.join(lacking)} missing: pip install 'evomask[{extra}]'"
        yield f"[{extra}]", install if lacking else "installed"


def devices() -> Iterator[tuple[str, str]]:
    """What JAX computes on, and how a GPU gets its share."""
    try:
        found = jax.devices()
    except RuntimeError as error:  # a plugin that does not find its driver, say
        yield "devices", f"JAX finds none: {' '.join(str(error).split())}"
        return
    kinds = Counter(device.device_kind for device in found)
    yield "devices", f"{', '.join(f'{num} x {kind}' for kind, num in kinds.items())}; {os.cpu_count()} CPU cores"
    if any(device.platform == "gpu" for device in found):
        return
    if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        yield "GPU", f"there is an NVIDIA driver, but JAX does not use it: {CUDA}"
    else:
        yield "GPU", f"no NVIDIA driver; where there is one (Linux): {CUDA}"


def extras() -> list[str]:
    """The extras of evomask that its users may want."""
    try:
        found = importlib.metadata.metadata("evomask").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:  # a clone that was never installed
        return []
    return [extra for extra in found if extra not in DEVELOPERS]


def missing(extra: str | None) -> list[str]:
    """The distributions that an extra of evomask adds, or that evomask itself needs (None), and that are not installed.

    What the extra takes over from other extras of evomask is theirs.
    """
    return sorted({name for name in requirements("evomask", extra) if version(name) is None})


def requirements(distribution: str, extra: str | None) -> Iterator[str]:
    """The distributions that one asks for with an extra (None: without), and those that their own extras ask for."""
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in lines:
        parts = REQUIREMENT.match(line)
        name, inner, marker = parts.groups("") if parts else ("", "", "")
        asked = MARKER.search(marker)
        if name == "evomask" or (asked[1] if asked else None) != extra:
            continue
        yield name
        for each in filter(None, re.split(r"[\s,]+", inner)):
            yield from requirements(name, each)


def version(distribution: str) -> str | None:
    """Of an installed distribution; None where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def size(folder: Path) -> str:
    """What the files of a folder take.

    >>> size(Path("nowhere"))
    'empty'
    """
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{total / 1e6:.0f} MB" if total else "empty"
