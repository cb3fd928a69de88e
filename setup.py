"""Which folders are installed, and where to; everything else about the project is in pyproject.toml.

The experiments and their configuration lie at the top of the repository, where they are found and edited. They are
installed inside of evomask, for `experiments` and `conf` are names that others use, too.
"""

from setuptools import find_namespace_packages, setup


def within(folder: str) -> list[str]:
    """A folder and all below it, with or without modules, as dotted names."""
    return find_namespace_packages(include=[folder, f"{folder}.*"], exclude=["*.__pycache__"])


setup(
    packages=[
        *within("evomask"),
        *(f"evomask.{name}" for folder in ("experiments", "conf") for name in within(folder)),
    ],
    package_dir={"evomask.experiments": "experiments", "evomask.conf": "conf"},
)
