"""The command line: what it writes, what it says, and the one line that each bad input gets."""

import copy
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import hydra
import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console
from synthetic import explanation

import evomask
from evomask.files import write_atomically
from evomask.report import records, sheets
from evomask.search import genome
from evomask.types import Status
from experiments import explain
from experiments.explain import main
from experiments.shared import cli
from experiments.shared.answers import Answer

ROOT = Path(__file__).parent.parent
SIDE = 16
SMALL = [
    "model=custom",
    "model.network._target_=test_explain_cli.left_is_bright",
    f"model.image_shape=[{SIDE},{SIDE},3]",
    "model.labels=['dark left','bright left']",
    "preset=smallest",
    "screening=none",  # few stages and operators, all simple, compile fast
    "crossover=one_point",
    "mutation=replace",
    "budget=384",
    "~preset.stages.middle",
    "preset.stages.gross.genes=4",
    "preset.stages.fine.genes=8",
    "preset.stages.gross.radii=[3,4]",
    "preset.stages.fine.radii=[2,3]",
]
SMALLEST = [*(argument for argument in SMALL if ".fine." not in argument), "~preset.stages.fine"]


def left_is_bright():
    """Class 1 where the left half of the image is bright: (function, params), the same function every time."""
    return _left_is_bright, np.array([[-30.0, 30.0]], np.float32)


def gives_nan():
    return _left_is_bright, np.array([[np.nan, 30.0]], np.float32)


def _left_is_bright(weights, images):
    return (images[:, :, : SIDE // 2].mean((1, 2, 3)) - 0.5)[:, None] * weights


def gives_one_number():
    return lambda images: images.mean()


@pytest.fixture
def photo(tmp_path):
    """White on the left, black on the right: kept class 1, and only the left can be why."""
    path = tmp_path / "half (1).png"
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, : SIDE // 2] = 255
    Image.fromarray(pixels).save(path)
    return path


def _arrays(folder):
    with np.load(folder / "explanation.npz") as file:
        return dict(file)


def test_the_default_says_how_often_its_mask_holds(tmp_path, photo, capsys):
    options = ["preset=evomask" if option == "preset=smallest" else option for option in SMALL]
    assert main([*options, f"image={photo}", f"out={tmp_path}/out", "budget=900"]) == 0
    record = json.loads((tmp_path / "out" / "half (1)" / "explanation.json").read_text())
    precision = record["precision"]
    assert precision["draws"] == 200 and precision["complete"]["count"] <= 200 and list(precision["apart"]) == [
        "shift", "brightness", "noise",
    ]  # fmt: skip
    assert precision["holds"] and record["complete"] and record["evaluations"] <= 900
    said = " ".join(capsys.readouterr().out.split())
    assert f"holds at 0.9: it is sufficient and necessary in {precision['complete']['count']} of 200 showings" in said


def test_explains_a_photograph_and_writes_three_files(tmp_path, photo, capsys):
    assert main([*SMALL, f"image={photo}", f"out={tmp_path}/out", "seed=3"]) == 0
    folder = tmp_path / "out" / "half (1)"
    assert sorted(path.name for path in folder.iterdir()) == ["explanation.json", "explanation.npz", "explanation.png"]

    record = json.loads((folder / "explanation.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (
        list(record)
        == (
            "class_index label contrast predicted predicted_confidence confidence masked_confidence "
            "inverse_confidence blank_confidence area cp cp_floored sufficient necessary complete demand status "
            "reasons missing_nats missing_probability complete_under evaluations precision "
            "line certificate remarks seed config request files versions device"
        ).split()
    )
    assert (record["class_index"], record["label"], record["seed"]) == (1, "bright left", 3)
    assert record["complete"] and record["status"] == "complete"
    assert record["precision"] is None, "it was found in one exact showing"
    assert record["contrast"] is None and record["reasons"] == [] and "black" in record["complete_under"]
    assert record["missing_nats"] == {"keeps_class": 0, "keeps_confidence": 0, "loses_class": 0}
    assert record["evaluations"] == 384 and len(record["remarks"]) == 1
    assert record["files"] == ["explanation.png", "explanation.npz", "explanation.json"]
    assert record["config"]["preset"]["budget"] == 384 and record["config"]["image"] == str(photo)
    assert record["versions"]["evomask"] == "0.1.0" and record["device"] == "cpu"
    assert record["cp"] == pytest.approx(record["masked_confidence"] / record["area"], rel=1e-6)

    arrays = _arrays(folder)
    genes = len(arrays["genome"])
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "image": ("float32", (SIDE, SIDE, 3)),
        "blank": ("float32", (SIDE, SIDE, 3)),
        "mask": ("bool", (SIDE, SIDE)),
        "stage_masks": ("bool", (2, SIDE, SIDE)),
        "score": ("float32", (SIDE, SIDE)),
        "genome": ("int32", (genes, 3)),
    }
    np.testing.assert_array_equal(arrays["image"][:, :8], 1.0)
    np.testing.assert_array_equal(arrays["mask"], arrays["stage_masks"][-1])
    assert arrays["mask"].mean() == pytest.approx(record["area"])
    drawn = np.asarray(genome.rasterize(arrays["genome"], (SIDE, SIDE))) & arrays["stage_masks"][0]
    np.testing.assert_array_equal(drawn, arrays["mask"])
    assert 0 <= arrays["score"].min() and arrays["score"].max() <= 1
    with Image.open(folder / "explanation.png") as picture:
        assert min(picture.size) > 500

    shown = capsys.readouterr()
    assert "half (1)" in shown.out and "bright left" in shown.out and "complete" in shown.out
    assert "Traceback" not in shown.err and "384/384" in shown.err


def test_contrast_pruning_and_several_fills_from_the_command_line(tmp_path, photo, capsys):
    two = ",".join(f"{{_target_:evomask.fills.Constant,value:{value}}}" for value in (0.0, 0.2))
    arguments = [
        *SMALLEST,
        f"image={photo}",
        "contrast=dark",
        "prune=4000",
        "fill=several",
        f"preset.fill._args_=[[{two}]]",
    ]
    assert main([*arguments, f"out={tmp_path}/out"]) == 0
    record = json.loads((tmp_path / "out/half (1)/explanation.json").read_text())
    assert (record["label"], record["contrast"], record["status"]) == ("bright left", "dark left", "complete")
    assert (
        record["complete_under"][0] == "black" and "white" not in record["complete_under"]
    )  # white adds to the evidence
    certificate = record["certificate"]
    assert (
        certificate["minimal"] and 0 < certificate["evaluations"] <= 4000 and certificate["evaluations"] % 4 == 0
    )  # two fills
    assert record["evaluations"] <= 384  # those of the search alone
    patches = certificate["patches"]
    assert all(patch["dropped"] and patch["shrunk"] for patch in patches)
    arrays = _arrays(tmp_path / "out/half (1)")
    assert [[p["row"], p["col"], p["radius"]] for p in patches] == [g for g in arrays["genome"].tolist() if g[2] >= 0]
    shown = capsys.readouterr().out
    assert "half (1): 1-minimal: each of " in shown and "half (1): complete under black" in shown


def test_a_mask_that_is_not_complete_says_so_everywhere(tmp_path, photo, capsys):
    """With a white fill the left stays white, whatever is kept and whatever is blanked."""
    arguments = [*SMALL, f"image={photo}", "fill=white", "certify=true", f"out={tmp_path}/out"]
    assert main(arguments) == 0
    record = json.loads((tmp_path / "out/half (1)/explanation.json").read_text())
    shown = capsys.readouterr().out
    assert not record["complete"] and record["reasons"] and record["status"] == "not_necessary"
    assert sum(record["missing_nats"].values()) > 0 and sum(record["missing_probability"].values()) > 0
    for reason in record["reasons"]:
        assert f"half (1): {reason}" in shown
    assert record["certificate"] == {
        "minimal": False,
        "evaluations": 0,
        "steps": 0,
        "patches": record["certificate"]["patches"],
    }
    assert all(patch["dropped"] is None for patch in record["certificate"]["patches"])
    assert "no certificate: the mask is not complete" in shown


def test_front_film_several_masks_and_seeds_from_the_command_line(tmp_path, photo, capsys):
    arguments = [
        *SMALLEST,
        f"image={photo}",
        "front=20",
        "film=true",
        "full=true",
        "fit=pad",
        "effect=true",
        "several=2",
        "disjoint=true",
        "seeds=2",
        f"out={tmp_path}/out",
    ]
    assert main(arguments) == 0
    folder = tmp_path / "out" / "half (1)"
    names = ("explanation", "front", "film", "effect", "several", "stability", "full")
    files = {f"{name}.{kind}" for name in names for kind in ("json", "npz", "png")} | {"film.gif"}
    assert {path.name for path in folder.iterdir()} == files
    read = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
    arrays = {name: dict(np.load(folder / f"{name}.npz")) for name in names}

    front, masks = read["front"], arrays["front"]["masks"]
    assert (
        front["area"] == sorted(front["area"]) and front["confidence"] == sorted(front["confidence"]) and len(masks) > 0
    )
    np.testing.assert_allclose(masks.mean((1, 2)), front["area"], rtol=1e-6)
    for inverse, necessary in zip(front["inverse_confidence"], front["necessary"], strict=True):
        assert (necessary is None) == (inverse is None)  # the inverse of this mask was not evaluated
    assert front["confidence"][-1] >= read["explanation"]["masked_confidence"] - 1e-5
    several, masks = read["several"], arrays["several"]["masks"]
    assert several["demanded"] == ["complete", "sufficient"] and not (masks[0] & masks[1]).any()
    assert several["shared"] == [0, 0] and several["iou"][0] == [1, 0]
    assert set(read["explanation"]["files"]) == files
    assert len(arrays["film"]["masks"]) == len(read["film"]["area"])
    effect, error = arrays["effect"]["effect"], arrays["effect"]["effect_error"]
    assert read["effect"] == {
        "for": pytest.approx((effect > 2 * error).mean()),
        "against": pytest.approx((effect < -2 * error).mean()),
    }
    assert read["effect"]["for"] > 0
    with Image.open(photo) as original, Image.open(folder / "full.png") as shown:
        assert original.size == shown.size == tuple(read["full"]["size"]) == arrays["full"]["mask"].shape[::-1]
    assert read["full"]["fit"] == "pad" and read["full"]["seen"] == 1
    assert 0 < read["full"]["area"] == arrays["full"]["mask"].mean()
    stable = read["stability"]
    assert stable["seeds"] == 2 and stable["area"]["mean"] == pytest.approx(arrays["stability"]["area"].mean())
    for name in names[:-1]:
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 300
    shown = capsys.readouterr().out
    assert "half (1): front of " in shown and "half (1): 2 seeds, " in shown and "of 2 masks complete" in shown


def test_one_bad_image_does_not_stop_the_others(tmp_path, photo, capsys):
    bad = tmp_path / "broken.jpg"
    bad.write_text("no picture")
    copy = tmp_path / "other" / photo.name
    copy.parent.mkdir()
    copy.write_bytes(photo.read_bytes())
    assert main([*SMALL, f"image={tmp_path}/**/*.*", f"out={tmp_path}/out", "label=0"]) == 2
    assert capsys.readouterr().err.count("error: ") == 1
    first, second = (
        json.loads((tmp_path / f"out/{name}/explanation.json").read_text()) for name in ("half (1)", "half (1)_2")
    )
    assert first["class_index"] == second["class_index"] == 0
    assert not (tmp_path / "out" / "broken").exists()


def test_same_seed_same_bits_alone_or_together(tmp_path, photo):
    copy = tmp_path / "copy.png"
    with Image.open(photo) as picture:
        picture.resize((20, 20)).save(copy)
    assert main([*SMALL, f"image={photo}", f"out={tmp_path}/alone"]) == 0
    assert main([*SMALL, f"image={copy}", f"image={photo}", f"out={tmp_path}/both"]) == 0
    a, b = (_arrays(tmp_path / run / "half (1)") for run in ("alone", "both"))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


BAD = {
    "missing image": (["image=gone.jpg"], "no such file: gone.jpg; check the path"),
    "folder without images": (["image=."], ". is a folder without images"),
    "pattern without matches": (["image=*.nothing"], "nothing matches the pattern *.nothing"),
    "label above": (["label=2"], "label 2 is out of range: give an index from 0 to 1, or a name"),
    "label below": (["label=-1"], "label -1 is out of range: give an index from 0 to 1, or a name"),
    "label unknown": (["label=brigt left"], "no class is called 'brigt left'; near: 1 bright left"),
    "contrast unknown": (["contrast=dork left"], "no class is called 'dork left'; near: 0 dark left"),
    "contrast with itself": (["label=1", "contrast=bright"], "label and contrast are both 'bright left': give another"),
    "label and few names": (
        ["label=elephant"],
        "no class is called 'elephant'; choose from 0 dark left, 1 bright left",
    ),
    "prune nothing": (["prune=0"], "prune is 0: give a whole number of 1 or more"),
    "certify how": (["certify=perhaps"], "certify is 'perhaps': give true or false"),
    "disjoint how": (["disjoint=2"], "disjoint is 2: give true or false"),
    "film how": (["film=5"], "film is 5: give true or false"),
    "full how": (["full=5"], "full is 5: give true or false"),
    "fit how": (["fit=stretch"], "fit is 'stretch': give crop (its middle), squeeze (all of it) or pad"),
    "effect how": (["effect=5"], "effect is 5: give true or false"),
    "no bins": (["front=0"], "front is 0: give a whole number of 1 or more"),
    "one of several": (["several=1"], "several is 1: give a whole number of 2 or more"),
    "one seed": (["seeds=1"], "seeds is 1: give a whole number of 2 or more"),
    "demand unknown": (["demand=small"], "demand is 'small': give one of complete, sufficient, necessary"),
    "label ambiguous": (["label=left"], "fits several classes: choose from 0 dark left, 1 bright left"),
    "population zero": (["preset.stages.gross.population=0"], "'gross': population is 0"),
    "population negative": (["preset.stages.fine.population=-4"], "'fine': population is -4"),
    "no patches": (["preset.stages.gross.genes=0"], "'gross': genes is 0"),
    "generations negative": (
        ["budget=null", "preset.budget=null", "preset.stages.fine.generations=-1"],
        "'fine': generations is -1",
    ),
    "radius negative": (["preset.stages.gross.radii=[-3]"], "radius -3 does not fit"),
    "radius too large": (["preset.stages.gross.radii=[40]"], "radius 40 does not fit an image of 16 x 16"),
    "budget too small": (["budget=5"], "budget 5 is less than one generation"),
    "budget negative": (["budget=-5"], "budget is -5: give a whole number of 1 or more"),
    "seed negative": (["seed=-1"], "seed is -1: give an integer from 0"),
    "seed text": (["seed=x"], "seed is 'x': give an integer from 0"),
    "classifier gives NaN": (["model.network._target_=test_explain_cli.gives_nan"], "NaN"),
    "classifier of wrong shape": (
        ["model.network._target_=test_explain_cli.gives_one_number"],
        "it must return logits",
    ),
    "classifier fails": (
        ["model.image_shape=[16,16,1]", "model.normalize=[[0,0,0],[1,1,1]]"],
        "normalize has 3 channels",
    ),
    "classifier without size": (["model.image_shape=null"], "give model.image_shape=[height,width,channels]"),
    "classifier missing": (["model.network._target_=no.such.thing"], "no.such.thing"),
    "output under a file": (["out=/dev/null/out"], "cannot write in /dev/null/out"),
}

# What is no value, but a line that cannot be composed.
BAD_LINES = {
    "unknown preset": (["preset=nonsense"], "unknown preset 'nonsense': choose from dissertation, evomask, smallest"),
    "unknown model": (
        ["model=nonsense"],
        "unknown model 'nonsense': choose from blackbox, cifar10, cifar10_erased, cifar10_vit, custom, "
        "efficientnet_lite0, efficientnet_lite1, imagenette, trained",
    ),
    "unknown fill": (
        ["fill=nonsense"],
        "unknown fill 'nonsense': choose from black, blur, drop, grey, mean, noise, several, white",
    ),
    "unknown key": (
        ["imgae=a.jpg"],
        "unknown key 'imgae': choose from again, budget, certify, channels, contrast, crossover, decision, demand, "
        "disjoint, effect, fill, film, fit, fitness, front, full, image",
    ),
    "unknown nested key": (
        ["preset.budgt=3"],
        "unknown key 'preset.budgt': choose from preset.batch_size, preset.budget, ",
    ),
    "dashes": (["--image=a.jpg"], "no flag is called --image: write image=..., without dashes"),
    "no key at all": (["a.jpg"], "cannot read a.jpg: did you mean image=a.jpg?"),
    "no key and a blank": (["photos/a (1).jpg"], "did you mean image='photos/a (1).jpg'?"),
    "blanks around the =": (["label", "=", "1"], "cannot read label: write label=value, without blanks"),
}


@pytest.fixture(scope="module")
def composed():
    """The configuration of `SMALL`, as the command line would compose it (which takes longer than what is tested)."""
    with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return hydra.compose("explain", cli.quote(SMALL))


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, in which we are."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "empty"


def check_one_line(message, captured):
    error = [line for line in captured.err.splitlines() if line]
    assert len([line for line in error if line.startswith("error: ")]) == 1 and error[-1].startswith("error: ")
    assert message in error[-1]
    assert "Traceback" not in captured.err and not captured.out


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_gets_one_line(photo, empty, composed, capsys, case):
    overrides, message = BAD[case]
    config = copy.deepcopy(composed)
    for override in [f"image={photo}", "out=results", *overrides]:
        key, _, value = override.partition("=")
        OmegaConf.update(config, key, value if key in cli.LITERAL else yaml.safe_load(value))
    assert cli.guard(lambda: explain.explain_photographs(config), cli.CONF / "explain") == 2
    check_one_line(message, capsys.readouterr())


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_gets_one_line(photo, empty, capsys, case):
    overrides, message = BAD_LINES[case]
    assert main(["model=cifar10", f"image={photo}", "out=results", *overrides]) == 2
    check_one_line(message, capsys.readouterr())
    assert not list(empty.iterdir())  # Hydra leaves nothing behind, and the folder was not yet needed


def test_in_a_process_of_its_own(tmp_path):
    """As a user runs it: exit code, and the line on stderr."""
    command = [sys.executable, "-m", "experiments.explain", "preset=nonsense"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    bad = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "error: unknown preset 'nonsense': choose from dissertation, evomask, smallest\n"
    assert list(tmp_path.iterdir()) == []


def test_help(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr()
    assert "evomask explain image=my.jpg" in shown.out and shown.err == ""


def test_a_reader_who_leaves_is_no_error(monkeypatch, capfd):
    """`python -m experiments.explain --help | head -1`, where head has left."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["--help"]) == cli.READER_GONE
        print("more", flush=True)  # goes nowhere, in silence, as what the interpreter flushes when it ends
    assert capfd.readouterr().err == ""


def test_full_error_lets_the_exception_through(monkeypatch):
    monkeypatch.setattr(cli, "FULL_ERROR", True)
    with pytest.raises(evomask.InputError, match="seed is -1"):
        main(["seed=-1"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["image=a (1), b.jpg"], ["image=['a (1)','b.jpg']"]),
        (["image=it's.jpg"], [r"image='it\'s.jpg'"]),
        (["image=[a.jpg, b c.jpg]", "image=d.jpg"], ["image=['a.jpg','b c.jpg','d.jpg']"]),
        (["label=crane (bird)", "seed=1", "image=null"], ["label='crane (bird)'", "seed=1", "image=null"]),
        (['image="a b.png"'], ["image='a b.png'"]),  # quotes as the message recommends them
        (["image=['a, b.jpg']"], ["image='a, b.jpg'"]),
        (["image=['a, b.jpg', \"it's.jpg\", c d.jpg]"], [r"image=['a, b.jpg','it\'s.jpg','c d.jpg']"]),
        (["image=[it's.jpg, b's.jpg]"], [r"image=['it\'s.jpg','b\'s.jpg']"]),
        (['label="crane, bird"'], ["label='crane, bird'"]),
        (["label='tis"], [r"label='\'tis'"]),
        (["image=a${b}.jpg", "out=runs/${seed}"], [r"image='a\${b}.jpg'", "out='runs/${seed}'"]),
    ],
)
def test_quote(given, expected):
    assert cli.quote(given) == expected


@pytest.mark.parametrize(
    "name",
    [
        "it's [1], {a}=b.jpg",
        "back\\slash.jpg",
        "ends'with\\'.jpg",
        "100%.jpg",
        "${a}.jpg",
        r"\${a}.jpg",
        '"a b".jpg',
        "~x",
    ],
)
def test_any_file_name_survives_hydra(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_text("no picture")
    assert main([*SMALL, f"image={path}", f"out={tmp_path}/out"]) == 2
    assert f"error: {path} is not an image in a known format" in capsys.readouterr().err


def test_a_path_that_exists_is_one_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a, [b]").mkdir()
    for key in cli.PATHS:
        assert cli.quote([f"{key}=~/a, [b]", f"{key}=a,b"]) == [f"{key}='~/a, [b]'", f"{key}=a,b"]


def test_a_pattern_with_a_comma_is_one_pattern(tmp_path):
    (tmp_path / "a, b.jpg").write_text("no picture")
    assert cli.quote([f"image={tmp_path}/a, *.jpg"]) == [f"image='{tmp_path}/a, *.jpg'"]


NAMES = [b"m\xe9", b"[bold] half", b"$x^2", b"-o", b"...", b"a ${b}"]


def test_any_file_name_comes_through_folders_records_pictures_and_terminals(tmp_path, photo, monkeypatch):
    """No UTF-8, markup, half a formula, a flag, a folder above, an interpolation; and the terminal knows ASCII only."""
    folder, content = tmp_path / "pictures", photo.read_bytes()
    folder.mkdir()
    for name in NAMES:
        (folder / os.fsdecode(name + b".png")).write_bytes(content)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    paths = sorted(str(path) for path in folder.iterdir())
    assert main([*SMALL, *(f"image={path}" for path in paths), f"out={tmp_path}/deep/out"]) == 0
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]
    done = {path.parent.name: path for path in (tmp_path / "deep/out").glob("*/explanation.json")}
    assert sorted(done) == ["$x^2", "-o", "[bold] half", "___", "a ${b}", "m%E9"]
    assert json.loads(done["-o"].read_bytes())["config"]["image"] == paths  # as the system knows them
    assert all((path.parent / "explanation.png").stat().st_size > 10_000 for path in done.values())
    assert (tmp_path / "deep/out/contact.png").stat().st_size > 10_000
    out.seek(0), err.seek(0)
    shown = out.read()
    assert all(f"{name}: complete under" in shown for name in done) and "[bold] half: evolving" in err.read()
    assert out.errors == "strict"


def test_terminals_show_the_like_of_what_they_cannot_encode():
    text = "“café” ± 1 … \udce9"
    assert text.encode("ascii", "evomask.plain") == b'"caf\\xe9" +/- 1 ... \\udce9'
    assert text.encode("latin-1", "evomask.plain") == b'"caf\xe9" \xb1 1 ... \\udce9'
    assert text.encode("utf-8", "evomask.plain").decode() == "“café” ± 1 … \\udce9"


def found(status, area=0.1, **fields):
    one = dataclasses.replace(explanation(SIDE, status), area=np.float32(area), names=("dog", "cat"), **fields)
    return explain.Found(one, None, explain.further.Found(None, None, False, False))


def answer(one):
    name = f"[{Status(int(one.explanation.status)).name.lower()}]"
    return Answer(name, sheets.numbers(one.explanation), explain.remarks(one))


def shown(answers):
    console = Console(file=io.StringIO(), width=120)
    console.print(explain.overview(answers))
    return console.file.getvalue()


def test_a_folder_counts_images_of_the_blank_class_apart():
    kinds = (Status.COMPLETE, 0.2), (Status.NEITHER, 0.9), (Status.BLANK_CLASS, 0.001)
    text = shown([answer(found(*kind)) for kind in kinds])
    assert "1 of 2 complete, 20.0% of the pixels on average; 1 blank class, counted apart" in text
    assert "[neither]" in text and "predicted" not in text


def test_a_counterfactual_shows_what_is_predicted():
    seen = {"predicted": np.int32(0), "predicted_confidence": np.float32(0.62), "inverse_label": np.int32(0)}
    wins = found(Status.COUNTERFACTUAL, sufficient=np.True_, necessary=np.False_, complete=np.False_, **seen)
    loses = found(Status.COUNTERFACTUAL, sufficient=np.False_, necessary=np.False_, complete=np.False_, **seen)
    text = shown([answer(one) for one in (found(Status.COMPLETE), wins, loses)])
    assert "dog 0.62" in text and "cat 0.80" in text
    assert "1 of 1 complete, 10.0% of the pixels on average; 1 of 2 counterfactual masks makes its class win" in text
    assert explain.remarks(wins) == ["the image is predicted as “dog”, so necessity is not applicable"]


def test_a_counterfactual_from_the_command_line(tmp_path, photo, capsys):
    """Class 0, dark left, of a picture that is bright there: blanking what is bright makes it win."""
    assert main([*SMALL, f"image={photo}", "label=dark", f"out={tmp_path}/out"]) == 0
    record = json.loads((tmp_path / "out/half (1)/explanation.json").read_text())
    assert (record["status"], record["label"], record["predicted"]) == ("counterfactual", "dark left", "bright left")
    assert record["predicted_confidence"] == pytest.approx(1) and record["confidence"] == pytest.approx(0, abs=1e-6)
    assert record["sufficient"] and record["necessary"] is None and not record["complete"]
    shown = capsys.readouterr().out
    assert "predicted" in shown and "counterfact" in shown and "complete under" not in shown
    assert "the image is predicted as “bright left”, so necessity is not applicable" in shown


def test_what_is_not_finite_becomes_null(tmp_path):
    found = explanation(SIDE)
    found = dataclasses.replace(found, cp=np.float32(np.inf), inverse_confidence=np.float32(np.nan), names=("", "café"))
    records.save(tmp_path / "new", found, run={"image": None})
    text = (tmp_path / "new" / "explanation.json").read_text(encoding="utf-8")
    record = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert record["cp"] is None and record["inverse_confidence"] is None and "café" in text
    assert record["image"] is None and record["cp_floored"] == pytest.approx(7.2)


def test_a_report_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    """Remains of an earlier run are never mixed in, and what is not ours is left alone."""
    for name in ("several.json", "front.png", "stability.npz", "notes.txt"):
        (tmp_path / name).write_text("of an earlier run")
    ours = ["explanation.json", "explanation.npz", "explanation.png"]
    content = lambda: {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    records.save(tmp_path, explanation(SIDE))
    before = content()
    assert sorted(before) == [*ours, "notes.txt"]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    other = dataclasses.replace(explanation(SIDE), names=("dog", "cat"))
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(np, "savez_compressed", full)
        records.save(tmp_path, other)
    assert content() == before
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # while files are put in place
        patched.setattr(records.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        records.save(tmp_path, other)
    assert "explanation.json" not in content()  # whose presence says that the rest is whole
    records.save(tmp_path, other)
    assert json.loads(content()["explanation.json"])["label"] == "cat" and sorted(content()) == [*ours, "notes.txt"]


def test_a_failed_write_leaves_the_older_file_alone(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, lambda file: file.write(b"old"))

    def fails(file):
        file.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_sweep_runs_every_job_and_keeps_its_folders_together(tmp_path, photo, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = "out=results/${seed}"
    assert (
        main([*SMALL, f"image={photo}", out, "seed=-1,1,2", "--multirun"]) == 2
    )  # the first is refused, the others run
    assert "error: seed is -1" in capsys.readouterr().err
    seeds = [json.loads((tmp_path / f"results/{n}/half (1)/explanation.json").read_text())["seed"] for n in (1, 2)]
    assert seeds == [1, 2]


def test_a_small_network_is_shown_cifar10_pictures_by_default(tmp_path, monkeypatch, capsys):
    """The shipped network and pictures; each file name ends in the true class."""
    seen = {}

    def search(classifier, photo, asked, settings):  # what it would find takes long, and is tested elsewhere
        seen[photo.name] = photo.image.shape, asked.label
        one = found(Status.COMPLETE)
        predicted = np.argmax(classifier(photo.image[None])[0])
        named = dataclasses.replace(one.explanation, label=predicted, names=tuple(map(str, range(10))))
        return one._replace(explanation=named)

    monkeypatch.setattr(explain, "search", search)
    monkeypatch.setattr(explain, "drawn", lambda found, *_: [found])
    written = {}
    monkeypatch.setattr(records, "write", lambda folder, parts: written.update({folder.name: parts[0].explanation}))
    monkeypatch.setattr(records, "write_contact", lambda folder, names: sorted(names))
    assert main(["model=cifar10", f"out={tmp_path}"]) == 0
    assert len(seen) == 10 and set(seen.values()) == {((32, 32, 3), None)}
    assert all(one.label == int(name.rpartition("_")[2]) for name, one in written.items()) and len(written) == 10
    assert "10 of 10 complete" in capsys.readouterr().out


def test_a_killed_run_of_many_images_goes_on_where_it_was(tmp_path, photo, monkeypatch, capsys):
    """And ends with the files that it would have had; what is asked otherwise, or lacks a file, is searched anew."""
    pictures, asked = [tmp_path / f"{name}.png" for name in "abc"], []
    for number, path in enumerate(pictures):
        Image.fromarray(np.full((SIDE, SIDE, 3), 50 * number, np.uint8)).save(path)

    def search(classifier, photo, settings_of_question, settings, dies_at=None):
        asked.append(photo.name)
        if photo.name == dies_at:
            raise KeyboardInterrupt
        return found(Status.COMPLETE, image=photo.image)

    def run(out, *more, dies_at=None):
        asked.clear()
        monkeypatch.setattr(explain, "search", lambda *given: search(*given, dies_at=dies_at))
        code = main([*SMALL, f"image=[{','.join(map(str, pictures))}]", f"out={tmp_path / out}", *more])
        return code, "".join(asked)

    files = lambda out: {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.*")}
    assert run("whole") == (0, "abc")
    whole = files(tmp_path / "whole")
    assert run("killed", dies_at="b") == (130, "ab")
    capsys.readouterr()
    assert run("killed") == (0, "bc")
    shown = capsys.readouterr()
    assert "a: answered before; again=true searches anew" in shown.err and "3 of 3 complete" in shown.out
    assert shown.out.count("complete under") == 3
    again = files(tmp_path / "killed")
    assert again.keys() == whole.keys() and len(whole) == 10 and "contact.png" in whole
    for name in whole:
        told = lambda content: content.replace(b"/killed", b"/whole")
        assert told(again[name]) == whole[name]
    assert run("killed") == (0, "")
    (tmp_path / "killed" / "c" / "explanation.png").unlink()
    assert run("killed") == (0, "c")
    assert run("killed", "again=true") == run("killed", "seed=1") == (0, "abc")
    (tmp_path / "killed" / "b" / "explanation.json").write_text("{}")
    pictures[2].write_bytes(pictures[0].read_bytes())  # another picture of the same name
    assert run("killed", "seed=1") == (0, "bc")


def test_effects_need_a_rule_that_says_something_of_them(tmp_path, photo, capsys):
    arguments = [*SMALLEST, f"image={photo}", "effect=true", "scoring=champions", f"out={tmp_path}/out"]
    assert main(arguments) == 2
    assert "scoring BestOfGeneration says nothing of effects: give scoring=good_masks" in capsys.readouterr().err
    assert not (tmp_path / "out" / "half (1)").exists()
