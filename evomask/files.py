"""Files that are there whole or not at all, whenever the process that writes them ends."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place: no reader ever sees half a file."""
    handle, temporary = tempfile.mkstemp(prefix=unfinished(path.parent), dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def unfinished(folder: Path) -> str:
    """How the name of what this process has not finished in a folder begins; what dead processes left there goes."""
    begin = f".evomask-{platform.node()}-"
    for left in folder.glob(f"{glob.escape(begin)}*"):
        writer = left.name.removeprefix(begin).partition("-")[0]
        if writer.isdecimal() and not _runs(int(writer)):
            with contextlib.suppress(OSError):  # another process was faster, or it is another user's: no harm is done
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return f"{begin}{os.getpid()}-"


def _runs(process: int) -> bool:
    """Whether a process of that number is there; where the system cannot be asked, it may be."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True
