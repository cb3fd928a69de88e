"""The command `evomask`: what it hands to which program, and what it says where it cannot."""

import pathlib
import sys
import types

import pytest
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

import evomask
from evomask import command, doctor
from experiments import labels
from experiments.benchmarks import measured, sources
from experiments.shared import cli

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def told(monkeypatch):
    """What programs were told, [(verb, argv)]; none of them runs."""
    found = []
    for verb in command.VERBS:
        program = types.SimpleNamespace(main=lambda argv, verb=verb: found.append((verb, argv)) or 0)
        monkeypatch.setitem(sys.modules, f"experiments.{verb}", program)
    return found


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_every_program_is_a_verb():
    assert {path.stem for path in (ROOT / "experiments").glob("[!_]*.py")} == {*command.VERBS} - {"doctor", "new"}


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_is_short_and_names_every_verb(argv, capsys):
    assert command.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 30 and {line.split()[0] for line in lines if line.startswith("  ")} >= {*command.VERBS}


def test_version(capsys):
    assert command.main(["--version"]) == 0 and capsys.readouterr().out == f"evomask {evomask.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "program"),
    [
        (["photo.jpg"], ("explain", ["image=photo.jpg"])),
        (["photos/*.jpg", "b c.png", "seed=1"], ("explain", ["image=photos/*.jpg", "image=b c.png", "seed=1"])),
        (["explain", "photo.jpg", "--help"], ("explain", ["image=photo.jpg", "--help"])),
        (["model=cifar10", "~fill"], ("explain", ["model=cifar10", "~fill"])),
        (["-m", "seed=1,2", "-cd", "mine"], ("explain", ["-m", "seed=1,2", "-cd", "mine"])),
        (["here", "a=b.jpg"], ("explain", ["image=here", "image=a=b.jpg"])),  # there are such files
        (["tables", "experiment=fill"], ("tables", ["experiment=fill"])),
        (["status"], ("status", [])),
        (["./train"], ("explain", ["image=./train"])),
    ],
)
def test_who_is_told_what(told, empty, argv, program):
    for name in ("here", "a=b.jpg", "train"):
        (empty / name).touch()
    assert command.main(argv) == 0 and told == [program]
    assert sys.path[-1] == str(empty)  # for modules of one's own


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("benchmrk", "error: 'benchmrk' is neither a verb nor a file: did you mean evomask benchmark?\n"),
        ("photo", f"error: 'photo' is neither a verb nor a file: choose from {', '.join(command.VERBS)}, or give a "
                  "photograph\n"),
    ],
)  # fmt: skip
def test_an_unknown_verb_gets_one_line(told, empty, word, said, capsys):
    assert command.main([word, "seed=1"]) == 2
    assert capsys.readouterr() == ("", said) and told == []


def test_what_is_not_installed_is_named(told, empty, monkeypatch, capsys):
    version = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: None if name in ("pandas", "lime") else version(name))
    assert command.main(["benchmark"]) == 2
    assert capsys.readouterr().err == "error: evomask benchmark needs pandas: pip install 'evomask[benchmark]'\n"
    assert command.main(["photo.jpg"]) == 0 and len(told) == 1  # needs no extra
    assert command.main(["doctor"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["[benchmark]"] == "pandas missing: pip install 'evomask[benchmark]'"
    assert lines["[baselines]"] == "lime missing: pip install 'evomask[baselines]'"
    assert lines["[sweeps]"] == "installed" and "[test]" not in lines


def test_the_doctor_says_what_is_here(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("EVOMASK_CACHE", str(tmp_path))
    (tmp_path / "images.npz").write_bytes(bytes(2_000_000))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}")
    ours = doctor.jax.config.jax_compilation_cache_dir
    assert dict(doctor.report())["compiled"].startswith(f"programs are kept in {ours} (")
    doctor.jax.config.update("jax_enable_compilation_cache", False)
    doctor.jax.config.update("jax_compilation_cache_dir", None)
    try:
        _the_doctor_s_lines(tmp_path, capsys)
    finally:
        doctor.jax.config.update("jax_enable_compilation_cache", True)
        doctor.jax.config.update("jax_compilation_cache_dir", ours)


def _the_doctor_s_lines(tmp_path, capsys):
    assert command.main(["doctor"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["evomask"] == f"{evomask.__version__} in {ROOT / 'evomask'}"
    assert lines["Python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert lines["JAX"] == f"{doctor.jax.__version__}, jaxlib {doctor.version('jaxlib')}"
    assert lines["devices"].startswith("8 x cpu; ")  # as conftest.py has it
    assert lines["GPU"] == "there is an NVIDIA driver, but JAX does not use it: pip install 'evomask[cuda]'"
    assert lines["cache"].startswith(f"{tmp_path} (2 MB)") and "not kept, as" in lines["compiled"]
    doctor.jax.config.update("jax_enable_compilation_cache", True)
    assert dict(doctor.report())["compiled"].startswith(f"programs are kept in {tmp_path / 'programs'} (empty)")


def test_the_doctor_takes_no_words(capsys):
    assert command.main(["doctor", "who"]) == 2
    assert capsys.readouterr().err == "error: evomask doctor takes no more words, got who\n"


@pytest.mark.parametrize("verb", ["doctor", "new"])
def test_help_of_a_verb_that_is_no_program(verb, empty, capsys):
    assert command.main([verb, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"`evomask {verb}") and not [*empty.iterdir()]


def test_labels_are_what_label_takes(capsys):
    assert labels.main(["find=RETRIEVER"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "205  flat-coated retriever" and len(said) == 5
    assert labels.main(["model=cifar10"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["0  airplane", "1  automobile"]
    assert labels.main(["model=cifar10", "decision=label", "decision.label=cat"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_labels_that_are_not_there(capsys):
    assert labels.main(["model=cifar10", "find=elephant"]) == 2
    assert capsys.readouterr().err == "error: none of the 10 names has 'elephant' in it\n"


def test_what_evomask_itself_lacks_is_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: ["nowhere>=1", 'jax[x]; extra == "cuda"'])
    assert doctor.main() == 1
    assert "packages    nowhere missing: pip install nowhere\n" in capsys.readouterr().out
    assert [*doctor.requirements("evomask", "cuda")] == ["jax"]


def test_a_launcher_that_is_not_installed_is_named():
    error = MissingConfigException("", "hydra/launcher/submitit_local", ["basic"])
    expected = "the launcher submitit_local needs hydra-submitit-launcher: pip install 'evomask[sweeps]'"
    assert cli.explain_error(error, cli.CONF / "benchmark") == expected


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "give one name, of the folder and of the package in it: evomask new my_research"),
        (["3x"], "'3x' cannot be imported: give a name of letters, digits and _, such as my_research"),
        (["numpy"], "a package that is installed is called numpy, too: give another name"),
        (["here"], "there is a here here: give another name"),
    ],
)
def test_a_folder_that_cannot_be_made_is_refused(argv, said, empty, capsys):
    (empty / "here").mkdir()
    assert command.main(["new", *argv]) == 2 and capsys.readouterr() == ("", f"error: {said}\n")
    assert [path.name for path in empty.iterdir()] == ["here"]


def test_a_metric_of_ones_own_is_a_file(tmp_path):
    (tmp_path / "most.yaml").write_text("_target_: numpy.max\nbetter: -1\nhead: the most\n")
    ((name, node),) = measured.own_metrics(tmp_path).items()
    metric = measured.from_yaml(node)
    assert (name, metric.of([1.0, 3.0]), metric.better, metric.head) == ("most", 3.0, -1, "the most")
    (tmp_path / "other.yaml").write_text("_target_: numpy.max\nbest: 1\n")
    with pytest.raises(evomask.InputError, match="other.yaml is no metric: give _target_ and better; allowed are"):
        measured.own_metrics(tmp_path)


def test_flags_and_overrides_come_in_any_order(empty):
    (empty / "conf").mkdir()  # so that there is one more override
    seen = []
    task = lambda config: seen.append(config.seed) or 0
    assert cli.launch(task, "explain", ["image=a.jpg", "-m", "seed=1,2"]) == 0 and seen == [1, 2]


OWN_FILL = "# @package preset.fill\n_target_: evomask.fills.Constant\nvalue: 0.125\n"


@pytest.mark.parametrize("folder", ["conf", "a 'b' (c)/conf"])
def test_conf_of_this_folder_is_found(folder, empty, monkeypatch, capsys):
    own = empty / folder
    (own / "fill").mkdir(parents=True)
    (own / "fill" / "eighth.yaml").write_text(OWN_FILL)
    monkeypatch.chdir(own.parent)
    seen = []
    task = lambda config: seen.append(OmegaConf.to_container(config.preset.fill)) or 0
    assert cli.launch(task, "explain", ["fill=eighth"]) == 0
    assert seen == [{"_target_": "evomask.fills.Constant", "value": 0.125}]
    assert cli.launch(task, "explain", ["fill=nineth"]) == 2
    assert "unknown fill 'nineth': choose from black, blur, drop, eighth" in capsys.readouterr().err
    monkeypatch.chdir(ROOT)
    assert cli.launch(task, "explain", ["fill=eighth"]) == 2


def test_records_know_modules_by_one_name_wherever_they_lie(tmp_path, monkeypatch):
    assert sources._in_a_clone("evomask.experiments.benchmarks.jobs") == "experiments.benchmarks.jobs"
    assert sources._in_a_clone("evomask.fills") == "evomask.fills"
    assert [*sources.targets({"_target_": "evomask.experiments.explain.main"})] == ["experiments.explain.main"]
    monkeypatch.setattr(sources, "ROOT", tmp_path)  # without pyproject.toml: whose repository is it?
    sources.commit.cache_clear()
    assert sources.commit() == {"commit": None, "dirty": None}
    sources.commit.cache_clear()
