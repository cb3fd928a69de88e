"""SLURM on this machine, where it is installed: a sweep survives the loss of nodes."""

import random
import time

import kill_sweep
import pytest

from experiments.tools import cluster

SLURM = "launcher=slurm", "hydra.launcher.gpus_per_node=0", "hydra.launcher.cpus_per_task=1"
needs_slurm = pytest.mark.skipif(bool(cluster.missing()), reason="needs SLURM (slurm-wlm, munge) and root")


def test_what_is_missing_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None if name.startswith("slurm") else f"/usr/bin/{name}")
    assert cluster.main(["start", str(tmp_path)]) == 1 and not list(tmp_path.iterdir())
    said = capsys.readouterr().err
    assert said == "slurmctld, slurmd not found: apt-get install slurm-wlm munge, and run this as root\n"


def test_nothing_runs_and_nothing_is_stopped(tmp_path):
    assert cluster.main(["stop", str(tmp_path)]) == 0
    gone = tmp_path / "node1.pid"
    gone.write_text("999999999")
    assert cluster.main(["stop", str(tmp_path)]) == 0 and not gone.exists()


@needs_slurm
def test_a_sweep_whose_nodes_are_killed_gives_the_same_bytes(tmp_path, monkeypatch):
    """Each node is lost once, with what runs on it, and comes back; SLURM sends its jobs again."""
    kill_sweep.finish(kill_sweep.start(tmp_path / "here"))
    with cluster.running(tmp_path / "slurm") as conf:
        monkeypatch.setenv("SLURM_CONF", str(conf))
        sweep, killed = kill_sweep.start(tmp_path / "there", *SLURM), []
        while sweep.poll() is None:
            busy = [name for name, state in cluster.states(conf.parent).items() if state == "allocated"]
            left = [name for name in busy if name not in killed]
            if left and len(kill_sweep.chunks(tmp_path / "there")) > 2 * len(killed):
                killed.append(random.Random(len(killed)).choice(left))
                cluster.kill_node(conf.parent, killed[-1])
                cluster.start_node(conf.parent, killed[-1])
            time.sleep(0.2)
        kill_sweep.finish(sweep)
        assert sorted(killed) == sorted(cluster.NODES)
    assert kill_sweep.tables(tmp_path / "there") == kill_sweep.tables(tmp_path / "here")
    assert len(kill_sweep.tables(tmp_path / "here")) == 2 * kill_sweep.RUNS
