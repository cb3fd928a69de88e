"""Shards: what is read of them, and the tables that come of it, whole, once, however often the run is killed."""

import io
import tarfile

import kill_shards
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_explain_cli import SIDE, SMALL, left_is_bright

import evomask
from evomask.data import pictures, shards
from evomask.data.pictures import DataError
from experiments import explain
from experiments import shards as program
from experiments.benchmarks import runs
from experiments.shared import answers, cli

OPTIONS = [*SMALL, "budget=96", "chunk=4"]


def encoded(number: int) -> bytes:
    """A picture, as PNG."""
    file = io.BytesIO()
    Image.fromarray(kill_shards.pixels(number)).save(file, "png")
    return file.getvalue()


def tar(path, files, mode="w"):
    """An archive of (name, bytes)."""
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def run(tmp_path, *more):
    return program.main([*OPTIONS, f"shards={tmp_path}", f"out={tmp_path}/out", *more])


# ------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz")])
def test_a_tar_file_is_read_sample_by_sample(tmp_path, suffix, mode):
    files = [
        ("a/0.cls", b" 3\n"),
        ("a/0.png", b"zero"),
        ("a/0.json", b"{}"),
        ("a/._1.png", b"mac's"),
        ("a/1.JPG", b"1"),
    ]
    path = tar(tmp_path / f"s{suffix}", [*files, ("notes.txt", b"x"), ("b/1.png", b"other")], mode)
    assert [*shards.read(path)] == [("a/0", b"zero", 3), ("a/1", b"1", None), ("b/1", b"other", None)]
    assert shards.find(tmp_path) == shards.find([path, tmp_path / f"*{suffix}"]) == [path] and shards.stem(path) == "s"


@pytest.mark.parametrize("records", [True, False])
def test_a_parquet_file_is_read_row_by_row(tmp_path, records):
    images = [{"bytes": b"%d" % n, "path": f"{n}.jpg" if n else None} if records else b"%d" % n for n in range(40)]
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"label": [*range(39), None], "image": images, "other": images}), path)
    assert [*shards.read(path)] == [(str(n), b"%d" % n, n if n < 39 else None) for n in range(40)]


def test_what_is_no_shard_is_named(tmp_path):
    bad = {
        "empty.tar": (tar(tmp_path / "empty.tar", [("a.txt", b"")]), "holds no pictures"),
        "label": (tar(tmp_path / "label.tar", [("a.cls", b"cat"), ("a.png", b"")]), "label.tar: a.cls is b'cat'"),
        "columns": (tmp_path / "columns.parquet", "no column 'image', but pixels"),
        "bytes": (tmp_path / "bytes.parquet", "row 0 of .* has int where the bytes"),
        "text": (tmp_path / "text.parquet", "row 0 of .* has the label 'cat'"),
        "damaged": (tmp_path / "damaged.parquet", "cannot be read .* get it again"),
        "cut": (tmp_path / "cut.tar.gz", "cannot be read .* get it again"),
    }
    pq.write_table(pa.table({"pixels": [1]}), bad["columns"][0])
    pq.write_table(pa.table({"image": [1]}), bad["bytes"][0])
    pq.write_table(pa.table({"image": [b"1"], "label": ["cat"]}), bad["text"][0])
    bad["damaged"][0].write_bytes(b"PAR1 and no more")
    whole = tar(tmp_path / "whole.tgz", [("a.png", np.random.default_rng(0).bytes(9999))], "w:gz").read_bytes()
    bad["cut"][0].write_bytes(whole[:5000])
    for path, message in bad.values():
        with pytest.raises(DataError, match=message):
            list(shards.read(path))


def test_a_shard_is_known_by_its_size_and_its_ends(tmp_path):
    path = tmp_path / "s.tar"
    content = bytearray(3 * shards.ENDS)
    seen = set()
    for place in (None, 0, 3 * shards.ENDS - 1):
        if place is not None:
            content[place] = 1
        path.write_bytes(content)
        seen.add(shards.identity(path))
    path.write_bytes(content + b"0")
    assert len(seen | {shards.identity(path)}) == 4


# -------------------------------------------------------------------------------------------------------- tables


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two shards, explained: nine pictures with labels, of which one is damaged, and one without."""
    folder = tmp_path_factory.mktemp("made")
    samples = [
        (f"{n}.{kind}", content) for n in range(9) for kind, content in (("cls", b"%d" % (n % 2)), ("png", encoded(n)))
    ]
    samples[2 * 5 + 1] = "5.png", b"damaged"
    tar(folder / "first.tar", samples)
    tar(folder / "second.tgz", [("only.png", encoded(3))], "w:gz")
    assert run(folder) == 0
    return folder


def test_a_row_says_what_explain_says(made):
    table = pq.read_table(made / "out" / "first.parquet")
    assert table.schema.equals(program.ROWS) and table["name"].to_pylist() == [str(n) for n in range(9)]
    assert table["index"].to_pylist() == [*range(9)] and table["given"].to_pylist() == [n % 2 for n in range(9)]
    errors = table["error"].to_pylist()
    assert "5 is not an image" in errors.pop(5) and errors == [None] * 8
    assert table.column("status").null_count == table.column("mask").null_count == 1
    config = explain.build_config(compose())
    images = np.stack([kill_shards.pixels(n) for n in range(9)]).astype(np.float32) / 255
    classifier = evomask.as_classifier(left_is_bright())
    for row in [row for row in table.to_pylist() if row["error"] is None]:
        one = evomask.explain(classifier, images[row["index"]][None], key=0, config=config)[0]
        bits = np.unpackbits(np.frombuffer(row["mask"], np.uint8), count=SIDE * SIDE)
        np.testing.assert_array_equal(bits.reshape(SIDE, SIDE).astype(bool), one.mask)
        assert (row["class_index"], row["area"]) == (int(one.label), float(one.area))
        assert row["holds"] == bool(one.complete) and row["evaluations"] == int(one.evaluations)


def compose():
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return compose("shards", overrides=OPTIONS)


def test_what_stands_there_is_left_and_another_request_is_answered(made, capsys):
    path = made / "out" / "second.parquet"
    before = path.stat().st_mtime_ns
    assert run(made) == 0
    said = capsys.readouterr()
    assert "first: finished before, 9 pictures, 1 of them without explanation" in said.err
    assert said.out.splitlines()[-1].split()[:2] == ["10", "pictures,"] and path.stat().st_mtime_ns == before
    assert run(made, "chunk=2", f"shards={made}/second.tgz") == 0 and path.stat().st_mtime_ns == before
    rows = path.read_bytes()
    assert run(made, "again=true", f"shards={made}/second.tgz") == 0
    assert path.stat().st_mtime_ns > before and path.read_bytes() == rows
    assert run(made, "seed=1", f"shards={made}/second.tgz") == 0 and path.read_bytes() != rows


def test_what_reads_shards_is_part_of_the_request():
    made_by = answers.code({}, "shards")["modules"]
    assert {"evomask.data.shards", f"{cli.PROGRAMS}.shards"} <= {*made_by} > {*answers.code({})["modules"]}


def test_the_label_of_a_shard_is_explained(tmp_path):
    files = [("0.cls", b"1"), ("0.png", encoded(0)), ("1.png", encoded(1)), ("2.cls", b"7"), ("2.png", encoded(2))]
    tar(tmp_path / "s.tar", files)
    assert run(tmp_path, "target=label") == 0
    first, second, third = pq.read_table(tmp_path / "out" / "s.parquet").to_pylist()
    assert (first["class_index"], first["label"], first["predicted"]) == (1, "bright left", "dark left")
    assert first["status"] == "counterfactual" and first["necessary"] is None
    assert (
        "1 has no label in its shard" in second["error"]
        and "label 7 is out of range" in third["error"]
        and third["given"] == 7
    )


def test_a_shard_that_breaks_off_costs_no_other_and_loses_nothing(tmp_path, capsys):
    whole = tar(tmp_path / "b.tgz", [(f"{n}.png", encoded(n)) for n in range(9)], "w:gz").read_bytes()
    (tmp_path / "a.tgz").write_bytes(whole[: len(whole) * 3 // 4])
    assert run(tmp_path) == 2
    assert "a.tgz cannot be read" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").glob("*.parquet")] == ["b.parquet"]
    kept = tmp_path / "out" / program.UNFINISHED / "a" / "chunks" / "000000000-000000004.parquet"
    assert pq.read_metadata(kept).num_rows == 4


def test_what_another_process_works_at_is_left_to_it(tmp_path, capsys, monkeypatch):
    tar(tmp_path / "s.tar", [("0.png", encoded(0))])
    monkeypatch.setattr(runs, "PATIENCE", 0.01)
    with runs.locked(tmp_path / "out" / program.UNFINISHED / "s", wait=False):
        assert run(tmp_path) == 0
    assert "s: another process is at it" in capsys.readouterr().err and not (tmp_path / "out" / "s.parquet").exists()


def test_chunks_that_do_not_belong_to_the_request_are_made_anew(tmp_path):
    tar(tmp_path / "s.tar", [(f"{n}.png", encoded(n)) for n in range(5)])
    assert run(tmp_path) == 0
    table = tmp_path / "out" / "s.parquet"
    expected, chunks = table.read_bytes(), tmp_path / "out" / program.UNFINISHED / "s" / "chunks"
    rows = pq.read_table(table)
    request = rows.schema.metadata[b"request"].decode()
    for others, name in (
        (request, "000000000-000000004"),
        ("another", "000000000-000000004"),
        (request, "000000004-000000008"),
    ):
        program._write(chunks / f"{name}.parquet", [rows[:4]], others)
        (chunks / ".half-written").write_bytes(b"PAR1")
        table.unlink()
        assert run(tmp_path) == 0
        assert table.read_bytes() == expected and not list(chunks.iterdir())


def test_a_killed_run_leaves_what_an_undisturbed_one_does(tmp_path):
    kill_shards.draw(tmp_path / "shards", num=3, pictures=8)
    done = kill_shards.kill_and_resume(tmp_path / "killed", kills=2, rows=24, seed=1)
    kill_shards.finish(kill_shards.start(tmp_path / "quiet"))
    quiet, killed = (kill_shards.tables(tmp_path / name) for name in ("quiet", "killed"))
    assert quiet == killed and len(quiet) == 3 and done[0] < 24
    assert sorted(kill_shards.names(tmp_path / "killed")) == [f"{n:09}" for n in range(24)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("target=second", "target is 'second': give predicted or label"),
        ("chunk=0", "chunk is 0: give a whole number"),
        ("shards=nothing.tar", "no shards at nothing.tar"),
        ("shards=null", "no shards: say shards="),
        ("fit=stretch", "fit"),
        (f"model.image_shape=[{SIDE},{SIDE},4]", "shards hold photographs, and the network takes 4 channels"),
        ("chunks=3", "unknown key 'chunks': choose from again, budget, chunk"),
    ],
)
def test_bad_input_is_named_in_one_line(tmp_path, capsys, override, message):
    tar(tmp_path / "s.tar", [("0.png", encoded(0))])
    assert run(tmp_path, override) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not list((tmp_path / "out").glob("*.parquet"))


def test_help_names_every_key(capsys):
    assert program.main(["--help"]) == 0
    said = capsys.readouterr().out
    own = {"shards", "target", "chunk", "out", "again", "fit", "demand", "budget", "seed"}
    assert not [key for key in own if f" {key}" not in said.split("Everything")[0]]


def test_pictures_are_those_that_explain_reads(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(1))
    pixels, _ = pictures.read(tmp_path / "a.png", "a", (SIDE, SIDE, 3))
    np.testing.assert_array_equal(pixels, kill_shards.pixels(1))
