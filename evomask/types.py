"""Array vocabulary, protocols and the small records that pass between the layers.

Axes: `B` images, `P` individuals, `G` patches (genes), `S` stages, `T` generations, `H x W` pixels, `C` channels,
`K` classes. Images are `float32` in [0, 1]; areas and confidences are fractions of one.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from evomask.pytrees import record, set_tuples, static  # noqa: F401 (everybody knows them from here)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evomask.measures.certainty import Precision

Array = jax.Array
Key = jax.Array  # one key of `jax.random.key`
Image = jax.Array  # f32[H, W, C] in [0, 1]
Mask = jax.Array  # bool[..., H, W], True where the pixel is kept
Genome = jax.Array  # int32[..., G, 3]: (row, col, radius); a negative radius switches the patch off


SLACK = 1e-3  # nats more than it must that a search asks for: at batch size 1, the last bits of the logits differ
RATIO = 0.9  # of the whole image's confidence, that a sufficient mask keeps unless a configuration says otherwise
DEMANDS = ("complete", "sufficient", "necessary")  # what can be asked of a mask: fields of a `Verdict`


class InputError(ValueError):
    """Bad input. The message is one line that names the input, the problem and the remedy."""


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says: `ValueError: too large`, for a message of one line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def check_demand(demand: Any) -> str:
    """The demand, if it is one; InputError for anything else."""
    if demand not in DEMANDS:
        raise InputError(f"demand is {demand!r}: give one of {', '.join(DEMANDS)}")
    return demand


def handed_on(wrapper: Any, inner: Any, name: str, names: tuple[str, ...]) -> Any:
    """What a classifier may have besides being called, for the `__getattr__` of what wraps it: one of `names`."""
    if name in names:
        return getattr(inner, name)
    raise AttributeError(f"{type(wrapper).__name__} has no attribute {name!r}")


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number of `least` or more as an int, be it Python's, NumPy's or JAX's; InputError for anything else.

    >>> whole("budget", np.int64(500))
    500
    """
    is_truth = isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"
    try:
        number = None if is_truth else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise InputError(f"{name} is {value!r}: give a whole number of {least} or more")
    return number


@runtime_checkable
class Classifier(Protocol):
    """Images f32[N, H, W, C] in [0, 1] -> logits f32[N, K]; normalisation happens inside.

    A classifier is a pytree (see `record`), so that its weights are arguments of the compiled program. It may have
    `features(images)` -> tuple of f32[N, h, w, c], shallow to deep; `labels`, a tuple of K names; `image_shape`,
    the one (H, W, C) that it takes; `batch_size`, the number of images at which it runs fastest; and `crop`, the
    centred part of a photograph that it is used to see.
    """

    def __call__(self, images: Array) -> Array: ...


class Status(enum.IntEnum):
    """How a search ended.

    Where no more is demanded than that a mask is sufficient, or that it is necessary, one that is only that ends the
    search well: it is `SUFFICIENT` or `NECESSARY`.
    """

    COMPLETE = 0  # sufficient and necessary, verified
    NOT_SUFFICIENT = 1  # the masked image loses the class or too much confidence
    NOT_NECESSARY = 2  # the inverse-masked image keeps the class
    NEITHER = 3
    BLANK_CLASS = 4  # as demanded in the letter only: the blank image has this class by itself
    UNSTABLE = 5  # the search took it to meet the demand, the verification at batch size 1 did not
    COUNTERFACTUAL = 6  # another class is predicted for the whole image; `sufficient`: under the mask, this one wins
    SUFFICIENT = 7  # as demanded, and not necessary, verified
    NECESSARY = 8  # as demanded, and not sufficient, verified
    DECISION_BREAKS = 9  # the whole image itself loses the class in too many showings: no mask could hold


class Answer(NamedTuple):
    """What the classifier says of one image about one class; its lead is positive where the class is ahead.

    A lead of exactly zero is no win for the class: another one is then named as predicted.
    """

    label: int  # predicted; under a contrast, one of the two
    confidence: float  # probability of the class in question
    log_confidence: float
    margin: float  # its lead over the best other class in nats
    lead: float  # the same in probability


class Question(NamedTuple):
    """What is asked about one image: posed once, by `questions.ask`, and passed to everything that works on it."""

    image: np.ndarray  # f32[H, W, C]
    blanks: np.ndarray  # f32[F, H, W, C], one for each fill of the configuration
    label: int  # the class to explain
    contrast: int | None  # the class that it is explained against; None: every other one
    whole: Answer  # of the whole image
    blank: Answer  # of the blank image; of several the least of every figure

    @property
    def counterfactual(self) -> bool:
        """Whether the whole image is predicted as another class: a mask can make the label win, not keep it."""
        return self.whole.margin < 0

    def row(self) -> Rows:
        """The question as compiled programs take it, without leading axis."""
        contrast = None if self.contrast is None else np.int32(self.contrast)
        said = np.float32(self.whole.confidence), None, np.bool_(self.counterfactual)
        return Rows(self.image, self.blanks, np.int32(self.label), contrast, *said)


@record
class Niche:
    """What the next of several masks of the same image may do with the pixels of the earlier ones."""

    region: Mask  # bool[H, W], pixels that may be kept
    taken: Mask  # bool[H, W], pixels of earlier masks
    weight: Array  # f32[], how much more than another a taken pixel counts


@record
class Rows:
    """The questions as the compiled search takes them, leading axis B."""

    image: Array  # f32[B, H, W, C]
    blanks: Array  # f32[B, F, H, W, C]
    label: Array  # int32[B]
    contrast: Array | None  # int32[B]
    confidence: Array  # f32[B], of the whole images
    niche: Niche | None = None
    counterfactual: Array | np.bool_ = np.False_  # bool[B], see `Question`


@record
class Target:
    """What is explained: one image, one class, and what the classifier makes of the whole image."""

    image: Array  # f32[H, W, C]
    label: Array  # int32[]
    confidence: Array  # f32[], probability of `label` for the whole image
    features: tuple[Array, ...] = ()  # each f32[h, w, c]; empty unless a fitness term compares features
    contrast: Array | None = None  # int32[]: only this class competes with `label`; None: all of them
    ratio: Array | float = RATIO  # of `confidence`, that a sufficient mask keeps
    slack: Array | float = SLACK  # nats by which the search asks for a clearer answer than it must


@record
class Evaluation:
    """Everything that one batched forward pass says about P masks.

    A margin is log p[label] - max over the other classes of log p: positive where `label` is predicted.
    Inverse values are NaN, and `distance` is NaN, where no fitness term or constraint asked for them.
    """

    area: Array  # f32[P], fraction of pixels kept
    confidence: Array  # f32[P], probability of the label for the masked image
    margin: Array  # f32[P]
    inverse_confidence: Array  # f32[P], the same for the inverse-masked image
    inverse_margin: Array  # f32[P]
    distance: Array  # f32[P], mean squared distance between features of the whole and the masked image
    boundary: Array  # f32[P], length of the masks' boundaries, that of the picture's own border being 1


@record
class Verdict:
    """Whether masks are sufficient, necessary and complete, condition by condition; see `decide`."""

    keeps_class: Array  # bool[...]
    keeps_confidence: Array
    loses_class: Array

    @property
    def sufficient(self) -> Array:
        """The masked image keeps the class and enough of its confidence."""
        return self.keeps_class & self.keeps_confidence

    @property
    def necessary(self) -> Array:
        """The inverse-masked image loses the class."""
        return self.loses_class

    @property
    def complete(self) -> Array:
        """Sufficient and necessary."""
        return self.sufficient & self.necessary


def decide(margin: Any, confidence: Any, inverse_margin: Any, enough: Any, *, slack: float = 0.0) -> Verdict:
    """The one definition of a complete mask, for NumPy and JAX arrays alike; what is NaN holds nowhere.

    A class wins where its margin is positive: at exactly zero a mask does not keep it, and an inverse has lost it.

    Args:
      margin, confidence: f[...], of the label for the masked image.
      inverse_margin: f[...], of the label for the inverse-masked image.
      enough: f[...], the confidence that a sufficient mask keeps.
      slack: nats by which both margins must be clear of a tie.

    >>> verdict = decide(np.array([0.0, 0.5]), np.array([0.9, 0.9]), np.array([-1.0, 0.0]), 0.8)
    >>> verdict.sufficient.tolist(), verdict.necessary.tolist(), verdict.complete.tolist()
    ([False, True], [True, True], [False, True])
    """
    return Verdict(margin > slack, confidence >= enough, inverse_margin <= -slack)


@record
class History:
    """The best individual of every generation (leading axes [B, T] in an `Explanation`)."""

    fitness: Array  # f32[T], the objective of the best individual
    confidence: Array  # f32[T]
    area: Array  # f32[T]
    feasible: Array  # bool[T]
    evaluations: Array  # int32[T], spent so far


@record
class Front:
    """The masks that no smaller one equals in confidence, as the search saw them; NaN and empty in a bin without."""

    area: np.ndarray  # f32[B, N], rising
    confidence: np.ndarray  # f32[B, N], rising
    inverse_confidence: np.ndarray  # f32[B, N]; NaN as well where the inverse was not evaluated
    necessary: np.ndarray  # bool[B, N], the inverse was evaluated and loses the class
    mask: np.ndarray  # bool[B, N, H, W]


@record
class Missing:
    """What a mask lacks of being complete: one number for each condition, zero where it holds."""

    keeps_class: np.ndarray  # f32[B], by how much another class leads in the masked image
    keeps_confidence: np.ndarray  # f32[B], of the confidence that a sufficient mask keeps
    loses_class: np.ndarray  # f32[B], by how much the class still leads in the inverse-masked image


@record
class Explanation:
    """What `explain` returns, one entry per image; NumPy arrays, verified outside the loop.

    Under a contrast, only the two classes compete: labels are one of them, and confidences are shares between the two.
    Under several fills, what is said of the masked, inverse-masked and blank images is the worst of the fills.

    `len(found)`, `found[i]` and iteration go image by image; what they give lacks the leading axis B. Such a one has a
    `figure()` and can be put on disk by `save(folder)`.
    """

    image: np.ndarray  # f32[B, H, W, C] in [0, 1], what was explained
    blanks: np.ndarray  # f32[B, F, H, W, C], what shows where a mask does not, under each fill of the configuration
    mask: np.ndarray  # bool[B, H, W], the last stage's mask
    stage_masks: np.ndarray  # bool[B, S, H, W]
    score: np.ndarray  # f32[B, H, W] in [0, 1], the per-pixel contribution, those of the mask first
    genome: np.ndarray  # int32[B, G, 3]
    label: np.ndarray  # int32[B], the explained class
    contrast: np.ndarray  # int32[B], the class that it is explained against; -1: all others
    confidence: np.ndarray  # f32[B], of the whole image
    masked_confidence: np.ndarray  # f32[B]
    inverse_confidence: np.ndarray  # f32[B]
    blank_confidence: np.ndarray  # f32[B], of the image that is all fill
    predicted: np.ndarray  # int32[B], class predicted for the whole image
    predicted_confidence: np.ndarray  # f32[B], its probability
    masked_label: np.ndarray  # int32[B], class predicted for the masked image
    inverse_label: np.ndarray  # int32[B]
    blank_label: np.ndarray  # int32[B]
    stage_labels: np.ndarray  # int32[B, S], class predicted under each stage's mask
    stage_confidences: np.ndarray  # f32[B, S], probability of `label` under each stage's mask
    area: np.ndarray  # f32[B], fraction of pixels kept
    cp: np.ndarray  # f32[B], masked confidence / area (inf for an empty mask)
    cp_floored: np.ndarray  # f32[B], the same with the area floored at 5 %
    sufficient: np.ndarray  # bool[B]
    necessary: np.ndarray  # bool[B]
    complete: np.ndarray  # bool[B]
    missing: Missing  # in nats
    missing_probability: Missing  # the same as differences of probabilities
    under_fills: Verdict  # bool[B, N], on the mask under each of `fills`
    status: np.ndarray  # int32[B], a `Status`
    evaluations: np.ndarray  # int32[B], images sent through the classifier by the search
    history: History
    ends: np.ndarray  # int32[B, S], evaluations spent when each stage was over
    whole: Answer  # of the whole images
    blank: Answer  # of the blank ones, see `Question`
    front: Front | None = None  # where the configuration asks for it
    effect: np.ndarray | None = None  # f32[B, H, W] in [-1, 1], see `scoring.MainEffects`; None: the rule does not say
    effect_error: np.ndarray | None = None  # f32[B, H, W], its standard error; both NaN where nothing is known
    film: np.ndarray | None = None  # bool[B, T, H, W], where it asks for it: the best mask of every generation
    precision: Precision | None = None  # where showings are drawn: how often the mask holds
    demand: str = static(default="complete")  # what was asked of the masks: complete, sufficient or necessary
    fills: tuple[str, ...] = static(default=())  # the N under which every mask is tried, those of the search first
    stages: tuple[str, ...] = static(default=())  # names, coarse to fine
    names: tuple[str, ...] = static(default=())  # of the K classes; () where the classifier has none

    def __len__(self) -> int:
        if np.ndim(self.label) == 0:
            raise TypeError("this is the explanation of one image, which has no length")
        return len(self.label)

    def __getitem__(self, index: int | slice) -> Explanation:
        """The explanation of one image, without leading axis, or of a slice of them."""
        if np.ndim(self.label) == 0:
            raise TypeError("this is the explanation of one image already: it has no index")
        return jax.tree.map(lambda field: np.asarray(field)[index], self)

    def __iter__(self) -> Iterator[Explanation]:
        return (self[index] for index in range(len(self)))

    @property
    def met(self) -> np.ndarray:
        """bool[B], whether the mask is what was demanded: complete, unless less was."""
        return getattr(self, self.demand)

    @property
    def holds(self) -> np.ndarray:
        """bool[B], whether the mask does what was demanded: as often as it must where showings are drawn, else once."""
        return self.met if self.precision is None else self.precision.holds

    @property
    def complete_under(self) -> np.ndarray:
        """bool[B, N], whether the mask is complete under each of `fills`."""
        return self.under_fills.complete  # pyright: ignore[reportReturnType]

    def name(self, index: int) -> str:
        """What a class is called: its name, or its number where the classifier has no names."""
        return str(self.names[int(index)]) if self.names else str(int(index))

    def question(self) -> Question:
        """What was asked about this one image (no leading axis)."""
        contrast = None if self.contrast < 0 else int(self.contrast)
        return Question(self.image, self.blanks, int(self.label), contrast, self.whole, self.blank)

    def figure(self, index: int | None = None, **options: Any) -> Figure:
        """The picture of this image, or of image `index` of several: `evomask.report.picture.explanation_figure`."""
        from evomask.report import picture  # matplotlib is needed by those who draw

        return picture.explanation_figure(self if index is None else self[index], **options)

    def save(self, folder: str | Path, **options: Any) -> Path:
        """Writes the picture, the numbers and the arrays of this image; see `evomask.report.records.save`.

        Of several images each gets a folder of its own inside, named by its number.
        """
        from evomask.report import records

        if np.ndim(self.label) == 0:
            return records.save(folder, self, **options)
        for number, one in enumerate(self):
            records.save(Path(folder) / str(number), one, **options)
        return Path(folder)
