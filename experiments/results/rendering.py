"""A table as text, in the formats that readers want; nothing is written here."""

from __future__ import annotations

from typing import Any

import numpy as np

from evomask.types import InputError

from .columns import COLUMNS
from .summaries import Table


def markdown(table: Table) -> str:
    """GitHub's table; bars in cells are escaped."""
    escape = lambda text: str(text).replace("|", "\\|").replace("*", "\\*")
    cells = [
        [f"**{escape(text)}**" if bold else escape(text) for text, bold in zip(row, bolds)]
        for row, bolds in zip(table.text.to_numpy(), table.best.to_numpy())
    ]
    named = len([name for name in table.text.columns if not _is_number(name)])
    rules = ["---"] * named + ["---:"] * (len(table.text.columns) - named)
    lines = [f"| {' | '.join(row)} |" for row in ([escape(name) for name in table.text.columns], rules, *cells)]
    return "\n".join([escape(table.caption), "", *lines, "", *(f"{escape(note)}\n" for note in table.notes)])


def latex(table: Table) -> str:
    """A floating table in the style of booktabs; the document needs \\usepackage{booktabs}."""
    style = _styler(table).format(escape="latex").format_index(escape="latex", axis=1)
    aligned = "".join("r" if _is_number(name) else "l" for name in table.text.columns)
    body = style.to_latex(hrules=True, convert_css=True, column_format=aligned)
    words = " ".join([table.caption, *table.notes])
    text = f"\\begin{{table}}\n\\centering\n\\caption{{{_for_latex(words)}}}\n{body}\\end{{table}}\n"
    text = text.replace("<", "\\textless{}").replace(">", "\\textgreater{}")  # which pandas leaves
    return text.replace("∞", "$\\infty$").replace("–", "--").replace("“", "``").replace("”", "''")


def csv(table: Table) -> str:
    """Every number in full."""
    return table.numbers.to_csv(index=False, lineterminator="\n")


def html(table: Table) -> str:
    """A page of its own."""
    words = [place for place, name in enumerate(table.text) if not _is_number(name)]
    style = _styler(table).format(escape="html").format_index(escape="html", axis=1)
    style = style.set_caption(_escaped(" ".join([table.caption, *table.notes]))).set_table_styles(
        [
            {"selector": "", "props": "border-collapse: collapse; font: 14px system-ui, sans-serif"},
            {"selector": "caption", "props": "text-align: left; padding-bottom: 0.5em; max-width: 60em"},
            {"selector": "th, td", "props": "padding: 0.25em 0.7em; text-align: right; border-bottom: 1px solid #bbb"},
            *({"selector": f".col{place}", "props": "text-align: left"} for place in words),
        ],
        overwrite=False,
    )
    return style.set_uuid(table.caption.partition(":")[0]).to_html(doctype_html=True)


RENDERERS = {"md": markdown, "tex": latex, "csv": csv, "html": html}


def _styler(table: Table) -> Any:
    try:
        style = table.text.style
    except ImportError as missing:
        raise InputError("tables in LaTeX and HTML need jinja2: pip install 'evomask[benchmark]'") from missing
    bold = np.where(table.best.to_numpy(), "font-weight: bold", "")
    return style.hide(axis="index").apply(lambda _: bold, axis=None)


def _is_number(name: str) -> bool:
    return name in {column.name for column in COLUMNS} | {"CP"}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _for_latex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    return "".join(special.get(letter, letter) for letter in text)
