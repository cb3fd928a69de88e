"""The dissertation's picture grid: each image as it is, masked by every method, and below those the scores."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evomask.report import plots

from ...benchmarks import runs
from ...shared import cli
from ..cells import Sweep
from ..drawing import LINE, blank, tallest, wrapped

PANEL = 1.15  # inches, of a picture
COLUMNS = 16
BELOW = "below each masked image its score; confidence in the explained class, pixels kept; †\u00a0not\u00a0complete"


def draw(sweep: Sweep, most: int) -> Figure | None:
    """One row of pictures for each of at most `most` images."""
    cells = [cell for cell in sweep.sound if cell.run.record["images"] == sweep.sound[0].run.record["images"]][:COLUMNS]
    if len(cells) < len(sweep.sound):
        cli.say(f"the grid shows {len(cells)} of {len(sweep.sound)} cells, of the same images and at most {COLUMNS}")
    known = runs.images(cells[0].folder)
    arrays = [runs.arrays(cell.folder, "mask", "score") for cell in cells]
    count = min(most, len(known["images"]))
    titles = [wrapped(cell.title, 16) for cell in cells]
    names = {str(name): wrapped(str(name), 20) for name in known["classes"]}
    shown = {cell.run.rows.iloc[row]["masked_label"] for cell in cells for row in range(count)}
    told = [names[str(known["classes"][label])] for label in shown]
    told += [names[cells[0].run.rows.iloc[row]["predicted_name"]] for row in range(count)]
    tall = PANEL * known["images"].shape[1] / known["images"].shape[2]
    below = 0.02 + 0.125 * (tallest(told) + 1)  # the class and the numbers, under a picture
    step, head = 2 * tall + below + 0.3, 0.1 + LINE * tallest(titles)
    left = 0.08
    width = left + (len(cells) + 1) * (PANEL + 0.12) + 0.1
    note = textwrap.wrap(BELOW, int((width - 2 * left) / 0.058))  # inches that a letter takes, with some to spare
    figure = Figure(figsize=(width, head + 0.1 + 0.12 * len(note) + count * step))
    for row in range(count):
        image = known["images"][row].astype(np.float32) / 255
        above = figure.get_figheight() - head - row * step - tall
        whole = cells[0].run.rows.iloc[row]
        panel = _picture(figure, left, above, tall, image, "original" if row == 0 else "")
        _say(panel, names[whole["predicted_name"]], whole["confidence"], "")
        for column, (cell, found) in enumerate(zip(cells, arrays), 1):
            place = left + column * (PANEL + 0.12)
            line = cell.run.rows.iloc[row]
            filled = blank(cell, image, int(line["seed"]))
            masked = np.where(found["mask"][row][..., None], image, filled)
            panel = _picture(figure, place, above, tall, masked, titles[column - 1] if row == 0 else "")
            name = names[str(known["classes"][line["masked_label"]])]
            _say(panel, name, line["masked_confidence"], f", {line['area']:.0%}{'' if line['complete'] else ' †'}")
            score = found["score"][row].astype(np.float32)
            _picture(figure, place, above - tall - below - 0.05, tall, score, "", cmap=plots.COLORMAP)
    figure.text(left / width, 0.05 / figure.get_figheight(), "\n".join(note), fontsize=7.5, va="bottom")
    return figure


def _picture(figure: Figure, left: float, bottom: float, tall: float, picture: np.ndarray, title: str, **how) -> Axes:
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, PANEL / across, tall / up))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set(linewidth=0.4)
    axes.set_title(title, fontsize=8.5, pad=3, parse_math=False)
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture, how = picture[..., 0], {"cmap": "gray", "vmin": 0, "vmax": 1}
    axes.imshow(picture, interpolation="nearest", **how)
    return axes


def _say(axes: Axes, name: str, confidence: float, more: str) -> None:
    axes.set_xlabel(f"{name}\n{confidence:.2f}{more}", fontsize=7.5, labelpad=2, parse_math=False)
