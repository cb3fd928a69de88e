"""The figures of a device: measured at a tiny size, kept, and never mixed with those of another device."""

import json

import oracles
import pytest

from experiments.timing import gpu

BOX = (4, 4, 6, 6)
ORACLE = oracles.BoxOracle(boxes=(BOX,), batch_size=48)
TINY = "--batches 1 4 --together 1 2 --budget 144 --images 3 --photographs 2".split()


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.evomask, "load", lambda name: ORACLE)
    monkeypatch.setattr(type(ORACLE), "image_shape", (16, 16, 1), raising=False)
    return tmp_path / "made" / "gpu.json"


def run(out, *more):
    return gpu.main([f"--out={out}", "--networks", "cifar10", *TINY, *more])


def test_everything_is_measured_once(out, capsys):
    assert run(out) == 0
    told = json.loads(out.read_bytes())
    figures = told["figures"]
    assert told["device"]["platform"] == "cpu" and told["device"]["devices"] == 8
    assert list(figures) == [
        "same bits, cifar10", *(f"forward, cifar10, {name}" for name in ("float32", "TF32", "bfloat16")), "torch",
        "explain, cifar10, together 1", "explain, cifar10, together 2", "stream, cifar10",
    ]  # fmt: skip
    assert figures["same bits, cifar10"]["same"] and figures["same bits, cifar10"]["same_masks"]
    assert figures["forward, cifar10, float32"]["logits_apart"] == 0
    assert all(pace > 0 for pace in figures["forward, cifar10, TF32"]["images_per_second"].values())
    one, two = (figures[f"explain, cifar10, together {count}"] for count in (1, 2))
    assert one["evaluations"] * 2 == two["evaluations"] and one["seconds_per_image"] > 0 < one["compile_seconds"]
    assert figures["stream, cifar10"]["images"] == 3
    before = out.read_bytes()
    assert run(out) == 0 and out.read_bytes() == before
    del told["figures"]["forward, cifar10, TF32"]
    out.write_text(json.dumps(told))
    capsys.readouterr()
    assert run(out) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("forward, cifar10, TF32: ")


def test_what_there_was_no_time_for_is_named(out, capsys):
    assert run(out, "--minutes=-1") == 0
    said = capsys.readouterr()
    assert "not measured for want of time: same bits, cifar10, forward" in said.err and "0 figures" in said.out


@pytest.mark.parametrize(
    ("content", "said"),
    [("x", "is no file of this program"), ("[]", "is no file"), ('{"device": {}, "figures": {}}', "of another device")],
)
def test_another_file_is_left_alone(out, capsys, content, said):
    out.parent.mkdir()
    out.write_text(content)
    assert run(out) == 2
    assert said in capsys.readouterr().err and out.read_text() == content
