"""Figures: what is drawn is what was found, it fits at every size, and nothing global is touched or looked at."""

import dataclasses
import io

import jax
import matplotlib
import numpy as np
import pytest
import synthetic
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from evomask.niches import Several
from evomask.report import contact, drawing, picture, plots, records
from evomask.stability import stability
from evomask.types import Front, InputError, Status, Verdict

NAMES = ("American Staffordshire terrier of some $considerable$ length", "Egyptian cat")


def _image(size, channels=3):
    return np.linspace(0, 1, size * size * channels, dtype=np.float32).reshape(size, size, channels)


def explanation(size=32, *args, channels=3, blank=0.0, **kwargs):
    """The known one, of a picture that shows where each pixel belongs."""
    image = _image(size, channels)
    found = synthetic.explanation(size, *args, **kwargs)
    return dataclasses.replace(
        found, image=image, blanks=np.full_like(image, blank)[None], names=NAMES, ends=np.array([900, 2000])
    )


def _figure(found, **kwargs):
    return picture.explanation_figure(found, **{"name": "photo"} | kwargs)


def _png(figure):
    file = io.BytesIO()
    drawing.save_png(figure, file)
    return Image.open(file)


def _panels(figure):
    """What is drawn large, by title."""
    return {axes.get_title().split(":")[0]: axes for axes in figure.axes[:4]}


def _drawn(axes):
    return np.asarray(axes.images[0].get_array())


def test_four_panels_show_what_is_kept_and_what_is_not():
    found = explanation(32, blank=0.5)
    panels = _panels(_figure(found))
    assert list(panels) == ["original", "what is kept", "without it", "score"]
    assert panels["what is kept"].get_title() == "what is kept: 12 %"
    np.testing.assert_array_equal(_drawn(panels["original"]), _image(32))
    np.testing.assert_array_equal(_drawn(panels["what is kept"]), np.where(found.mask[..., None], _image(32), 0.5))
    np.testing.assert_array_equal(_drawn(panels["without it"]), np.where(found.mask[..., None], 0.5, _image(32)))
    np.testing.assert_array_equal(_drawn(panels["score"]), found.score)
    assert [len(axes.collections) for axes in panels.values()] == [1, 0, 0, 1], "the outline"


def test_captions_name_the_prediction_and_the_confidence_in_the_explained_class():
    found = dataclasses.replace(explanation(32), names=("iPod", "espresso"))
    captions = [axes.get_xlabel() for axes in _panels(_figure(found)).values()]
    assert captions == ["says “espresso” (0.80)", "says “espresso” (0.90)", "says “iPod” (“espresso” 0.05)", ""]
    long = _panels(_figure(explanation(32)))["without it"].get_xlabel()
    assert long == "says “American Staffordshire t…\n(“Egyptian cat” 0.05)"


def test_stages_are_small_and_say_what_they_keep():
    found = dataclasses.replace(explanation(32), names=("iPod", "espresso"), stage_labels=np.array([0, 1]))
    figure = _figure(found)
    stages = {axes.get_title(): axes for axes in figure.axes if axes.get_title() in ("1 gross", "2 fine")}
    assert [axes.get_xlabel() for axes in stages.values()] == [
        "25 % of pixels\nsays “iPod”",
        "12 % of pixels\nconfidence 0.90",
    ]
    for axes, mask in zip(stages.values(), found.stage_masks):
        np.testing.assert_array_equal(_drawn(axes), np.where(mask[..., None], _image(32), 0))
        assert 2.5 * axes.get_position().width < figure.axes[0].get_position().width


@pytest.mark.parametrize(
    ("low", "said"), [(0.5, "1: counted most; mask: from 0.5"), (0.1, "how much a pixel counted, 1: most")]
)
def test_the_scale_of_the_score_is_explained(low, said):
    found = explanation(32)
    found = dataclasses.replace(found, score=np.where(found.mask, np.float32(low), 0))
    assert said in [axes.get_xlabel() for axes in _figure(found).axes]


def test_convergence_shows_the_history_and_marks_infeasible_generations():
    found = explanation(32, infeasible=3)
    axes = next(axes for axes in _figure(found).axes if axes.get_xlabel() == "evaluations")
    confidence = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 0]
    joined = [np.concatenate(values) for values in zip(*(line.get_data() for line in confidence[:2]))]
    np.testing.assert_array_equal(joined, [found.history.evaluations, found.history.confidence])
    assert len(confidence[0].get_xdata()) == 9  # the line is broken where the first stage ends, after 900 evaluations
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["confidence", "area", "not met"]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata()) == 3]
    assert len(hollow) == 2


def test_outline_follows_the_edges_of_pixels():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    points = np.array(drawing.outline(mask).get_segments())
    assert len(points) == 2 * (2 + 4)
    assert points[..., 0].min() == 1.5 and points[..., 0].max() == 5.5
    assert points[..., 1].min() == 0.5 and points[..., 1].max() == 2.5


def _rendered(figure):
    """The boxes of everything that is read, in pixels; the score's panel and its bar are one."""
    FigureCanvasAgg(figure).draw()
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"]
    return boxes + [text.get_window_extent() for text in figure.texts]


def _apart(boxes, figure):
    width, height = figure.canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, i
        assert not [j for j, other in enumerate(boxes[i + 1 :], i + 1) if box.overlaps(other)], i


@pytest.mark.parametrize("status", list(Status))
def test_nothing_overlaps_or_leaves_the_figure(status):
    found = dataclasses.replace(explanation(32, status), masked_confidence=np.float32(0), cp=np.float32(np.inf))
    sufficient, necessary = (
        status not in (failed, Status.NEITHER) for failed in (Status.NOT_SUFFICIENT, Status.NOT_NECESSARY)
    )
    found = dataclasses.replace(
        found,
        sufficient=np.bool_(sufficient),
        masked_label=np.int32(sufficient),
        inverse_label=np.int32(not necessary),
        contrast=np.int32(0),
        under_fills=Verdict(*[np.array([False] + [True] * 5)] * 3),
    )
    figure = _figure(found, name="a rather long name of a photograph " * 3, minimal=True)
    _apart(_rendered(figure), figure)
    failures = [text for text in figure.texts if "nats" in text.get_text()]
    assert len(failures) == (not (sufficient and necessary))


@pytest.mark.parametrize(("height", "width", "stages"), [(32, 12, 1), (12, 32, 3), (90, 9, 4), (9, 90, 2), (20, 20, 7)])
def test_any_shape_and_any_number_of_stages_fits(height, width, stages):
    square = explanation(96)
    cut = lambda field: np.ascontiguousarray(field[..., :height, :width])
    found = dataclasses.replace(
        square,
        image=square.image[:height, :width],
        blanks=square.blanks[:, :height, :width],
        mask=cut(square.mask),
        score=cut(square.score),
        stage_masks=np.stack([cut(square.mask)] * stages),
        stage_labels=np.ones(stages, int),
        stage_confidences=np.full(stages, 0.5),
        stages=("a stage whose name is long",) * stages,
        ends=np.arange(500, 500 * stages + 1, 500),
    )
    figure = _figure(found)
    _apart(_rendered(figure), figure)
    large, *_ = [axes.get_position() for axes in figure.axes]
    assert large.y0 > max(axes.get_position().y1 for axes in figure.axes if axes.get_xlabel() == "evaluations")


def test_grey_images_single_stages_and_a_missing_inverse():
    found = explanation(32, channels=1)
    found = dataclasses.replace(
        found,
        stage_masks=found.stage_masks[1:],
        stage_labels=found.stage_labels[1:],
        stage_confidences=found.stage_confidences[1:],
        stages=("only",),
        ends=np.array([], int),
        inverse_confidence=np.float32(np.nan),
    )
    figure = _figure(found)
    assert "only" in [axes.get_title() for axes in figure.axes]
    assert _panels(figure)["without it"].get_xlabel() == "not asked"
    assert _png(figure).size == tuple(figure.canvas.get_width_height())


def test_what_is_missing_stands_under_the_heading():
    found = dataclasses.replace(explanation(32, Status.NOT_NECESSARY), inverse_label=np.int32(1))
    words = " ".join(text.get_text() for text in _figure(found).texts).replace("\n", " ")
    assert "without the mask the image is still “Egyptian cat”, ahead by 2.5 nats (0.3 in probability)" in words
    assert _figure(explanation(32))._suptitle.get_text() == "photo: why “Egyptian cat”?"
    against = _figure(dataclasses.replace(found, contrast=np.int32(0)))._suptitle.get_text()
    assert against.replace("\n", " ") == "photo: why “Egyptian cat” and not “American Staffordshire terrier of some…”?"


def test_a_contact_sheet_has_a_row_for_each_image(tmp_path, monkeypatch):
    found = {"first": explanation(16), "second": explanation(16, Status.NOT_NECESSARY)}
    for name, one in found.items():
        records.save(tmp_path / name, one, name=name)
    drawn = []
    monkeypatch.setattr(records.drawing, "save_png", lambda figure, file: drawn.append(figure))
    records.write_contact(tmp_path, list(found))
    (figure,) = drawn
    _apart(_rendered(figure), figure)
    assert [axes.get_title() for axes in figure.axes] == ["original", "what is kept", "without it", "score"] + [""] * 4
    np.testing.assert_array_equal(_drawn(figure.axes[4]), _image(16))
    assert [text.get_text() for text in figure.texts] == [
        "first: “Egyptian cat”, 12 % of the pixels, complete",
        "second: “Egyptian cat”, 12 % of the pixels, not necessary",
    ]


def test_contact_sheets_are_numbered_and_old_ones_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(contact, "ROWS", 1)
    for name in "ab":
        records.save(tmp_path / name, explanation(16), name=name)
    for name in ("contact_3.png", "contact_of_mine.png"):
        (tmp_path / name).write_text("older")
    assert records.write_contact(tmp_path, ["a", "b"]) == ["contact.png", "contact_2.png"]
    names = [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert sorted(names) == ["contact.png", "contact_2.png", "contact_of_mine.png"]


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
    figure = plots.front_figure(_front(), name="photo")
    FigureCanvasAgg(figure).draw()
    panels = [axes for axes in figure.axes if axes.images]
    curve = next(axes for axes in figure.axes if axes.get_ylabel() == "confidence")
    hollow = next(line for line in curve.lines if line.get_label() == "the inverse keeps it")
    assert hollow.get_xydata().tolist() == [[0.125, 0.3]]
    assert [axes.get_title() for axes in panels] == ["A: 12 %", "B: 50 %", "C: 100 %"]
    assert [axes.get_xlabel() for axes in panels] == ["confidence 0.30", "confidence 0.60", "confidence 0.80"]
    assert figure._suptitle.get_text() == "photo: how much is enough for “Egyptian cat”?"
    np.testing.assert_array_equal(np.asarray(panels[1].images[0].get_array())[8:], 0)
    np.testing.assert_array_equal(np.asarray(panels[1].images[0].get_array())[:8], _image(16)[:8])


def test_a_front_tells_masks_whose_inverse_nobody_looked_at():
    found = _front()
    found = dataclasses.replace(
        found, front=dataclasses.replace(found.front, inverse_confidence=np.array([np.nan, np.nan, 0.2, 0.1]))
    )
    curve = next(axes for axes in plots.front_figure(found).axes if axes.get_ylabel() == "confidence")
    points = {line.get_label(): line.get_xydata().tolist() for line in curve.lines}
    assert points["the inverse was not evaluated"] == [[0.125, 0.3]] and points["the inverse keeps it"] == []
    assert points["the inverse loses the class"] == [[0.5, 0.6], [1.0, 0.8]]


def test_a_front_of_nothing_is_drawn_all_the_same():
    found = _front()
    empty = dataclasses.replace(found.front, area=np.full(4, np.nan))
    figure = plots.front_figure(dataclasses.replace(found, front=empty))
    FigureCanvasAgg(figure).draw()
    assert not [axes for axes in figure.axes if axes.images]


def test_several_masks_side_by_side():
    first, second = explanation(16, blank=0.5), explanation(16, Status.NOT_NECESSARY, blank=0.5)
    found = Several((first, second), np.ones((2, 2)), np.array([0, 0.25]), ("complete", "complete"))
    figure = plots.several_figure(found)
    FigureCanvasAgg(figure).draw()
    assert figure._suptitle.get_text() == "2 masks for “Egyptian cat”"
    assert figure.axes[2].get_xlabel() == "says “Egyptian cat”\n(0.90)\nnot necessary\n25 % in earlier masks"
    assert figure.axes[2].get_title() == "mask 2: 12 %"
    assert [text.get_text() for text in figure.texts[1:]] == ["2 of 2 masks are complete, as was demanded."]
    drawn = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_array_equal(drawn, np.where(first.mask[..., None], _image(16), 0.5))
    assert len(figure.axes[0].collections) == 2


def test_stability_shows_what_seeds_share():
    batches = [_batch(explanation(16)) for _ in range(2)]
    batches[1] = dataclasses.replace(batches[1], mask=~batches[1].mask, area=1 - batches[1].area)
    found = jax.tree.map(lambda x: x[0], stability(batches))
    figure = plots.stability_figure(_image(16), found, name="photo")
    FigureCanvasAgg(figure).draw()
    panels = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["original", "kept", "score, mean", "score, spread"]
    np.testing.assert_array_equal(np.asarray(panels[1].images[0].get_array()), 0.5)
    assert figure._suptitle.get_text() == "photo: do other seeds agree?"
    said = " ".join(figure.texts[1].get_text().split())
    assert "2 of 2 masks are complete. They keep 50 % of the pixels (± 53 %), and two of them share 0 % of what" in said


def _batch(*found):
    return jax.tree.map(lambda *fields: np.stack(fields), *found)


def test_a_picture_is_of_one_image():
    with pytest.raises(InputError, match=r"of 2 images: give that of one, such as found\[0\]"):
        picture.explanation_figure(_batch(explanation(16), explanation(16)))
    with pytest.raises(InputError, match=r"has no front: search with .* front=Collect\(40\)"):
        plots.front_figure(explanation(16))


@pytest.mark.parametrize("won", [True, False])
def test_a_counterfactual_says_what_is_predicted_and_whether_the_mask_wins(won):
    found = dataclasses.replace(
        explanation(32, Status.COUNTERFACTUAL),
        predicted=np.int32(0),
        predicted_confidence=np.float32(0.62),
        confidence=np.float32(0.0001),
        sufficient=np.bool_(won),
        inverse_label=np.int32(0),
    )
    figure = _figure(found)
    heading = "photo: what would make it “Egyptian cat”, not “American Staffordshire terrier of some…”?"
    assert figure._suptitle.get_text().replace("\n", " ") == heading
    said = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "The network says “American Staffordshire terrier of some…” (0.62) of the whole picture; " in said
    assert "complete under" not in said
    ending = "the mask makes this one win" if won else "no mask was found that makes this one win"
    assert f"counterfactual: another class is predicted, {ending}" in said


def test_what_users_set_for_pictures_of_their_own_changes_none_of_ours():
    plain = np.asarray(_png(_figure(explanation(16))))
    settings = {
        "axes.facecolor": "red",
        "font.size": 30,
        "savefig.dpi": 20,
        "figure.facecolor": "black",
        "axes.grid": True,
    }
    with matplotlib.rc_context(settings | {"savefig.bbox": "tight", "text.usetex": True, "image.origin": "lower"}):
        np.testing.assert_array_equal(np.asarray(_png(_figure(explanation(16)))), plain)
        assert matplotlib.rcParams["font.size"] == 30


def test_any_name_is_drawn_as_it_is_written():
    """Half a formula, a font that has no such glyph, a style of text: no error, no warning, no mathematics."""
    names = ("$x_1$ {a} \\frac", "猫 🐈 قط")
    found = dataclasses.replace(explanation(16), names=names, stages=("$gross", "fine_$2^"))
    figure = _figure(found, name="$50 %s \\alpha ~[1]")
    assert figure._suptitle.get_text() == "$50 %s \\alpha ~[1]: why “猫 🐈 قط”?"
    assert not any(
        text.get_parse_math()
        for axes in figure.axes
        for text in (axes.title, axes.xaxis.label)
        if "$" in text.get_text()
    )
    assert min(_png(figure).size) > 300
