"""The commands that README, docs, notebooks and experiments print can be given: each is composed, none is run."""

import importlib.util
import pathlib
import re
import shlex
import tomllib

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from evomask import command
from experiments.shared import cli

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "evomask/template/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.md")),
]
EXPERIMENTS = sorted((cli.CONF / "experiment").glob("*.yaml"))
INLINE = re.compile(r"`((?:evomask|python -m (?:evomask|experiments)[\w.]*) [^`]+)`")
OWN = ROOT / "evomask" / "template" / "conf"  # where a page speaks of parts of one's own, these stand for them


def printed(path):
    """The command lines of a page: those of shell blocks, those between backticks, and the comments of a YAML file."""
    text = path.read_text()
    if path.suffix == ".yaml":
        return re.findall(r"^#   (evomask .*)$", text, re.M)
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)).replace("\\\n", " ")
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    return [*blocks.splitlines(), *(" ".join(each.split()) for each in INLINE.findall(outside))]


def words(line):
    """Its words without a comment, variables before it, and what comes after && or a pipe."""
    found = re.split(r"&&|\|", line)[0]
    found = [word for word in shlex.split(found, comments=True) if not re.fullmatch(r"\w+=\.\.\.", word)]
    found = [word.replace("...", "x").replace("…", "x") for word in found]
    while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
        found = found[1:]
    return found


def verb_of(argv):
    """The program that a command runs and what it is told, or None for one that is not ours."""
    if argv[:2] == ["python", "-m"]:
        program = argv[2].removeprefix("experiments.")
        argv = argv[3:] if program == "evomask" else [program, *argv[3:]]
    elif argv[:1] == ["evomask"] or argv[:1] == [".venv/bin/evomask"]:
        argv = argv[1:]
    else:
        return None
    if argv and argv[0] in command.VERBS or argv[0].startswith("tools."):
        return argv[0], argv[1:]
    return "explain", argv


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
