"""The habits of the house: what CONTRIBUTING.md and the files beside it promise is there."""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest
from omegaconf import OmegaConf

import evomask
from evomask import baselines
from evomask.fills import blank
from experiments.benchmarks.measured import METRICS
from experiments.results.columns import COLUMNS
from experiments.shared import cli

ROOT = pathlib.Path(__file__).parent.parent
OWN = '''
import jax.numpy as jnp
from evomask import record
from evomask.baselines.base import compiled
from evomask.measures.budget import Spent


@record
class Brightness:
    """The brightest pixels."""

    def cost(self, image_shape, budget):
        return Spent(0)

    def explain(self, classifier, image, label, key, budget):
        return image.mean(-1)

    __call__ = compiled


@record
class Inverted:
    """The negative."""

    def __call__(self, key, image):
        return 1 - image


@record
class Nothing:
    """No gene changes."""

    def __call__(self, key, genome, space):
        return genome
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of somebody's own, in a folder of theirs; builds the parts that it names, as a YAML file would."""
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def build(name: str):
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"_target_: own_parts.{name}\n")
        return cli.instantiate(OmegaConf.load(path))

    return build


def test_a_baseline_is_a_file_and_a_line(own):
    classifier = evomask.as_classifier(lambda images: images.mean((1, 2))[:, :2])
    images = jnp.arange(12, dtype=jnp.float32).reshape(1, 2, 2, 3) / 12
    scores = own("Brightness")(classifier, images, [0], key=jax.random.key(0), budget=1)
    assert scores[0].round(3).tolist() == [
        [pytest.approx(value, abs=1e-3) for value in row] for row in images[0].mean(-1).tolist()
    ]


def test_a_fill_is_a_file_and_a_line(own):
    assert blank(own("Inverted"), jax.random.key(0), jnp.full((1, 1, 1), 0.25)).item() == 0.75


def test_a_mutation_is_a_file_and_a_line(own):
    genome = jnp.array([[1, 2, 3]])
    assert own("Nothing")(jax.random.key(0), genome, None) is genome


def test_a_metric_is_a_line_of_its_registry_and_has_its_column():
    heads = {metric.head for metric in METRICS.values() if metric.head}
    assert heads and heads <= {column.name for column in COLUMNS}


def test_what_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = {
        name for name in re.findall(r"`((?:evomask|experiments|docs|tests|\.ci)/[\w/.]+)`", text) if "NAME" not in name
    }
    assert named and not [name for name in named if not (ROOT / name).exists()]
    assert set(re.findall(r"`make ([\w-]+)`", text)) <= set(
        re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    )
    assert baselines.BASELINES


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
