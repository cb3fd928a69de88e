"""Each module is a program, `python -m experiments.NAME key=value ...`; its folders hold what programs are made of.

In a wheel this package is `evomask.experiments`, so its modules import each other by relative names;
`evomask NAME key=value ...` runs a program in either place.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`load_run`, the one function here that other programs call; imported when it is asked for."""
    if name == "load_run":
        from .benchmarks.loading import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
