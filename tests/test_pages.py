"""The commands that README, docs, notebooks and experiments print: each is composed, those of the README are run.

`python -m experiments.tools.run_pages` runs them all.
"""

import importlib.util
import pathlib
import re
import sys
import tomllib

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from evomask import command
from experiments.shared import cli
from experiments.tools import run_pages
from experiments.tools.pages import PAGES, ROOT, printed, verb_of, words

BINARIES = pathlib.Path(sys.executable).parent
EXPERIMENTS = sorted((cli.CONF / "experiment").glob("*.yaml"))
OWN = ROOT / "evomask" / "template" / "conf"  # where a page speaks of parts of one's own, these stand for them


def one_of_each(override):
    """An override of a sweep with the first of its values."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return override
    return f"{override.split('=')[0]}={next(iter(parsed.sweep_string_iterator()))}"


def composed(verb, argv):
    """What Hydra makes of it; exceptions are what the reader of the page would get."""
    folder = next(
        path for path in (cli.CONF, cli.CONF / "results", cli.CONF / "train") if (path / f"{verb}.yaml").exists()
    )
    own = [f"hydra.searchpath=[file://{OWN}]"] if folder == cli.CONF else []
    argv = command.photographs(argv) if verb == "explain" else argv
    if "-m" in argv:
        argv = [one_of_each(each) for each in cli.quote([each for each in argv if each != "-m"])]
    given = [each for each in cli.quote(argv) if not each.startswith("-")]
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose(verb, overrides=[*own, *given])


@pytest.mark.parametrize("page", [*PAGES, *EXPERIMENTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_can_be_given(page):
    lines, tried = printed(page), 0
    for line in lines:
        argv = words(line)
        found = verb_of(argv) if argv else None
        if found is None or "--config-dir" in argv or {"VERB", "NAME"} & {*argv}:
            continue
        verb, rest = found
        tried += 1
        if verb.startswith("tools."):
            assert importlib.util.find_spec(f"experiments.{verb}"), line
        elif verb not in ("doctor", "new") and not {"--help", "--version"} & {*rest}:
            try:
                composed(verb, rest)
            except Exception as error:
                raise AssertionError(f"{page.name}: {line}: {error}") from error
    assert tried or page.suffix != ".yaml", "an experiment's file says how it is run"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_and_extras_are_there(page):
    makefile, extras = (ROOT / "Makefile").read_text(), tomllib.loads((ROOT / "pyproject.toml").read_text())
    for line in printed(page):
        for target in re.findall(r"^(?:\w+=\S+ )*make ([a-z-]+)", line):
            assert re.search(rf"^{target}:", makefile, re.M), line
        for names in re.findall(r"pip install.*(?:\.|evomask)\[([\w,]+)\]", line):
            assert {*names.split(",")} <= {*extras["project"]["optional-dependencies"]}, line


def test_commands_of_the_readme_run(capsys):
    assert run_pages.main(["README.md", "--here", "--commands"]) == 0
    said = capsys.readouterr().out
    assert "README.md: evomask photo.jpg: " in said and "needs --cifar10" in said and "FAILED" not in said


def test_a_command_that_fails_is_told_with_what_it_said(tmp_path):
    for line, why in (("evomask nowhere.jpg", "nowhere.jpg"), ("evomask labels model=nothing", "nothing")):
        argv = words(line)
        shown = run_pages._tried("README.md", line, run_pages.told(argv, tmp_path, BINARIES, {}), tmp_path)
        assert shown.failed and "FAILED with exit code 2" in shown.said and why in shown.said, shown


def test_what_cannot_be_run_here_is_left_out_by_name(tmp_path):
    why = lambda line: run_pages.left_out(words(line), {}, tmp_path)
    assert why("evomask photo.jpg") == ""
    assert why("evomask train recipe=cifar10 data.path=cifar-10-python.tar.gz") == "left out: needs --cifar10"
    assert why("evomask benchmark -m launcher=slurm method=rise") == "left out: needs a cluster"
    assert why("evomask tables experiment=fitness") == "left out: needs the runs of a command that was left out"
