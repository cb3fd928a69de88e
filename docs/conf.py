"""How Sphinx builds the site: `make docs`, then open out/docs/index.html.

The pages are the Markdown files of this folder, the notebooks with the outputs that they are stored with, and the
docstrings. Nothing is executed, and nothing is loaded from elsewhere: the site opens from disk.
"""

import dataclasses
import inspect
import pathlib
import re
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
nb_render_markdown_format = "gfm"  # what a cell shows may be a table
myst_enable_extensions = ["deflist", "html_image"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say more: shapes, ranges, units
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
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


FIELD = re.compile(r"^    (\w+): .*?  # (.+)$", re.M)


def as_sphinx_reads(app, what, name, thing, options, lines: list[str]) -> None:
    """A docstring as people read it becomes one as Sphinx does, before napoleon takes it apart.

    The comments beside the fields of a record are shown with it, a list may follow its heading at once, and bars are
    norms, not substitutions.
    """
    fields = []
    if (
        dataclasses.is_dataclass(thing)
        and isinstance(thing, type)
        and not any(line.startswith("Args:") for line in lines)
    ):
        fields = FIELD.findall(inspect.getsource(thing))
    given, lines[:] = list(lines), []
    for line in given:
        if where := re.fullmatch(r"Raises \((.*)\):", line):
            lines += [f"Errors come {where[1]}.", ""]
            line = "Raises:"
        begins_list = line.lstrip().startswith("- ") and lines and lines[-1].rstrip().endswith(("one of", ":"))
        lines += [""] if begins_list else []
        lines.append(line if ">>>" in line else line.replace("|", "\\|"))
    if fields:
        lines += ["", "Attributes:", *(f"  {field}: {comment}" for field, comment in fields), ""]


def setup(app) -> None:
    app.connect("autodoc-process-docstring", as_sphinx_reads, priority=400)
    app.connect("builder-inited", fetch_notebooks)
    app.connect("source-read", links_to_the_copies)
