"""Files as people's folders have them: read whole, or refused in one line that names the file and the remedy."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evomask.types import InputError

DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, pa.ArrowException)
AGAIN = "run the experiment again"


def config(folder: str | Path) -> DictConfig:
    """config.yaml; InputError if it is damaged."""
    path = Path(folder) / "config.yaml"
    try:
        found = OmegaConf.load(path)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{path} cannot be read ({why(error)}): {AGAIN}") from error
    if not isinstance(found, DictConfig) or not found:
        raise InputError(f"{path} holds no configuration: {AGAIN}")
    return found


def table(path: Path) -> pd.DataFrame:
    """A .parquet file; InputError if it is damaged."""
    try:
        return pd.read_parquet(path)
    except DAMAGE as error:
        raise InputError(f"{path} cannot be read ({why(error)}): {AGAIN}") from error


@contextlib.contextmanager
def arrays(path: Path) -> Iterator[Any]:
    """The arrays of an .npz file; InputError if it is damaged, which can show at any of them."""
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            yield file
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path} is damaged ({why(error)}): {AGAIN}") from error


def intact(path: Path) -> bool:
    """Whether every byte of an .npz file is as it was written."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except DAMAGE:
        return False


def why(error: Exception) -> str:
    """A few words that fit in a line."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:100] or type(error).__name__


def intact_table(path: Path) -> bool:
    """Whether a .parquet file is there and can be opened."""
    try:
        pq.read_metadata(path)
        return True
    except DAMAGE:
        return False
