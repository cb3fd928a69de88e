"""Framing: masks lie in the photograph where the network saw them, however it was made to fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evomask import InputError
from evomask.data import framing, photographs, pictures
from evomask.report import full as report

SIDES = st.integers(40, 160)


def ramps(height, width):
    """A photograph that says of each pixel where it is: red from left to right, green from top to bottom."""
    across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    places = np.stack(np.broadcast_arrays(across, down[:, None], 0.5), -1)
    return np.rint(255 * places).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, st.integers(16, 64), st.integers(16, 64), st.sampled_from(framing.FITS), st.floats(0.6, 1.0))
def test_what_was_seen_lies_where_it_was(height, width, rows, columns, fit, crop):
    photograph = Image.fromarray(ramps(height, width))
    small, _ = pictures._decoded(photograph, "ramps", (rows, columns, 3), crop, fit)
    within = framing.frame((height, width), (rows, columns), fit, crop)
    back = framing.full_size(np.asarray(small), within, (height, width)).astype(float)
    seen = framing.full_size(np.ones((rows, columns), bool), within, (height, width))
    assert seen.all() if fit != "crop" else abs(seen.mean() - np.prod(np.subtract(within[2:], within[:2]))) < 0.06
    across, down = within.right - within.left, within.bottom - within.top
    error = np.abs(back - ramps(height, width))[seen]
    assert error[:, 0].max(initial=0) <= 255 * 1.5 * across / columns + 3  # a pixel and a half of the small one
    assert error[:, 1].max(initial=0) <= 255 * 1.5 * down / rows + 3
    assert not back[~seen].any()


@pytest.mark.parametrize(
    ("fit", "crop", "expected"),
    [
        ("crop", 1.0, (0.25, 0.0, 0.75, 1.0)),
        ("crop", 0.5, (0.375, 0.25, 0.625, 0.75)),
        ("squeeze", 0.5, (0, 0, 1, 1)),
        ("pad", 0.5, (0, -0.5, 1, 1.5)),
    ],
)
def test_frames_of_a_wide_photograph(fit, crop, expected):
    assert framing.frame((100, 200), (32, 32), fit, crop) == pytest.approx(expected)


def test_padding_is_black_and_nothing_is_cut_off(tmp_path):
    Image.new("RGB", (80, 40), "red").save(tmp_path / "wide.png")
    load = lambda fit: photographs.load(tmp_path / "wide.png", (40, 40, 3), fit=fit).image
    np.testing.assert_array_equal(load("pad")[:10], 0)
    np.testing.assert_array_equal(load("pad")[30:], 0)
    for seen in (load("pad")[10:30], load("squeeze"), load("crop")):
        np.testing.assert_array_equal(seen, np.broadcast_to((1.0, 0, 0), seen.shape))


def test_a_turned_jpeg_that_is_decoded_at_half_its_size_lies_where_its_frame_says(tmp_path):
    picture, turned = Image.fromarray(ramps(403, 1207)), Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "turned.jpg", quality=95, exif=turned)
    whole, _ = pictures.read(tmp_path / "turned.jpg", "turned")
    assert whole.shape == (1207, 403, 3)
    small = photographs.load(tmp_path / "turned.jpg", (50, 50, 3), fit="pad").image
    within = framing.frame(whole.shape[:2], (50, 50), "pad")
    back = framing.full_size(small, within, whole.shape[:2])
    assert np.abs(255 * back - whole).max() < 255 * 1.5 / 16


def test_a_long_picture_that_is_shown_whole_is_no_reason_for_a_notice(tmp_path):
    Image.new("RGB", (400, 40), "red").save(tmp_path / "long.png")
    notices = lambda fit: photographs.load(tmp_path / "long.png", (40, 40, 3), fit=fit).notices
    assert len(notices("crop")) == 1 and notices("pad") == notices("squeeze") == ()


def test_the_overlay_keeps_dims_and_veils():
    photograph = np.full((400, 800, 3), (200, 100, 50), np.uint8)
    mask, seen = np.zeros((2, 400, 800), bool)
    mask[100:300, 300:500], seen[:, 200:600] = True, True
    shown = np.asarray(report.overlay(photograph, mask, seen))
    assert shown[200, 400].tolist() == [200, 100, 50] and shown[50, 250].tolist() == [60, 30, 15]
    assert len(set(shown[50, 50].tolist())) == 1 and shown[50, 50, 0] > 180
    assert shown[100, 400].tolist() == [255] * 3 and shown[98, 400].tolist() == [0] * 3


def test_a_fit_that_is_none(tmp_path):
    with pytest.raises(InputError, match="fit is 'stretch': give crop .its middle., squeeze"):
        photographs.load(tmp_path / "a.png", (8, 8, 3), fit="stretch")
