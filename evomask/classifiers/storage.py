"""Files of trained networks: safetensors in half precision, and in the header what is no tensor, as JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from evomask.files import write_atomically
from evomask.types import Array, InputError


def write(path: str | Path, tensors: Mapping[str, Any], **header: Any) -> None:
    """Writes arrays by name, rounded to half precision, and JSON values; the file is there whole or not at all."""
    half = {name: np.asarray(value, np.float16) for name, value in tensors.items()}
    words = {name: json.dumps(value) for name, value in header.items()}
    content = safetensors.numpy.save(half, words or None)
    write_atomically(Path(path), lambda file: file.write(content))


@contextlib.contextmanager
def reading(path: str | Path, writer: str) -> Iterator[tuple[dict[str, Array], dict[str, str]]]:
    """The arrays of a file, f32, and the JSON texts of its header, for a block that makes a network of them.

    Raises:
      InputError: the file is missing or damaged, or the block does not find in it what it expects of a file that the
        function called `writer` wrote.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(f"{folder}/a", {"bias": np.ones(2)}, labels=["no", "yes"])
    ...     with reading(f"{folder}/a", "write") as (tensors, header):
    ...         print(tensors["bias"], header["labels"])
    [1. 1.] ["no", "yes"]
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            tensors = {name: jax.device_put(file.get_tensor(name).astype(np.float32)) for name in file.keys()}
            header = file.metadata() or {}
        yield tensors, header
    except FileNotFoundError as error:
        raise InputError(f"no weights at '{path}': train them with evomask train") from error
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"'{path}' holds no network written by {writer} ({error})") from error
