"""Explaining many photographs is killed, and goes on where it was; `kill_explain.py` does it on a large scale."""

import platform

import kill_explain
import numpy as np

from evomask import files
from evomask.files import write_atomically


def test_a_killed_run_leaves_what_an_undisturbed_one_does(tmp_path):
    kill_explain.draw(tmp_path / "pictures", images=6)
    done = kill_explain.kill_and_resume(tmp_path / "killed", kills=1, images=6, seed=1)
    kill_explain.finish(kill_explain.start(tmp_path / "quiet"))
    assert kill_explain.written(tmp_path / "killed") == kill_explain.written(tmp_path / "quiet")
    assert len(kill_explain.records(tmp_path / "quiet")) == 6 and done[0] < 6


def test_what_a_dead_process_left_unfinished_goes_and_a_living_one_s_stays(tmp_path):
    dead = 2**22 + 1  # no process of Linux has so high a number
    gone, kept = tmp_path / f".evomask-{platform.node()}-{dead}-x", tmp_path / f".evomask-{platform.node()}-1-x"
    elsewhere = tmp_path / f".evomask-not{platform.node()}-{dead}-x"
    for folder in (gone, kept, elsewhere):
        folder.mkdir()
        (folder / "explanation.png").touch()
    (tmp_path / f".evomask-{platform.node()}-{dead}-y").touch()
    write_atomically(tmp_path / "file", lambda file: file.write(np.uint8(7).tobytes()))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kept.name, elsewhere.name, "file"])
    assert (tmp_path / "file").read_bytes() == b"\x07"


def test_what_another_process_removes_first_is_no_error(tmp_path, monkeypatch):
    left = tmp_path / f".evomask-{platform.node()}-{2**22 + 1}-x"
    left.mkdir()
    rmtree = files.shutil.rmtree

    def too_late(folder):
        rmtree(folder)
        rmtree(folder)

    monkeypatch.setattr(files.shutil, "rmtree", too_late)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
