"""The pictures of docs/concepts.md, from the shipped photograph of a cup and Lite0: `python docs/draw.py`, minutes.

They are narrow, so that their words stay legible on a telephone.
"""

import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import evomask
from evomask import fills, images, perturbations
from evomask.report import drawing, plots

HERE = pathlib.Path(__file__).parent / "pictures"


def said(classifier, shown: np.ndarray) -> str:
    """The class that is predicted, and its probability."""
    shares = np.asarray(jax.nn.softmax(classifier(jnp.asarray(shown)[None]))[0])
    name = classifier.labels[int(shares.argmax())].split(",")[0]
    return f"{name} ({shares.max():.2f})"


def row(pictures, titles, name: str, then=lambda number, axes: None, **options) -> None:
    """Pictures side by side with a title each; `then` draws on them."""
    figure = Figure(figsize=(2.1 * len(pictures), 2.7), layout="constrained", dpi=150)
    for number, axes in enumerate(figure.subplots(1, len(pictures))):
        axes.imshow(pictures[number], **options)
        axes.set_title(titles[number], fontsize=11)
        axes.set_axis_off()
        then(number, axes)
    HERE.mkdir(exist_ok=True)
    figure.savefig(HERE / name)


def squares(axes, genome: np.ndarray) -> None:
    """The outline of each patch, cut at the picture's border."""
    for line, col, radius in genome[genome[:, 2] >= 0]:
        corner, side = (col - radius - 0.5, line - radius - 0.5), 2 * radius + 1
        axes.add_patch(Rectangle(corner, side, side, fill=False, lw=1.4, color="white"))


def main() -> None:
    """Explains the cup once, and draws what the words of the page mean."""
    classifier = evomask.load("efficientnet_lite0")
    image = images.load(images.sample("coffee"), classifier.image_shape, classifier.crop).image
    found = evomask.explain(classifier, image[None], key=0)[0]
    blank = found.blanks[0]

    genome, patches = np.asarray(found.genome), int((found.genome[:, 2] >= 0).sum())
    mask = np.repeat(found.mask[..., None], 3, -1).astype(np.float32)
    draw = lambda number, axes: squares(axes, genome) if number == 1 else None
    row((image, image, mask), ("the picture", f"{patches} patches", "the mask"), "genome.png", draw)

    kept, without = (np.asarray(fills.apply(part, image, blank)) for part in (found.mask, ~found.mask))
    parts = {"whole": image, "masked": kept, "inverse-masked": without}
    row(tuple(parts.values()), [f"{name}:\n{said(classifier, part)}" for name, part in parts.items()], "complete.png")

    draws = [perturbations.SHIPPED["local"](jax.random.key(seed), image, blank) for seed in range(3)]
    shown = [np.asarray(perturbations.render(draw, found.mask)) for draw in draws]
    titles = [
        f"{said(classifier, one)}\nmoved by {draw.shift.tolist()}" for one, draw in zip(shown, draws, strict=True)
    ]
    row(shown, titles, "showings.png")

    then = lambda number, axes: axes.add_collection(drawing.outline(found.mask))
    colours = matplotlib.colormaps[drawing.COLORMAP](found.score)
    row((image, colours), ("the picture", "score matrix"), "score.png", then)
    plots.effect_figure(found, name="coffee").savefig(HERE / "effect.png")

    stages = [np.asarray(fills.apply(stage, image, blank)) for stage in found.stage_masks]
    row(stages, [f"{name}: {stage.mean():.0%}" for name, stage in zip(found.stages, found.stage_masks, strict=True)],
        "stages.png")  # fmt: skip


if __name__ == "__main__":
    main()
