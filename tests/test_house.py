"""The habits of the house: what CONTRIBUTING.md and the files beside it promise is there."""

import importlib
import pathlib
import re
import sys
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

import evomask
from evomask import baselines
from evomask.fills import blank
from experiments.benchmarks import measured
from experiments.results import columns
from experiments.shared import cli

ROOT = pathlib.Path(__file__).parent.parent
OWN = {  # a file each, as CONTRIBUTING.md has it
    "brightness": """
        from evomask import record
        from evomask.baselines.base import compiled
        from evomask.measures.budget import Spent

        @record
        class Brightness:
            def cost(self, image_shape, budget):
                return Spent(0)

            def explain(self, classifier, image, label, key, budget):
                return self.gain * image.mean(-1)

            gain: float = 1.0
            __call__ = compiled
        """,
    "negative": """
        from evomask import record

        @record
        class Negative:
            white: float = 1.0

            def __call__(self, key, image):
                return self.white - image
        """,
    "nothing": """
        from evomask import record

        @record
        class Nothing:
            def __call__(self, key, genome, space):
                return genome
        """,
    "greatest": """
        from experiments.benchmarks.measured import Metric

        METRIC = Metric(lambda asked: asked.score.max((1, 2)), better=1, head="greatest score")
        """,
    "largest": """
        from experiments.results.columns import Column, per_image, percent

        COLUMN = Column("largest", -1, percent, lambda run: float(per_image(run, "area").max()))
        """,
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Reads a file of somebody's own, which lies in a folder of theirs: own(name) is its module."""
    for name, text in OWN.items():
        (tmp_path / f"own_{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, f"own_{name}", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name: importlib.import_module(f"own_{name}")


@pytest.fixture
def built(own, tmp_path):
    """Builds what a YAML file of these lines names."""

    def build(text: str):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return cli.instantiate(OmegaConf.load(path))

    return build


def test_a_baseline_is_a_file_and_a_line(own, built, monkeypatch):
    monkeypatch.setitem(baselines.BASELINES, "brightness", own("brightness").Brightness)
    method = built("_target_: own_brightness.Brightness\ngain: 2.0\n")
    assert method == baselines.BASELINES["brightness"](2.0)
    classifier = evomask.as_classifier(lambda images: images.mean((1, 2))[:, :2])
    images = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3) / 12
    scores = method(classifier, images, [0], key=0, budget=1)
    np.testing.assert_allclose(scores, 2 * images.mean(-1), rtol=1e-6)


def test_a_fill_is_a_file_and_a_yaml(built):
    fill = built("_target_: own_negative.Negative\nwhite: 0.5\n")
    assert blank(fill, jax.random.key(0), jnp.full((1, 1, 1), 0.125)).item() == 0.375
    assert evomask.presets.smallest().replace(fill=fill).fills == (fill,)


def test_a_mutation_is_a_file_and_a_yaml(built):
    mutation = built("_target_: own_nothing.Nothing\n")
    genome = jnp.array([[1, 2, 3]])
    assert mutation(jax.random.key(0), genome, None) is genome
    assert evomask.presets.smallest().replace(mutation=mutation).operators.mutation == mutation


def test_a_metric_is_a_file_and_a_line(own, monkeypatch):
    monkeypatch.setattr(measured, "METRICS", {"greatest": own("greatest").METRIC})
    scores = jnp.array([[[0.25, 0.5]], [[1.0, 0.0]]])
    found = measured.heat_map(measured.Asked(scores, None, None, None, None, None, None))
    assert {name: values.tolist() for name, values in found.items()} == {"greatest": [0.5, 1.0]}


def test_a_column_is_a_file_and_a_line(own, monkeypatch):
    column = own("largest").COLUMN
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, column))
    run = types.SimpleNamespace(rows=pd.DataFrame({"index": [0, 0, 1], "area": [0.25, 0.75, 0.125]}))
    found = columns.quantities(run, [column])
    assert found == {"largest": 0.5} and column.text(found["largest"]) == "50.0 %"


def test_each_metric_that_has_a_head_has_its_column():
    heads = {metric.head for metric in measured.METRICS.values() if metric.head}
    assert heads and heads <= {column.name for column in columns.COLUMNS}


def test_what_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = {
        name for name in re.findall(r"`((?:evomask|experiments|docs|tests|\.ci)/[\w/.]+)`", text) if "NAME" not in name
    }
    assert named and not [name for name in named if not (ROOT / name).exists()]
    assert set(re.findall(r"`make ([\w-]+)`", text)) <= set(
        re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    )


def test_no_file_is_longer_than_contributing_allows():
    most = int(re.search(r"at most (\d+) lines", (ROOT / "CONTRIBUTING.md").read_text())[1])
    files = [path for room in ("evomask", "experiments") for path in (ROOT / room).rglob("*.py")]
    assert not [path.name for path in files if len(path.read_text().splitlines()) > most]


def test_versions_agree():
    assert f"version: {evomask.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {evomask.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_each_source_that_a_docstring_names_has_its_entry():
    entries = set(re.findall(r"^@\w+\{([a-z]+\d{4})", (ROOT / "docs" / "references.bib").read_text(), re.M))
    cited = re.compile(r"\b([A-Z][a-z]+)(?:(?:, [A-Z][a-z]+)* (?:&|and) [A-Z][a-z]+| et al\.)? ((?:19|20)\d\d)\b")
    months = {"January", "November", "December", "In", "Since", "Lite"}
    named = {
        f"{author.lower()}{year}"
        for path in (ROOT / "evomask").rglob("*.py")
        for author, year in cited.findall(re.sub(r"\s+", " ", path.read_text()))
        if author not in months
    }
    assert "petsiuk2018" in named and named <= entries


def test_programs_import_each_other_by_relative_names():
    """In the wheel `experiments` lies inside of evomask, and nothing is called so."""
    for path in (ROOT / "experiments").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) experiments\b", path.read_text(), re.M), path
