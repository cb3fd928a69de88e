"""`evomask new my_research`: a folder of one's own, with a part of every kind in it that works, to be changed.

evomask new NAME: writes ./NAME, a package of that name and its ./NAME/conf; ./NAME/README.md says what is in it.
"""

from __future__ import annotations

import importlib.util
import keyword
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from evomask.types import InputError

TEMPLATE = Path(__file__).parent / "template"
NAME = "my_research"  # what it is called there


def main(argv: Sequence[str]) -> int:
    """Writes the folder that `argv` names, and says what is next; 2 if there cannot be one of that name."""
    try:
        if len(argv) != 1:
            raise InputError(f"give one name, of the folder and of the package in it: evomask new {NAME}")
        folder = write(argv[0])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{folder}/README.md says what is in it; cd {folder}, then: evomask benchmark -m +experiment={folder}")
    return 0


def write(name: str, template: Path = TEMPLATE) -> Path:
    """Copies the template into ./<name>, all or nothing, its package being called <name>.

    Raises:
      InputError: this is no name of a package, one of an installed package, or one of something that is here.
    """
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name):
        raise InputError(f"{name!r} cannot be imported: give a name of letters, digits and _, such as {NAME}")
    folder = Path(name)
    if folder.exists():
        raise InputError(f"there is a {name} here: give another name")
    if importlib.util.find_spec(name) is not None:
        raise InputError(f"a package that is installed is called {name}, too: give another name")
    with tempfile.TemporaryDirectory(dir=".", prefix=f".{name}-") as temporary:
        for source in sorted(path for path in template.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            target = Path(temporary, "new", str(source.relative_to(template)).replace(NAME, name))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text(encoding="utf-8").replace(NAME, name), encoding="utf-8")
        shutil.move(Path(temporary, "new"), folder)
    return folder
