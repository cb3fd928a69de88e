"""A question is posed once: who is asked what, how often, and what an answer and a verdict are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import evomask
from evomask import fills, questions, validate
from evomask.measures import metrics
from evomask.niches import several
from evomask.stability import across_seeds
from evomask.types import InputError, Status, decide

KEY = jax.random.key(0)
CONFIG = evomask.presets.smallest(900).replace(screening=None, budget=900)
IMAGE = np.random.default_rng(0).uniform(0.5, 1, (1, 8, 8, 1)).astype(np.float32)


class Counting:
    """Is the left half bright? Remembers how often it was shown the whole and the blank image."""

    def __init__(self):
        self.whole = self.blank = 0

    def __call__(self, images):
        self.whole += (images == IMAGE).all((1, 2, 3)).sum()
        self.blank += (images == 0).all((1, 2, 3)).sum()
        bright = images[:, :, :4].mean((1, 2, 3))
        return np.stack([20 * bright - 5, 5 - 20 * bright], axis=-1)


@pytest.fixture
def times(monkeypatch):
    """How often inputs are checked and blanks of the configuration's fills made."""
    counts = {"checks": 0, "blanks": 0}

    def counted(name, function):
        def call(*args):
            counts[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(validate, "inputs", counted("checks", validate.inputs))
    monkeypatch.setattr(fills, "blanks", counted("blanks", fills.blanks))
    return counts


def minimal(box, image, **options):
    found = evomask.explain(box, image, **options)
    return evomask.make_minimal(box, image, found, **options, budget=100)


@pytest.mark.parametrize(
    "ask, checks",
    [
        (evomask.explain, 1),
        (lambda *args, **options: several(*args, 2, **options), 1),
        (lambda *args, **options: across_seeds(*args, 2, **options), 1),
        (minimal, 2),  # two requests, one question
    ],
    ids=["explain", "several", "seeds", "minimal"],
)
def test_one_request_asks_once(ask, checks, times):
    seen = Counting()
    ask(evomask.BlackBox(seen, 2), IMAGE, key=KEY, config=CONFIG)
    assert (seen.whole, times["checks"], times["blanks"]) == (1, checks, 1)
    assert seen.blank == 1


def test_a_tie_is_no_win_whichever_class_comes_first():
    for label in (0, 1):
        said = questions.answer(np.zeros(2, np.float32), label)
        assert (said.label, said.margin) == (1 - label, 0)
        verdict = decide(said.margin, said.confidence, said.margin, 0.5)
        assert not verdict.keeps_class and verdict.keeps_confidence and verdict.loses_class


@pytest.mark.parametrize("label", [0, 1])
def test_a_tied_whole_image_has_the_label_and_no_sufficient_mask(label):
    box = evomask.as_classifier(lambda images: 0 * images[:, 0, 0, :1] @ np.ones((1, 2), np.float32))
    found = evomask.explain(box, IMAGE, key=KEY, labels=[label], config=CONFIG)
    assert (found.predicted[0], found.status[0]) == (label, Status.NOT_SUFFICIENT)


def test_what_is_not_a_number_holds_nowhere():
    verdict = decide(np.float32(np.nan), np.float32(np.nan), np.float32(np.nan), 0.0)
    assert not (verdict.keeps_class or verdict.keeps_confidence or verdict.loses_class)


def test_a_blank_image_without_an_answer_is_noticed_before_the_search():
    """A network that standardises each image divides by zero where there is nothing but fill."""
    seen = []

    def standardised(images):
        seen.append(len(images))
        with np.errstate(invalid="ignore"):
            left = ((images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True))[:, :, :4]
        return np.stack([left.mean((1, 2, 3)), -left.mean((1, 2, 3))], axis=-1)

    with pytest.raises(InputError, match="^the blank image, .*choose another fill, such as blur.*NaN or infinity"):
        evomask.explain(evomask.BlackBox(standardised, 2), IMAGE, key=KEY, config=CONFIG)
    assert sum(seen) <= 4


def test_nothing_has_infinite_cp_wherever_it_is_asked():
    none, some = np.zeros(2, np.float32), np.float32([0.5, 0.25])
    on_device = [jnp.asarray(values) for values in (none, some)]
    assert np.isinf([*metrics.cp(none, none), *metrics.cp(on_device[0], on_device[0])]).all()  # and NumPy does not warn
    np.testing.assert_array_equal(metrics.cp(some, some), metrics.cp(on_device[1], on_device[1]))


def test_one_ratio_decides_search_and_verdict():
    """Confidence is what is kept of the left half: at a ratio of 0.75 that is about three quarters of it."""

    def share(images):
        kept = images[:, :, :4].mean((1, 2, 3))
        return np.log(np.stack([1 - 0.9 * kept, 0.9 * kept], axis=-1) + 1e-9)

    box = evomask.BlackBox(share, 2)
    config = dataclasses.replace(CONFIG, confidence_ratio=0.75)
    found = evomask.explain(box, np.ones((1, 8, 8, 1)), key=0, config=config)
    assert found.complete[0]
    assert 0.675 <= found.masked_confidence[0] < 0.8 and 0.37 <= found.area[0] < 0.45


def test_the_fills_of_the_search_are_among_those_tried():
    config = dataclasses.replace(CONFIG, fill=fills.Constant(0.1))
    found = evomask.explain(evomask.BlackBox(Counting(), 2), IMAGE, key=KEY, config=config)
    assert found.fills == ("constant", *fills.SHIPPED)
    assert found.complete[0] and found.complete_under[0, 0]


def test_an_explanation_behaves():
    box = evomask.BlackBox(Counting(), 2, labels=("bright", "dark"))
    found = evomask.explain(box, np.concatenate([IMAGE, IMAGE]), key=KEY, config=CONFIG)
    assert len(found) == 2 and [one.area == found.area[0] for one in found] == [True, True]
    assert found[1].mask.shape == (8, 8) and found[:1].mask.shape == (1, 8, 8)
    assert found.name(found.label[0]) == "bright" and found.stages == ("gross", "middle", "fine")
    assert found.ends[0, -1] == found.evaluations[0] and found[0].question().label == 0
    with pytest.raises(TypeError, match="one image"):
        len(found[0])
    with pytest.raises(TypeError, match="one image already"):
        found[0][0]
