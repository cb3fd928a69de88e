"""The commands and the Python that the pages print: README, docs, notebooks, and the comments of experiments."""

from __future__ import annotations

import pathlib
import re
import shlex

from evomask import command

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "evomask/template/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.md")),
]
INLINE = re.compile(r"`((?:evomask|python -m (?:evomask|experiments)[\w.]*) [^`]+)`")


def printed(path: pathlib.Path) -> list[str]:
    """The command lines of a page: those of shell blocks, those between backticks, and the comments of a YAML file."""
    text = path.read_text()
    if path.suffix == ".yaml":
        return re.findall(r"^#   (evomask .*)$", text, re.M)
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)).replace("\\\n", " ")
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    return [*blocks.splitlines(), *(" ".join(each.split()) for each in INLINE.findall(outside))]


def python(path: pathlib.Path) -> str:
    """The Python blocks of a page, one after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), re.S))


def words(line: str) -> list[str]:
    """The words of a command without its comment, variables before it, and what comes after && or a pipe.

    >>> words("JAX_PLATFORMS=cpu evomask photo.jpg budget=400 data.path=...  # quick")
    ['evomask', 'photo.jpg', 'budget=400', 'data.path=x']
    """
    found = re.split(r"&&|\|", line)[0]
    found = [word for word in shlex.split(found, comments=True) if not re.fullmatch(r"\w+=\.\.\.", word)]
    found = [word.replace("...", "x").replace("…", "x") for word in found]
    while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
        found = found[1:]
    return found


def verb_of(argv: list[str]) -> tuple[str, list[str]] | None:
    """The program that a command runs and what it is told, or None for one that is not ours.

    >>> verb_of(["evomask", "photo.jpg"]), verb_of(["python", "-m", "experiments.tables", "experiment=x"])
    (('explain', ['photo.jpg']), ('tables', ['experiment=x']))
    >>> verb_of(["make", "test"])
    """
    if argv[:2] == ["python", "-m"]:
        if argv[2] != "evomask" and not argv[2].startswith("experiments."):
            return None
        argv = argv[3:] if argv[2] == "evomask" else [argv[2].removeprefix("experiments."), *argv[3:]]
    elif argv[:1] == ["evomask"] or argv[:1] == [".venv/bin/evomask"]:
        argv = argv[1:]
    else:
        return None
    if argv and argv[0] in command.VERBS or argv and argv[0].startswith("tools."):
        return argv[0], argv[1:]
    return "explain", argv
