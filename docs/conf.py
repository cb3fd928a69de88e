"""How Sphinx builds the site: `make docs`, then open out/docs/index.html.

The pages are the Markdown files of this folder, the notebooks with the outputs that they are stored with, and the
docstrings. Nothing is executed, and nothing is loaded from elsewhere: the site opens from disk.
"""

import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import evomask  # noqa: E402

project = "evomask"
author = "The evomask authors"
project_copyright = author
release = version = evomask.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["notebooks/*.md"]
suppress_warnings = ["misc.highlighting_failure"]  # in notebooks: %matplotlib is no Python
default_role = "py:obj"  # `name` in a docstring: a link where there is such a thing, code everywhere
nitpick_ignore_regex = [("py:.*", ".*")]  # but no warning where there is none, for JAX's types are not here to link to

nb_execution_mode = "off"
myst_enable_extensions = ["deflist", "html_image"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say more: shapes, ranges, units
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
viewcode_line_numbers = True

html_theme = "furo"
html_title = "evomask"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False


def fetch_notebooks(app) -> None:
    """Sphinx reads below this folder only, so the notebooks are copied to where git does not look."""
    shutil.copytree(ROOT / "notebooks", HERE / "notebooks", dirs_exist_ok=True)
    for copy in (HERE / "notebooks").iterdir():
        if not (ROOT / "notebooks" / copy.name).exists():
            copy.unlink()


def links_to_the_copies(app, docname: str, source: list[str]) -> None:
    """Links that lead out of this folder in the repository stay inside of the site."""
    source[0] = source[0].replace("](../notebooks/", "](notebooks/").replace("](../docs/", "](../")


def setup(app) -> None:
    app.connect("builder-inited", fetch_notebooks)
    app.connect("source-read", links_to_the_copies)
