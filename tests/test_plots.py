"""Figures: what is drawn is what was found, it fits at every size, and pyplot is left alone."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from synthetic import explanation

from evomask.niches import Several
from evomask.report import plots
from evomask.stability import stability
from evomask.types import Front, Status

LABELS = ("American Staffordshire terrier of some $considerable$ length", "Egyptian cat")


def _image(size, channels=3):
    return np.linspace(0, 1, size * size * channels, dtype=np.float32).reshape(size, size, channels)


def _figure(found, size=32, channels=3, **kwargs):
    kwargs = {"stages": ["gross", "fine"], "ends": [900, 2000], "name": "photo"} | kwargs
    return plots.explanation_figure(_image(size, channels), found, LABELS, **kwargs)


def test_panels_show_the_masked_images_and_the_score():
    found = explanation(32)
    blank = np.full((32, 32, 3), 0.5, np.float32)
    panels = _figure(found, blank=blank).axes[:5]
    assert [axes.get_title() for axes in panels] == ["original", "gross", "fine", "score", "overlay"]
    drawn = [np.asarray(axes.images[0].get_array()) for axes in panels]
    np.testing.assert_array_equal(drawn[0], _image(32))
    for i in range(2):
        np.testing.assert_array_equal(drawn[1 + i], np.where(found.stage_masks[i][..., None], _image(32), 0.5))
    np.testing.assert_array_equal(drawn[3], found.score)


def test_captions_name_the_prediction_and_the_confidence_in_the_explained_class():
    captions = [axes.get_xlabel() for axes in _figure(explanation(32)).axes[:5]]
    assert captions[:3] == [
        "Egyptian cat\nconfidence 0.80",
        "Egyptian cat\nconfidence 0.85",
        "Egyptian cat\nconfidence 0.90",
    ]
    assert captions[4] == "outlined part blanked:\nAmerican Staffordshire\nterrier of some…\nexplained class: 0.05"


def test_convergence_shows_the_history_and_marks_infeasible_generations():
    found = explanation(32, infeasible=3)
    axes = next(axes for axes in _figure(found).axes if axes.get_xlabel() == "evaluations")
    confidence = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 0]
    np.testing.assert_array_equal(
        np.concatenate([line.get_xdata() for line in confidence[:2]]), found.history.evaluations
    )
    np.testing.assert_array_equal(
        np.concatenate([line.get_ydata() for line in confidence[:2]]), found.history.confidence
    )
    assert len(confidence[0].get_xdata()) == 9  # the line is broken where the first stage ends, after 900 evaluations
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["confidence", "area", "constraints not met"]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata()) == 3]
    assert len(hollow) == 2


def test_outline_follows_the_edges_of_pixels():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    points = np.array(plots.outline(mask).get_segments())
    assert len(points) == 2 * (2 + 4)
    assert points[..., 0].min() == 1.5 and points[..., 0].max() == 5.5
    assert points[..., 1].min() == 0.5 and points[..., 1].max() == 2.5


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("status", list(Status))
def test_nothing_overlaps_or_leaves_the_figure(size, status):
    found = dataclasses.replace(explanation(size, status), masked_confidence=np.float32(0), cp=np.float32(np.inf))
    sufficient, necessary = (
        status not in (failed, Status.NEITHER) for failed in (Status.NOT_SUFFICIENT, Status.NOT_NECESSARY)
    )
    found = dataclasses.replace(
        found,
        masked_label=np.int32(sufficient),
        inverse_label=np.int32(not necessary),
        contrast=np.int32(0),
        complete_under=np.array([False] + [True] * 5),
    )
    figure = _figure(found, size, name="a rather long name of a photograph " * 3, minimal=True)
    FigureCanvasAgg(figure).draw()
    failures = [text for text in figure.texts if "nats" in text.get_text()]
    assert len(failures) == (not (sufficient and necessary))
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.axison or axes.texts]
    score, bar = 3, 5  # the colour bar belongs to the score's panel
    boxes = [box for i, box in enumerate(boxes) if i != bar] + [figure._suptitle.get_window_extent()]
    boxes += [text.get_window_extent() for text in failures]
    width, height = figure.canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, i
        assert not any(box.overlaps(other) for other in boxes[i + 1 :]), i


def test_grey_images_single_stages_and_a_missing_inverse():
    found = explanation(32)
    found = dataclasses.replace(
        found,
        stage_masks=found.stage_masks[1:],
        stage_labels=found.stage_labels[1:],
        stage_confidences=found.stage_confidences[1:],
        inverse_confidence=np.float32(np.nan),
    )
    figure = _figure(found, channels=1, stages=["only"], ends=[])
    assert [axes.get_title() for axes in figure.axes[:4]] == ["original", "only", "score", "overlay"]
    assert figure.axes[3].get_xlabel() == ""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert Image.open(file).size == tuple(figure.canvas.get_width_height())


def test_what_is_missing_stands_under_the_heading():
    found = dataclasses.replace(explanation(32, Status.NOT_NECESSARY), inverse_label=np.int32(1))
    figure = _figure(found)
    said = "without the mask the image is still “Egyptian cat”, ahead by 2.5 nats (0.3 in probability)"
    assert said in [text.get_text() for text in figure.texts]
    assert _figure(explanation(32))._suptitle.get_text() == "photo: why “Egyptian cat”?"
    against = _figure(dataclasses.replace(found, contrast=np.int32(0)))._suptitle.get_text()
    assert against == "photo: why “Egyptian cat” and not “American Staffordshire terrier of some…”?"


def _front():
    found, nan = explanation(16), np.nan
    masks = np.zeros((4, 16, 16), bool)
    masks[0, :2], masks[2, :8], masks[3] = True, True, True
    return dataclasses.replace(
        found,
        front=Front(
            area=np.array([0.125, nan, 0.5, 1.0]),
            confidence=np.array([0.3, nan, 0.6, 0.8]),
            inverse_confidence=np.array([0.5, nan, 0.2, 0.1]),
            necessary=np.array([False, False, True, True]),
            mask=masks,
        ),
    )


def test_a_front_shows_its_points_and_its_masks():
    figure = plots.front_figure(_image(16), _front(), LABELS, name="photo")
    FigureCanvasAgg(figure).draw()
    panels = [axes for axes in figure.axes if axes.images]
    curve = next(axes for axes in figure.axes if axes.get_ylabel() == "confidence")
    hollow = next(line for line in curve.lines if line.get_label() == "the inverse keeps it")
    assert hollow.get_xydata().tolist() == [[0.125, 0.3]]
    assert [axes.get_xlabel() for axes in panels] == [
        "12.5% kept, confidence 0.30",
        "50.0% kept, confidence 0.60",
        "100.0% kept, confidence 0.80",
    ]
    np.testing.assert_array_equal(np.asarray(panels[1].images[0].get_array())[8:], 0)
    np.testing.assert_array_equal(np.asarray(panels[1].images[0].get_array())[:8], _image(16)[:8])


def test_a_front_tells_masks_whose_inverse_nobody_looked_at():
    found = _front()
    found = dataclasses.replace(
        found, front=dataclasses.replace(found.front, inverse_confidence=np.array([np.nan, np.nan, 0.2, 0.1]))
    )
    curve = next(
        axes for axes in plots.front_figure(_image(16), found, LABELS).axes if axes.get_ylabel() == "confidence"
    )
    points = {line.get_label(): line.get_xydata().tolist() for line in curve.lines}
    assert points["the inverse was not evaluated"] == [[0.125, 0.3]] and points["the inverse keeps it"] == []
    assert points["the inverse loses the class"] == [[0.5, 0.6], [1.0, 0.8]]


def test_a_front_of_nothing_is_drawn_all_the_same():
    found = _front()
    empty = dataclasses.replace(found.front, area=np.full(4, np.nan))
    figure = plots.front_figure(_image(16), dataclasses.replace(found, front=empty), LABELS)
    FigureCanvasAgg(figure).draw()
    assert not [axes for axes in figure.axes if axes.images]


def test_several_masks_side_by_side():
    first, second = explanation(16), explanation(16, Status.NOT_NECESSARY)
    found = Several((first, second), np.ones((2, 2)), np.array([0, 0.25]), ("complete", "complete"))
    figure = plots.several_figure(_image(16), found, LABELS, blank=np.full((16, 16, 3), 0.5, np.float32))
    FigureCanvasAgg(figure).draw()
    assert figure._suptitle.get_text() == "2 masks for “Egyptian cat”"
    assert (
        figure.axes[2].get_xlabel()
        == "Egyptian cat\nconfidence 0.90, area 12.5%\nnot necessary\n25% lies in earlier masks"
    )
    drawn = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_array_equal(drawn, np.where(first.mask[..., None], _image(16), 0.5))
    assert len(figure.axes[0].collections) == 2


def test_stability_shows_what_seeds_share():
    batches = [jax.tree.map(lambda x: np.asarray(x)[None], explanation(16)) for _ in range(2)]
    batches[1] = dataclasses.replace(batches[1], mask=~batches[1].mask, area=1 - batches[1].area)
    found = jax.tree.map(lambda x: x[0], stability(batches))
    figure = plots.stability_figure(_image(16), found, name="photo")
    FigureCanvasAgg(figure).draw()
    panels = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["original", "kept", "score", "score"]
    np.testing.assert_array_equal(np.asarray(panels[1].images[0].get_array()), 0.5)
    assert figure._suptitle.get_text() == "photo: 2 seeds, 2 complete, area 50.0% ± 53.0%, mean IoU 0.00"


def test_stage_names_must_match_the_masks():
    with pytest.raises(ValueError, match="1 stage names for 2 stages"):
        _figure(explanation(32), stages=["only"])
