"""What a network calls the alternatives of its decision; `python -m experiments.labels --help` says more."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from evomask.types import InputError

from .shared import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(labels, "labels", argv)


def labels(config: DictConfig) -> int:
    """Prints number and name of each alternative that `find` occurs in, one on a line."""
    classifier = cli.classifier(config)
    names = getattr(classifier, "labels", None)
    if names is None:
        raise InputError("the network has no names for its classes: say them by number, label=0")
    wanted = "" if config.find is None else str(config.find).casefold()
    found = [(number, name) for number, name in enumerate(names) if wanted in name.casefold()]
    if not found:
        raise InputError(f"none of the {len(names)} names has {config.find!r} in it")
    width = len(str(len(names) - 1))
    for number, name in found:
        print(f"{number:>{width}}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
