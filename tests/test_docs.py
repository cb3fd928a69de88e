"""The site: every page can be found, every public name has its place, and it is built without a warning."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

import evomask
from evomask import decisions

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"


def test_every_page_is_in_a_toctree():
    trees = [
        name
        for page in DOCS.glob("*.md")
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL)
        for name in block.split("\n")
        if name and not name.startswith(":")
    ]
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index"}
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert sorted(trees) == sorted(pages | notebooks)


def test_every_public_name_has_its_place():
    api = (DOCS / "api.md").read_text()
    named = re.findall(r"^\.\. auto(?:function|class|exception):: (\w+)$", api, re.M)
    assert sorted([*named, "presets", "Decided"]) == sorted([*evomask.__all__, *decisions.__all__])
    assert "automodule:: evomask.presets\n" in api


def test_every_module_that_a_page_names_is_there():
    for page in DOCS.glob("*.md"):
        for name in re.findall(r"automodule:: ([\w.]+)", page.read_text()):
            assert importlib.util.find_spec(name), f"{page.name}: {name}"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """The site as `make docs` builds it."""
    pytest.importorskip("myst_nb", reason="needs pip install '.[docs]'")  # Makefile and CI install it
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-n", "-q", "-d", folder / "doctrees"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, DOCS, folder / "html"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_the_site_opens_from_disk(site):
    """Nothing is fetched from another host, be it a script, a style, a font or a picture."""
    assert (site / "index.html").exists()
    for page in site.rglob("*.html"):
        assert not re.findall(r"<(?:script|img|link)[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>", page.read_text()), page
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text()), style


def test_pictures_and_links_of_the_site_are_there(site):
    for page in site.glob("*.html"):
        for link in re.findall(r"(?:src|href)=\"([^\"#?:]+)[#?\"]", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
