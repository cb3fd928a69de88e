"""Every notebook runs from top to bottom, as its text says, and is stored with what it shows."""

import pathlib

import nbformat
import pytest

from experiments.tools import notebooks

TEXTS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").glob("*.md"))


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def shown(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_each_text_has_its_notebook_and_each_notebook_its_text():
    stored = {path.stem for path in TEXTS[0].parent.glob("*.ipynb")}
    assert stored == {path.stem for path in TEXTS}


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_stored_as_its_text_says(text):
    stored = nbformat.read(text.with_suffix(".ipynb"), as_version=4)
    assert sources(stored) == sources(notebooks.read(text))
    assert any("image/png" in output.get("data", {}) for output in shown(stored))
    assert not [output for output in shown(stored) if output.output_type == "error"]
    assert not [output for output in shown(stored) if output.get("name") == "stderr"]


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_runs(text, tmp_path):
    outputs = shown(notebooks.execute(text))
    assert any("image/png" in output.get("data", {}) for output in outputs)
