"""The figures of an experiment from its run folders; `python -m experiments.figures --help` says which there are."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from evomask import fills
from evomask.measures import statistics
from evomask.report import plots, records
from evomask.report.plots import shorten
from evomask.types import InputError
from experiments.benchmarks import runs
from experiments.results.cells import OURS, TITLES, Cell, Sweep, cell_name, gather
from experiments.shared import cli
from experiments.tables import SEED, chosen, per_image

FORMATS = ("pdf", "png")
# Okabe and Ito 2008 without the yellow, which is lost on white, and with black and a grey.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
MARKERS = "osD^vP*X<>hp"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "|||")
STYLE = {
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
}
PANEL = 1.15  # inches, of a picture in a grid
TOGETHER = 6  # cells whose curves are drawn in one panel
COLUMNS = 16  # of a grid
BELOW_GRID = (
    "below each masked image its score; confidence in the explained class, pixels kept; †\u00a0not\u00a0complete"
)
POINTS = 200  # at which curves of different images are averaged


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.run(figures, "figures", argv, cli.CONF / "results")


def figures(config: DictConfig) -> int:
    """Writes every figure that the runs of an experiment have something for."""
    formats = chosen(config.format, FORMATS, "format")
    kinds = tuple(KINDS) if config.kind is None else chosen(config.kind, tuple(KINDS), "kind")
    if type(config.images) is not int or config.images < 1:
        raise InputError(f"images is {config.images!r}: give a whole number of 1 or more")
    sweep = gather(config.runs, config.experiment, config.where, config.mark)
    out = records.prepare_folder(config.out)
    for cell in sweep.cells:
        if not cell.sound:
            cli.report(f"left out: {cell_name(cell)}: {cell.note}")
    for kind in kinds:
        with matplotlib.rc_context(STYLE):
            figure = KINDS[kind](sweep, config.images)
            if figure is None:
                if config.kind is not None:
                    raise InputError(f"the runs of {config.experiment} have nothing for kind={kind}")
                continue
            for form in formats:
                path = out / f"{config.experiment}_{kind}.{form}"
                records.write_atomically(path, lambda file, form=form: save(figure, file, form))
                print(path, file=sys.stderr)
    return 0


def save(figure: Figure, file, form: str) -> None:
    """Without the time of day, so that the same runs give the same bytes."""
    metadata = {"CreationDate": None} if form == "pdf" else {"Software": None}
    figure.savefig(file, format=form, dpi=150, metadata=metadata)


class Look(NamedTuple):
    """How a cell is drawn wherever it appears: told apart by colour, marker, dashes and hatch."""

    colour: str
    marker: str
    dashes: str | tuple
    hatch: str


def look(number: int) -> Look:
    """The look of the n-th thing in a figure."""
    return Look(*(choices[number % len(choices)] for choices in (COLOURS, MARKERS, DASHES, HATCHES)))


# --------------------------------------------------------------------------------------------------------- the grid


def grid(sweep: Sweep, most: int) -> Figure | None:
    """One row of pictures for each image: as it is, masked by every cell, and below those the scores."""
    cells = [cell for cell in sweep.sound if cell.run.record["images"] == sweep.sound[0].run.record["images"]][:COLUMNS]
    if len(cells) < len(sweep.sound):
        cli.report(f"the grid shows {len(cells)} of {len(sweep.sound)} cells, of the same images and at most {COLUMNS}")
    known = runs.images(cells[0].folder)
    arrays = [runs.arrays(cell.folder, "mask", "score") for cell in cells]
    count = min(most, len(known["images"]))
    tall = PANEL * known["images"].shape[1] / known["images"].shape[2]
    step = 2 * tall + 0.58
    left = 0.08
    width = left + (len(cells) + 1) * (PANEL + 0.12) + 0.1
    note = textwrap.wrap(BELOW_GRID, int((width - 2 * left) / 0.058))  # inches that a letter takes, with some to spare
    figure = Figure(figsize=(width, 0.38 + 0.12 * len(note) + count * step))
    for row in range(count):
        image = known["images"][row].astype(np.float32) / 255
        above = figure.get_figheight() - 0.35 - row * step - tall
        whole = cells[0].run.rows.iloc[row]
        panel = _picture(figure, left, above, tall, image, "original" if row == 0 else "")
        _say(panel, whole["predicted_name"], whole["confidence"], "")
        for column, (cell, found) in enumerate(zip(cells, arrays), 1):
            place = left + column * (PANEL + 0.12)
            line = cell.run.rows.iloc[row]
            filled = blank(cell, image, int(line["seed"]))
            masked = np.where(found["mask"][row][..., None], image, filled)
            panel = _picture(figure, place, above, tall, masked, shorten(cell.title, 16) if row == 0 else "")
            name = known["classes"][line["masked_label"]]
            _say(panel, name, line["masked_confidence"], f", {line['area']:.0%}{'' if line['complete'] else ' †'}")
            score = found["score"][row].astype(np.float32)
            _picture(figure, place, above - tall - 0.33, tall, score, "", cmap=plots.COLORMAP)
    figure.text(left / width, 0.05 / figure.get_figheight(), "\n".join(note), fontsize=7.5, va="bottom")
    return figure


def blank(cell: Cell, image: np.ndarray, seed: int) -> np.ndarray:
    """What the method's masked image shows where the mask is not: the first fill of the run."""
    fill = cli.instantiate(OmegaConf.create(cell.run.config["preset"]["fill"]))
    fill = fill if isinstance(fill, tuple) else (fill,)
    return np.asarray(fills.blanks(fill, jax.random.key(seed), image))[0]


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
    axes.set_xlabel(
        f"{shorten(name, 20).splitlines()[0]}\n{confidence:.2f}{more}", fontsize=7.5, labelpad=2, parse_math=False
    )


# ------------------------------------------------------------------------------------------------------- the curves


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, and ends of its 95 % percentile bootstrap interval over the images: f64[N, T] -> three of f64[T]."""
    drawn = np.random.default_rng(SEED).integers(len(values), size=(2000, len(values)))
    weights = np.stack([np.bincount(each, minlength=len(values)) for each in drawn]) / len(values)
    low, high = np.quantile(weights @ values, [0.025, 0.975], axis=0)
    return values.mean(0), low, high


def by_image(cell: Cell, values: np.ndarray) -> np.ndarray:
    """The mean over the seeds of each image: [rows, T] -> f64[N, T]."""
    index = cell.run.rows["index"].to_numpy()
    return np.stack([values[index == each].astype(np.float64).mean(0) for each in np.unique(index)])


def convergence(sweep: Sweep, most: int) -> Figure | None:
    """Area and confidence of the best individual against the evaluations spent; of many cells, a panel for each."""
    del most
    names = {"history_area": "area", "history_confidence": "confidence", "history_feasible": "constraints met"}
    cells = [cell for cell in sweep.sound if cell.run.config["method"]["_target_"] == "evomask.explain"]
    if not cells:
        return None
    found = [runs.arrays(cell.folder, "history_evaluations", *names) for cell in cells]
    spent = [arrays["history_evaluations"][0] for arrays in found]
    if len(cells) > TOGETHER:
        figure, axes = panels([cell.title for cell in cells])
        for panel, cell, arrays, x in zip(axes, cells, found, spent):
            for number, (name, label) in enumerate(names.items()):
                _curve(panel, x, by_image(cell, arrays[name]), look(number), label, max(len(x) // 5, 1))
            panel.set(xlim=(0, max(each[-1] for each in spent)), ylim=(0, 1.03))
        figure.supxlabel("evaluations", fontsize=9, y=0.28 / figure.get_figheight())
        _legend(figure, axes[0], below=True)
        return figure
    figure = Figure(figsize=(8.0, 4.9))
    axes = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"left": 0.08, "right": 0.68, "top": 0.96, "bottom": 0.1, "hspace": 0.14}
    )
    for number, (cell, arrays, x) in enumerate(zip(cells, found, spent)):
        for panel, name in zip(axes, names):
            _curve(panel, x, by_image(cell, arrays[name]), look(number), cell.title, max(len(x) // 8, 1))
    for panel, label in zip(axes, names.values()):
        panel.set(ylabel=label, ylim=(0, 1.03))
    axes[-1].set(xlabel="evaluations", xlim=(0, None))
    _legend(figure, axes[0])
    return figure


def front(sweep: Sweep, most: int) -> Figure | None:
    """Confidence against area, for the image masked by prefixes of the heat map, and the mean headline masks; of many
    cells, a panel for each, with ours for comparison.
    """
    del most
    cells, at = sweep.sound, np.linspace(0, 1, POINTS + 1)
    if len(cells) > TOGETHER:
        groups = {id(sweep.cells[i]): sweep.ours(group) for group in sweep.groups() for i in group}
        figure, axes = panels([cell.title for cell in cells])
        for panel, cell in zip(axes, cells):
            ours = groups[id(cell)]
            if ours is not None and sweep.cells[ours] is not cell:
                _front(
                    panel,
                    at,
                    sweep.cells[ours],
                    look(0),
                    f"for comparison: {OURS if 'method' in sweep.keys else 'default'}",
                    0,
                )
            _front(panel, at, cell, look(2), "the one named above", POINTS // 12)
            panel.set_xticks([0, 0.5, 1])
        figure.supxlabel("area kept (fraction of the pixels)", fontsize=9, y=0.28 / figure.get_figheight())
        figure.supylabel("confidence in the explained class", fontsize=9)
        fullest = max(axes, key=lambda panel: len(panel.lines))
        fullest.plot(
            [], [], "o", color="0.4", markersize=10, markeredgecolor="white", label="large: the masks themselves, mean"
        )
        _legend(figure, fullest, below=True)
        return figure
    figure = Figure(figsize=(8.0, 4.0))
    axes = figure.subplots(gridspec_kw={"left": 0.08, "right": 0.68, "top": 0.97, "bottom": 0.13})
    for number, cell in enumerate(cells):
        _front(axes, at, cell, look(number), cell.title, 3 * number, len(cells) <= 3 or sweep.is_ours(cell))
    axes.set(xlabel="area kept (fraction of the pixels)", ylabel="confidence in the explained class")
    axes.plot(
        [], [], "o", color="0.4", markersize=10, markeredgecolor="white", label="large: the masks\nthemselves, mean"
    )
    _legend(figure, axes)
    return figure


def _front(axes: Axes, at: np.ndarray, cell: Cell, style: Look, label: str, first: int, banded: bool = True) -> None:
    """One cell; more than a few bands would hide each other."""
    found = runs.arrays(cell.folder, "prefix_area", "prefix_confidence")
    pairs = zip(found["prefix_area"], found["prefix_confidence"])
    values = np.stack([np.interp(at, area, confidence) for area, confidence in pairs])
    _curve(axes, at, by_image(cell, values), style, label, POINTS // 6, first, banded)
    place = per_image(cell.run, "area").mean(), per_image(cell.run, "masked_confidence").mean()
    axes.plot(
        *place, style.marker, color=style.colour, markersize=10, markeredgecolor="white", markeredgewidth=1.2, zorder=5
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.03))


def panels(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Small multiples with common axes, four in a row, and room for a legend below."""
    down = -(-len(titles) // 4)
    figure = Figure(figsize=(8.4, 1.0 + 1.75 * down))
    high = figure.get_figheight()
    place = {
        "left": 0.075,
        "right": 0.985,
        "bottom": 0.82 / high,
        "top": 1 - 0.25 / high,
        "hspace": 0.3,
        "wspace": 0.12,
    }
    axes = figure.subplots(down, 4, sharex=True, sharey=True, gridspec_kw=place).ravel()
    for panel, title in zip(axes, titles):
        panel.set_title(shorten(title, 26), fontsize=8.5, pad=3, parse_math=False)
    for number, panel in enumerate(axes):
        panel.tick_params(labelsize=7.5, labelbottom=number + 4 >= len(titles))
        panel.set_visible(number < len(titles))
    return figure, list(axes[: len(titles)])


def budget(sweep: Sweep, most: int) -> Figure | None:
    """Complete area, failures counted as 1, against the budget."""
    del most
    if "budget" not in sweep.keys:
        return None
    figure = Figure(figsize=(6.4, 3.6))
    axes = figure.subplots(gridspec_kw={"left": 0.11, "right": 0.73, "top": 0.96, "bottom": 0.15})
    rest = lambda cell: ", ".join(TITLES.get(v, v) for k, v in cell.values.items() if k != "budget") or "complete area"
    for number, name in enumerate(dict.fromkeys(map(rest, sweep.sound))):
        cells = sorted((cell for cell in sweep.sound if rest(cell) == name), key=lambda cell: cell.run.record["budget"])
        found = [statistics.bootstrap(per_image(cell.run, "complete_area", 1.0), seed=SEED) for cell in cells]
        style, budgets = look(number), [cell.run.record["budget"] for cell in cells]
        axes.fill_between(
            budgets, [x.low for x in found], [x.high for x in found], color=style.colour, alpha=0.13, linewidth=0
        )
        axes.plot(
            budgets,
            [x.value for x in found],
            marker=style.marker,
            linestyle=style.dashes,
            color=style.colour,
            label=name,
        )
    budgets = sorted({cell.run.record["budget"] for cell in sweep.sound})
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{each:,}" for each in budgets])
    axes.minorticks_off()
    axes.set(xlabel="budget (evaluations of one explanation)", ylabel="complete area, failures as 1", ylim=(0, 1.03))
    _legend(figure, axes)
    return figure


def bars(sweep: Sweep, most: int) -> Figure | None:
    """Complete area, failures counted as 1, and the share of complete explanations, of every cell."""
    del most
    cells = sweep.sound
    titles = [shorten(cell.title, 24) for cell in cells]
    left = 0.35 + 0.075 * max(len(line) for title in titles for line in title.splitlines())  # inches
    figure = Figure(figsize=(left + 4.8, 1.0 + 0.34 * len(cells)))
    place = {
        "left": left / figure.get_figwidth(),
        "right": 0.97,
        "bottom": 0.62 / figure.get_figheight(),
        "wspace": 0.1,
    }
    axes = figure.subplots(1, 2, sharey=True, gridspec_kw={**place, "top": 1 - 0.12 / figure.get_figheight()})
    for place, cell in enumerate(cells):
        special = sweep.is_ours(cell)
        fill = {
            "color": "#56b4e9" if special else "#c9d6df",
            "edgecolor": "black",
            "linewidth": 0.6,
            "hatch": "///" if special else "",
        }
        for panel, values in zip(axes, (per_image(cell.run, "complete_area", 1.0), per_image(cell.run, "complete"))):
            found = statistics.bootstrap(values, seed=SEED)
            errors = [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]
            panel.barh(
                place, found.value, height=0.68, xerr=errors, error_kw={"capsize": 2.5, "elinewidth": 1.0}, **fill
            )
    axes[0].set_yticks(range(len(cells)), titles, parse_math=False)
    axes[0].invert_yaxis()
    axes[0].set(xlabel="complete area, failures as 1", xlim=(0, 1.03))
    axes[1].set(xlabel="share of complete explanations", xlim=(0, 1.03))
    for panel in axes:
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    return figure


def _curve(
    axes: Axes,
    x: np.ndarray,
    values: np.ndarray,
    style: Look,
    label: str,
    every: int,
    first: int = 0,
    banded: bool = True,
) -> None:
    """Mean and interval over the images; markers at some of the points only."""
    mean, low, high = band(values)
    if banded:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.13, linewidth=0)
    axes.plot(
        x,
        mean,
        marker=style.marker,
        linestyle=style.dashes,
        color=style.colour,
        label=label,
        markersize=4.5,
        linewidth=1.4,
        markevery=(first % every, every),
    )
    axes.grid(alpha=0.3)


def _legend(figure: Figure, axes: Axes, below: bool = False) -> None:
    """Beside the axes, or below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    side = axes.get_position()
    where = (
        {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0), "ncols": 3, "borderaxespad": 0.2}
        if below
        else {"loc": "upper left", "bbox_to_anchor": (side.x1 + 0.01, side.y1)}
    )
    figure.legend(handles, labels, frameon=False, fontsize=8.5, handlelength=3.2, **where)


KINDS: dict[str, Callable[[Sweep, int], Figure | None]] = {
    "grid": grid, "convergence": convergence, "front": front, "budget": budget, "bars": bars,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
