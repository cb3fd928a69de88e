"""Executes the notebooks and stores them with what they show: notebooks/*.md is what one edits, *.ipynb what one reads.

    make notebooks                                                          # all of them
    python -m experiments.tools.notebooks notebooks/02_how_it_works.md      # this one

Each runs from top to bottom in a kernel of its own, in the folder where it lies; where a cell fails, nothing is written
and the exit code is 1.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import jupytext
import nbclient
import nbformat

from evomask.files import write_atomically


def read(text: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook that a text describes, without outputs; cells are named by their place, so that diffs are small."""
    notebook = jupytext.read(text)
    for place, cell in enumerate(notebook.cells):
        cell.id = f"cell-{place}"
    return notebook


def execute(text: pathlib.Path, timeout: int = 1200) -> nbformat.NotebookNode:
    """The notebook with its outputs. Raises `nbclient.exceptions.CellExecutionError` where a cell fails."""
    notebook = read(text)
    client = nbclient.NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": text.parent}})
    client.execute()
    for cell in notebook.cells:  # when a cell ran is nothing to keep
        cell.metadata.pop("execution", None)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def store(text: pathlib.Path) -> pathlib.Path:
    """Executes, and replaces the file beside the text by the result."""
    path = text.with_suffix(".ipynb")
    content = nbformat.writes(execute(text)) + "\n"
    write_atomically(path, lambda file: file.write(content.encode()))
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.tools.notebooks", description=__doc__.split("\n")[0])
    parser.add_argument("text", nargs="*", type=pathlib.Path, help="notebooks/*.md; all of them where none is given")
    chosen = parser.parse_args(arguments).text or sorted(pathlib.Path("notebooks").glob("*.md"))
    failed = 0
    for text in chosen:
        try:
            print(f"{store(text)}: written")
        except nbclient.exceptions.CellExecutionError as error:
            failed += 1
            print(f"{text}: {error}", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
