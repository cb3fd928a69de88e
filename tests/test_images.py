"""Decoding: what becomes of each kind of file, and the one line that each unusable file gets."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from evomask.data import photographs

SHAPE = (32, 32, 3)


@pytest.fixture
def gradient():
    """uint8[40, 60, 3]: rows in red, columns in green."""
    rows, cols = np.mgrid[0:40, 0:60]
    return np.stack([rows * 6, cols * 4, np.full_like(rows, 90)], -1).astype(np.uint8)


def _png_header(width, height):
    """A PNG file that declares a size and has next to no pixels behind it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_load_crops_the_centre(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    photo = photographs.load(tmp_path / "a.png", (40, 40, 3))
    assert photo.image.dtype == np.float32 and photo.name == "a" and photo.notices == ()
    np.testing.assert_array_equal(photo.image, gradient[:, 10:50].astype(np.float32) / np.float32(255))


def test_load_fits_a_target_that_is_not_square(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    photo = photographs.load(tmp_path / "a.png", (10, 30, 3))  # keeps rows 10..30 and every column, at half the size
    assert photo.image.shape == (10, 30, 3)
    np.testing.assert_allclose(photo.image[5, 15] * 255, gradient[20:22, 30:32].mean((0, 1)), atol=1.5)


def test_load_antialiases(tmp_path):
    board = (np.indices((320, 320)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    image = photographs.load(tmp_path / "board.png", SHAPE).image
    np.testing.assert_allclose(image, 0.5, atol=0.02)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1", "YCbCr"])
def test_modes_are_converted(tmp_path, mode):
    picture = Image.new("RGB", (32, 32), "white").convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    picture.save(path)
    np.testing.assert_allclose(photographs.load(path, SHAPE).image, 1.0, atol=0.01)


def test_16_bit_grey_keeps_its_range(tmp_path):
    levels = np.full((32, 32), 32896, np.uint16)  # 128 / 255 of the range
    Image.fromarray(levels).save(tmp_path / "deep.png")
    np.testing.assert_allclose(photographs.load(tmp_path / "deep.png", SHAPE).image, 128 / 255, atol=1e-6)


@pytest.mark.parametrize("pixels", [np.full((9, 9), 70000, np.int32), np.full((9, 9), 0.5, np.float32)])
def test_pixels_of_unknown_range_are_refused(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "science.tiff")
    with pytest.raises(photographs.ImageError, match=r"science\.tiff has .* range is unknown; save it as JPEG or PNG"):
        photographs.load(tmp_path / "science.tiff", SHAPE)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 16, 32))
    picture.convert(mode).save(tmp_path / "cut.png", **({"transparency": bytes([0] * 256)} if mode == "P" else {}))
    photo = photographs.load(tmp_path / "cut.png", SHAPE)
    np.testing.assert_array_equal(photo.image[:, :16], 1.0)
    assert photo.notices == ("is transparent in places, shown on white",)
    if mode != "P":
        np.testing.assert_array_equal(photo.image[:, 16:], 0.0)


def test_exif_orientation_is_honoured(tmp_path, gradient):
    picture = Image.fromarray(gradient[:, :40])
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    picture.save(tmp_path / "turned.png", exif=exif)
    image = photographs.load(tmp_path / "turned.png", (40, 40, 3)).image
    np.testing.assert_array_equal(image, np.rot90(gradient[:, :40], -1).astype(np.float32) / np.float32(255))


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    photo = photographs.load(tmp_path / "film.gif", SHAPE)
    np.testing.assert_array_equal(photo.image[0, 0], [1, 0, 0])
    assert photo.notices == ("has 3 frames, only the first is explained",)


def test_small_and_narrow_pictures_are_noticed(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "small.png")
    assert photographs.load(tmp_path / "small.png", SHAPE).notices == ("is enlarged from 16 x 16 to fill 32 x 32",)
    Image.new("RGB", (20_000, 50), "red").save(tmp_path / "wide.png")
    photo = photographs.load(tmp_path / "wide.png", SHAPE)
    assert photo.notices == ("is long and narrow, only the central 0.25% of it is seen",)
    np.testing.assert_array_equal(photo.image[0, 0], [1, 0, 0])


def test_a_large_jpeg_is_decoded_small(tmp_path):
    Image.new("RGB", (20_000, 3_000), "white").save(tmp_path / "wide.jpg")
    np.testing.assert_array_equal(photographs.load(tmp_path / "wide.jpg", SHAPE).image, 1.0)


def test_grey_classifiers_get_one_channel(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    assert photographs.load(tmp_path / "a.png", (32, 32, 1)).image.shape == (32, 32, 1)
    with pytest.raises(ValueError, match=r"height, width, channels\), got \(32, 32\)"):
        photographs.load(tmp_path / "a.png", (32, 32))


def _write_bad(path, kind):
    if kind == "text":
        path.write_text("this is no picture")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path, "JPEG")
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "pixel":
        Image.new("RGB", (1, 1)).save(path, "PNG")
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(_png_header(20_000, 5_000))
    elif kind == "bomb":
        path.write_bytes(_png_header(200_000, 200_000))
    elif kind == "hollow":
        path.write_bytes(_png_header(64, 64))


BAD = {
    "missing": "no such file: {}; check the path",
    "text": "{} is not an image in a known format; save it as JPEG or PNG",
    "empty": "{} is empty (0 bytes); get it again",
    "truncated": "it is damaged or cut short, get it again",
    "pixel": "{} is 1 x 1 pixels, at least 8 x 8 are needed; use a larger image",
    "folder": "{} is a folder without images",
    "large": "{} has 20000 x 5000 pixels, the limit is 80 million; scale it down first",
    "bomb": "{} has more than 170 million pixels, the limit is 80 million; scale it down first",
    "hollow": "it is damaged or cut short, get it again",
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_get_one_line(tmp_path, kind):
    path = tmp_path / "bad picture.png"
    _write_bad(path, kind)
    with pytest.raises(photographs.ImageError) as caught:
        photographs.load(path, SHAPE)
    message = str(caught.value)
    assert BAD[kind].format(path) in message and str(path) in message and "\n" not in message


def test_expand_is_sorted_and_keeps_what_is_missing(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt", "sub/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    inside = [tmp_path / "a.PNG", tmp_path / "b.jpg"]
    assert photographs.expand(tmp_path) == inside
    assert photographs.expand([tmp_path / "b.jpg", tmp_path]) == inside[::-1]
    assert photographs.expand(f"{tmp_path}/**/*.jpg") == [tmp_path / "b.jpg", tmp_path / "sub" / "c.jpg"]
    assert photographs.expand([tmp_path / "gone.jpg"]) == [tmp_path / "gone.jpg"]
    with pytest.raises(photographs.ImageError, match=r"nothing matches the pattern .*/\*\.bmp; check the path"):
        photographs.load(photographs.expand(f"{tmp_path}/*.bmp")[0], SHAPE)


def test_expand_takes_brackets_in_a_name_literally(tmp_path):
    path = tmp_path / "cat [1].jpg"
    path.write_bytes(b"x")
    assert photographs.expand(str(path)) == [path]


def test_unique_names_never_collide():
    paths = [photographs.Path(p) for p in ("a/cat.jpg", "b/cat.png", "cat_2.jpg", "c/CAT.gif")]
    assert photographs.unique_names(paths) == ["cat", "cat_3", "cat_2", "CAT_4"]


def test_names_of_results_are_visible_and_lie_in_their_folder():
    paths = [photographs.Path(name) for name in ("...png", "..png", ".hidden.png", "....png", "b/...png")]
    assert photographs.unique_names(paths) == ["__", "_", "_hidden", "___", "___2"]


def test_expand_passes_over_what_is_hidden_or_no_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "._a.png").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("nowhere.png", tmp_path / "link.png")
    assert photographs.expand(tmp_path) == [tmp_path / "a.png", tmp_path / "link.png"]
    with pytest.raises(photographs.ImageError, match="link.png is a link to 'nowhere.png', which does not exist"):
        photographs.load(tmp_path / "link.png", SHAPE)
    with pytest.raises(photographs.ImageError, match="pipe.png is not a regular file"):
        photographs.load(tmp_path / "pipe.png", SHAPE)


def test_patterns_end_where_links_lead_in_circles(tmp_path):
    for name in ("a", "b", "c", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"x")
        for other in ("a", "b", "c"):
            os.symlink(tmp_path / other, tmp_path / name / f"to_{other}")
    os.symlink("..", tmp_path / "a" / "up")
    expected = [tmp_path / name / "0.png" for name in "abc"]
    assert photographs.expand(f"{tmp_path}/**/*.png") == expected
    assert photographs.expand(f"{tmp_path}/**/0.*") == expected
    assert photographs.expand(f"{tmp_path}/**/b/*.png") == [expected[1]]


def test_patterns_in_folders_with_brackets_blanks_and_tildes(tmp_path, monkeypatch):
    folder = tmp_path / "~old [2019] *"
    folder.mkdir()
    (folder / "b [1].png").write_bytes(b"x")
    assert photographs.expand(f"{folder}/*.png") == photographs.expand(f"{folder}/**/*.png") == [folder / "b [1].png"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(folder))
    name = photographs.Path("~old [2019] *")
    assert photographs.expand(name) == photographs.expand("~old [2019] */*.png") == [name / "b [1].png"]
    assert photographs.expand("~/b*.png") == [folder / "b [1].png"]
    assert photographs.expand("~nobody-here.png") == [photographs.Path("~nobody-here.png")]
