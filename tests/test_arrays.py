"""Pictures of any number of channels: what a file says of them, and what becomes of it."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from evomask.data import arrays, photographs
from evomask.data.photographs import ImageError, load
from evomask.types import InputError
from experiments import explain

BANDS = ("nir", "red", "green", "swir")


def near_infrared():
    """Is the upper left quarter bright in the first of four channels?"""
    return lambda images: jnp.stack([jnp.full(len(images), 2.0), 8 * images[:, :8, :8, 0].mean((1, 2))], 1)


@pytest.fixture
def bands() -> np.ndarray:
    """uint16[12, 16, 4]: in channel c the value is 1000 c + 16 * row + column."""
    rows, columns, channels = np.meshgrid(np.arange(12), np.arange(16), np.arange(4), indexing="ij")
    return (1000 * channels + 16 * rows + columns).astype(np.uint16)


def test_an_array_has_its_channels_first_or_last(tmp_path, bands):
    np.save(tmp_path / "last.npy", bands)
    np.save(tmp_path / "first.npy", np.moveaxis(bands, -1, 0))
    np.save(tmp_path / "grey.npy", bands[..., 2])
    for name in ("last", "first"):
        found = load(tmp_path / f"{name}.npy", (12, 16, 4))
        np.testing.assert_allclose(found.image, bands / 65535, atol=1e-6)
        assert found.channels == ("0", "1", "2", "3") and found.image.dtype == np.float32
    np.testing.assert_allclose(load(tmp_path / "grey.npy", (12, 16, 1)).image[..., 0], bands[..., 2] / 65535, atol=1e-6)


def test_channels_are_found_where_both_ends_could_be_meant(tmp_path):
    """Of [4, 8, 8] the wanted number says which end has the channels, without it the shorter one does."""
    values = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_allclose(load(tmp_path / "a.npy", (8, 8, 4)).image, np.moveaxis(values, 0, -1) / 255, atol=1e-6)
    chosen = load(tmp_path / "a.npy", (8, 8, 1), channels=[3]).image
    np.testing.assert_allclose(chosen[..., 0], values[3] / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["npz", "imagej", "ome", "gdal", "planar"])
def test_channels_are_called_what_the_file_calls_them(tmp_path, bands, kind):
    planes = np.moveaxis(bands, -1, 0)
    path = tmp_path / ("a.npz" if kind == "npz" else "a.ome.tif" if kind == "ome" else "a.tif")
    if kind == "npz":
        np.savez(path, image=bands, channels=BANDS)
    elif kind == "imagej":
        tifffile.imwrite(path, planes[None, None], imagej=True, metadata={"axes": "TZCYX", "Labels": list(BANDS)})
    elif kind == "ome":
        tifffile.imwrite(path, planes, ome=True, metadata={"axes": "CYX", "Channel": {"Name": list(BANDS)}})
    else:
        items = "".join(
            f'<Item name="DESCRIPTION" sample="{i}" role="description">{n}</Item>' for i, n in enumerate(BANDS)
        )
        tag = (arrays.DESCRIPTIONS, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True)
        layout = {"planarconfig": "separate"} if kind == "planar" else {"planarconfig": "contig"}
        pixels = planes if kind == "planar" else bands
        tifffile.imwrite(path, pixels, photometric="minisblack", extratags=[tag], metadata=None, **layout)
    found = load(path, (12, 16, 2), channels=["swir", "nir"], levels=[0, 4000])
    assert found.channels == ("swir", "nir") and found.notices == ()
    np.testing.assert_allclose(found.image, bands[..., [3, 0]] / 4000, atol=1e-6)


def test_every_channel_is_fitted_as_a_photograph_is(tmp_path):
    """A photograph read channel by channel has the pixels that the one decoder gives, up to its rounding to bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    for fit in ("crop", "squeeze", "pad"):
        plain = load(tmp_path / "a.png", (16, 16, 3), 0.9, fit)
        bands = load(tmp_path / "a.png", (16, 16, 3), 0.9, fit, channels=["blue", "green", "red"])
        np.testing.assert_allclose(bands.image[..., ::-1], plain.image, atol=1.01 / 255)
        assert bands.channels == ("blue", "green", "red") and plain.channels == ()
    assert load(tmp_path / "a.png", (80, 80, 1), channels=["red"]).notices == (
        "is enlarged from 60 x 40 to fill 80 x 80",
    )


def test_levels_say_what_becomes_black_and_white(tmp_path):
    values = np.linspace(-2, 2, 64).reshape(8, 8)
    np.save(tmp_path / "a.npy", values)
    found = load(tmp_path / "a.npy", (8, 8, 1), levels=[-1, 1])
    np.testing.assert_allclose(found.image[..., 0], np.clip((values + 1) / 2, 0, 1), atol=1e-6)
    assert found.notices == ("has 50% of its values beyond levels=[-1.0, 1.0], which were cut",)
    flags = values > 0
    np.save(tmp_path / "b.npy", flags)
    np.testing.assert_array_equal(load(tmp_path / "b.npy", (8, 8, 1)).image[..., 0], flags)


def broken(values: np.ndarray, at: float) -> np.ndarray:
    values = values.astype(float)
    values[0, 0] = at
    return values


@pytest.mark.parametrize(
    "values, how, said",
    [
        (np.zeros((8, 8, 5)), {}, r"a\.npy has 5 channels \(0, 1, 2, 3, 4\) and the network takes 2: choose"),
        (np.zeros((8, 8, 5)), {"channels": [1]}, r"a\.npy is to give 1 and the network takes 2"),
        (np.zeros((8, 8, 2)), {"channels": ["nir", 0]}, r"a\.npy has no channel 'nir': choose from 0, 1, or by number"),
        (np.zeros((8, 8, 2)), {"channels": [0, 2]}, r"a\.npy has no channel 2: choose from 0, 1"),
        (np.zeros((8, 8, 2, 2)), {}, r"a\.npy is float64\[8, 8, 2, 2\]: give \[H, W, C\], \[C, H, W\] or \[H, W\]"),
        (np.full((8, 8, 2), 7.0), {}, r"a\.npy is float64 from 7 to 7: say what becomes 0 and 1, levels=\[low,high\]"),
        (np.ones((8, 8, 2), np.int16) * 300, {}, r"a\.npy is int16 from 300 to 300: say what becomes"),
        (broken(np.zeros((8, 8, 2)), np.nan), {}, r"a\.npy has 2 values that are no numbers \(NaN or infinite\)"),
        (broken(np.zeros((8, 8, 2)), np.inf), {"levels": [0, 1]}, r"a\.npy has 2 values that are no numbers"),
        (np.zeros((8, 8, 2), complex), {}, r"a\.npy is of type complex128: give numbers"),
        (np.zeros((4, 8, 2)), {}, r"a\.npy is 8 x 4 pixels: give one of at least 8 x 8"),
        (np.array([{}]), {}, r"a\.npy cannot be decoded \(Object arrays"),
    ],
)  # fmt: skip
def test_an_array_that_cannot_be_used(tmp_path, values, how, said):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ImageError, match=said) as caught:
        load(tmp_path / "a.npy", (8, 8, 2), **how)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [[1], [2, 1], [0, 0], [0, float("inf")], "01", [0, "1"], [float("nan"), 1], 3])
def test_levels_that_are_none(tmp_path, levels):
    np.save(tmp_path / "a.npy", np.zeros((8, 8)))
    with pytest.raises(InputError, match=r"levels are .*: give two numbers"):
        load(tmp_path / "a.npy", (8, 8, 1), levels=levels)


def test_files_that_cannot_be_used(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros((8, 8)), b=np.zeros((8, 8)))
    np.savez(tmp_path / "names.npz", image=np.zeros((8, 8, 2)), channels=["nir"])
    (tmp_path / "text.npy").write_text("no array")
    tifffile.imwrite(tmp_path / "film.tif", np.zeros((3, 2, 16, 16), np.uint8), metadata={"axes": "TCYX"})
    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")
    for name, said in {
        "gone.npy": "no such file: .*gone.npy",
        "two.npz": "two.npz holds a, b: call the one to explain `image`",
        "names.npz": r"names.npz names 1 channels \(nir\) and has 2",
        "text.npy": "text.npy cannot be decoded",
        "film.tif": r"film.tif has the axes TCYX \[3, 2, 16, 16\]: give one picture",
        "photo.png": r"photo.png has 3 channels \(red, green, blue\) and the network takes 2",
    }.items():
        with pytest.raises(ImageError, match=said):
            load(tmp_path / name, (8, 8, 2))


def test_a_compressed_file_says_what_it_wants(tmp_path, monkeypatch):
    """It is not called damaged where a decoder is missing."""

    def missing(*args, **kwargs):
        raise ValueError("<COMPRESSION.LERC: 34887> requires the 'imagecodecs' package")

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 16, 16), np.uint8), metadata={"axes": "CYX"})
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
    with pytest.raises(ImageError, match=r"a\.tif is compressed .* \(.*LERC.*\): pip install imagecodecs"):
        load(tmp_path / "a.tif", (16, 16, 2))


def test_a_stack_of_pictures_says_that_the_first_is_taken(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.full((2, 16, 16), 51, np.uint8), metadata={"axes": "CYX"}, photometric="minisblack")
        file.write(np.full((8, 8), 255, np.uint8), photometric="minisblack")
    found = load(tmp_path / "a.tif", (16, 16, 2))
    assert found.notices == ("has 2 pictures, only the first is explained",)
    np.testing.assert_allclose(found.image, 0.2)


def test_people_see_the_first_three_channels(tmp_path, bands):
    np.savez(tmp_path / "a.npz", image=bands, channels=BANDS)
    shown = photographs.upright(tmp_path / "a.npz", 3, channels=["swir", "nir", "red"], levels=[0, 4000])
    np.testing.assert_array_equal(shown, np.round(bands[..., [3, 0, 1]] / 4000 * 255))
    two = photographs.upright(tmp_path / "a.npz", 2, channels=[0, 1], levels=[0, 4000])
    assert (two[..., 2] == 0).all() and two.shape == (12, 16, 3)


def test_a_stack_is_explained_from_the_command_line(tmp_path, capsys):
    """A network of four channels that looks at the near infrared of one corner: the report names and shows them."""
    values = np.zeros((32, 48, 5), np.uint16)
    values[:16, 8:24, 3] = 4000  # where the upper left quarter of the network's square is
    np.savez(tmp_path / "field.npz", image=values, channels=["blue", "green", "red", "nir", "swir"])
    arguments = [
        f"image={tmp_path / 'field.npz'}", f"out={tmp_path / 'out'}", "model=custom", "channels=[nir,red,green,swir]",
        "model.network._target_=test_arrays.near_infrared", "model.image_shape=[16,16,4]", "levels=[0,4000]",
        "full=true", "preset=smallest", "budget=200",
    ]  # fmt: skip
    assert explain.main(arguments) == 0
    folder = tmp_path / "out" / "field"
    record = json.loads((folder / "explanation.json").read_text())
    assert record["channels"] == ["nir", "red", "green", "swir"] and record["complete"]
    mask = np.load(folder / "full.npz")["mask"]
    assert mask.shape == (32, 48) and mask[:16, 8:24].any()
    with Image.open(folder / "full.png") as picture:
        assert picture.size == (48, 32)
    assert "written to" in capsys.readouterr().out
