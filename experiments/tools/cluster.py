"""SLURM on this machine: one controller and two nodes of one core each, to try `launcher=slurm` before a cluster does.

    sudo apt-get install slurm-wlm munge                                # once; the programs below run as root
    python -m experiments.tools.cluster start /tmp/slurm                # says which environment variable to set
    SLURM_CONF=/tmp/slurm/slurm.conf evomask benchmark -m launcher=slurm hydra.launcher.gpus_per_node=0 ...
    python -m experiments.tools.cluster stop /tmp/slurm

All that it writes lies in that folder. The nodes keep no accounts, so that no database is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

PROGRAMS = "munged", "slurmctld", "slurmd", "sbatch", "sinfo"
NODES = "node1", "node2"
PATIENCE = 60.0  # seconds that something may take to come up or go down
SETTINGS = """\
ClusterName=here
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=10
KillWait=2
MessageTimeout=10
InactiveLimit=0
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs that are not there, or the right to run them."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return absent if absent or os.geteuid() == 0 else ["root"]


def start(folder: pathlib.Path) -> pathlib.Path:
    """Starts controller and nodes, waits until they are idle, and returns the path that SLURM_CONF has to name.

    Raises:
      RuntimeError: a program is missing or does not come up.
    """
    if lacking := missing():
        raise RuntimeError(f"{', '.join(lacking)} not found: apt-get install slurm-wlm munge, and run this as root")
    folder = folder.resolve()
    for name in ("state", *NODES):
        (folder / name).mkdir(parents=True, exist_ok=True)
    host, (controller, *ports) = socket.gethostname(), _free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=1024 State=UNKNOWN"
        for name, port in zip(NODES, ports, strict=True)
    )
    conf = folder / "slurm.conf"
    conf.write_text(SETTINGS.format(host=host, folder=folder, controller=controller, nodes=nodes))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    munge = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={folder}/munge.{ending}" for option, ending in munge.items()]
    _run(["munged", "--force", f"--key-file={key}", *options], conf)
    _run(["slurmctld", "-c"], conf)
    for name in NODES:
        start_node(folder, name)
    _wait_for(lambda: states(folder) == dict.fromkeys(NODES, "idle"), f"the nodes, see {folder}/*.log")
    return conf


def stop(folder: pathlib.Path) -> None:
    """Ends all that `start` started."""
    for pid in folder.resolve().glob("*.pid"):
        _kill(pid)


def start_node(folder: pathlib.Path, name: str) -> None:
    """Starts a node, or starts it again."""
    _run(["slurmd", "-N", name], folder / "slurm.conf")


def kill_node(folder: pathlib.Path, name: str) -> None:
    """What a power cut does to a node: its daemon and whatever runs on it are gone at once, and nobody is told."""
    _kill(folder / f"{name}.pid")
    jobs = [number for number in _processes() if f"SLURMD_NODENAME={name}".encode() in _told(number, "environ")]
    keepers = {_parent(number) for number in jobs} - {*jobs}  # they would report that a job was killed
    for number in (*keepers, *jobs):
        if number > 1 and (number in jobs or _told(number, "comm") == [b"slurmstepd\n"]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(each.name) for each in pathlib.Path("/proc").glob("[0-9]*")]


def _told(number: int, what: str) -> list[bytes]:
    """What the system tells of a process, in its parts; nothing of one that is gone."""
    try:
        return pathlib.Path(f"/proc/{number}/{what}").read_bytes().split(b"\0")
    except OSError:
        return []


def _parent(number: int) -> int:
    said = b"".join(_told(number, "stat"))
    return int(said.rpartition(b")")[2].split()[1]) if said else 0


def states(folder: pathlib.Path) -> dict[str, str]:
    """What the controller thinks of each node: idle, allocated, down ..."""
    said = _run(["sinfo", "--noheader", "--Node", "--format=%N %T"], folder / "slurm.conf", check=False).stdout
    return {name: state.rstrip("*") for name, state in (line.split() for line in said.splitlines())}


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A cluster for as long as it is needed."""
    try:
        yield start(folder)
    finally:
        stop(folder)


def _run(command: list[str], conf: pathlib.Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=PATIENCE, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def _kill(pid: pathlib.Path) -> None:
    """Kills the process whose number the file holds, if there is one, and waits until it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        number = int(pid.read_text())
        os.kill(number, signal.SIGKILL)
        _wait_for(lambda: _is_gone(number), f"the end of process {number}")
    pid.unlink(missing_ok=True)


def _is_gone(number: int) -> bool:
    said = b"".join(_told(number, "stat"))
    return not said or said.rpartition(b")")[2].split()[0] == b"Z"


def _wait_for(is_so, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"{PATIENCE:.0f} seconds were not enough for {what}")
        time.sleep(0.1)


def _free_ports(num: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.tools.cluster", description=__doc__.split("\n")[0])
    parser.add_argument("do", choices=["start", "stop"])
    parser.add_argument("folder", type=pathlib.Path)
    given = parser.parse_args(arguments)
    try:
        if given.do == "start":
            print(f"export SLURM_CONF={start(given.folder)}")
        else:
            stop(given.folder)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
