"""Results on disk: every file is written whole or not at all, and what belongs together is replaced together."""

from __future__ import annotations

import functools
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomask.data.pictures import located
from evomask.files import unfinished, write_atomically
from evomask.report import contact, drawing, sheets
from evomask.report.sheets import Sheet, versions  # noqa: F401 (benchmarks record the versions, too)
from evomask.types import Explanation, InputError

PARTS = ("explanation", "front", "film", "effect", "several", "stability", "full")
KINDS = ("png", "npz", "json")
FILES = (*(f"{part}.{kind}" for part in PARTS for kind in KINDS), "film.gif")  # what a report may consist of
DONE = "explanation.json"  # put in place last: its presence says that the report is whole


class OutputError(InputError):
    """A folder that cannot be written to; the message is one line, names the folder, and says what to do."""


def prepare_folder(folder: str | Path) -> Path:
    """Make `folder` if it is missing and try to write in it: OutputError now rather than after a long search.

    >>> prepare_folder("/dev/null/results")
    Traceback (most recent call last):
    evomask.report.records.OutputError: cannot write in /dev/null/results (Not a directory); choose another output
    folder
    """
    folder = located(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write in {folder} ({error.strerror}); choose another output folder") from error
    return folder


def save(folder: str | Path, found: Explanation, **options: Any) -> Path:
    """Writes the explanation of one image: `explanation.png`, `.json` and `.npz`, see `write`; front and film, too.

    Args:
      folder, found: see there and `sheets.explanation`.
      options: name, certificate and run, as for `sheets.explanation`.
    """
    return write(folder, [sheets.explanation(found, **options), *sheets.own(found, name=options.get("name", ""))])


def write(folder: str | Path, parts: Sequence[Sheet]) -> Path:
    """Writes the report about one image into `folder`, which is made if missing and returned.

    The report that was there before is replaced as a whole: whatever fails while files are written leaves it as it was,
    and none of its parts stays beside the new ones. Other files in the folder are left alone.

    Raises:
      OutputError: the folder cannot be written to.
    """
    folder = prepare_folder(folder)
    with tempfile.TemporaryDirectory(prefix=unfinished(folder), dir=folder) as made:
        new = Path(made)
        for part in parts:
            with open(new / f"{part.name}.png", "wb") as file:
                drawing.save_png(part.figure, file)
            np.savez_compressed(new / f"{part.name}.npz", **part.arrays)
            (new / f"{part.name}.json").write_bytes(as_json(part.numbers))
            if part.moving is not None:
                (new / f"{part.name}.gif").write_bytes(part.moving)
        (folder / DONE).unlink(missing_ok=True)
        for name in sorted(FILES, key=lambda name: name == DONE):
            if (new / name).exists():
                os.replace(new / name, folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    return folder


def write_contact(folder: str | Path, images: Sequence[str]) -> list[str]:
    """Writes contact sheets of what was found of these images, and says what they are called: `contact.png`, then
    `contact_2.png` ... The report of each image stands in a folder of its name, beside the sheets.

    Sheets of an earlier run that there are too many of are removed.

    Raises:
      OutputError: the folder cannot be written to.
    """
    folder = prepare_folder(folder)
    names = []
    for number, sheet in enumerate(contact.sheets_of(images), 1):
        names.append("contact.png" if number == 1 else f"contact_{number}.png")
        figure = contact.contact_figure([_row(folder / image) for image in sheet])
        write_atomically(folder / names[-1], functools.partial(drawing.save_png, figure))
    for old in folder.glob("contact_*.png"):
        if re.fullmatch(r"contact_\d+\.png", old.name) and old.name not in names:
            old.unlink()
    return names


def _row(folder: Path) -> contact.Row:
    """The row of a contact sheet, from the report in a folder."""
    line = json.loads((folder / DONE).read_bytes())["line"]
    with np.load(folder / "explanation.npz") as arrays:
        return contact.Row(line, *(arrays[name] for name in contact.Row._fields[1:]))


def as_json(value: Any) -> bytes:
    """A value as strict JSON in UTF-8; a byte of a file name that is no UTF-8 is escaped, and comes back on reading.

    >>> json.loads(as_json({"café": os.fsdecode(b"caf\\xe9")}))["café"] == os.fsdecode(b"caf\\xe9")
    True
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")  # of lone surrogates, whose escapes are JSON's as well
