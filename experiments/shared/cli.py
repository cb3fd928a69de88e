"""What every entry point shares: Hydra without its folders, and one line instead of a traceback for bad input."""

from __future__ import annotations

import codecs
import contextlib
import glob
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from unittest import mock

import hydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import evomask
from evomask.decisions import decided
from evomask.settings import cache_folder, collect_rarely, one_blas_thread, reuse_memory, tune_compiler
from evomask.types import Classifier, InputError

from . import compiling

CONF = Path(__file__).parents[2] / "conf"
PROGRAMS = __package__.rpartition(".")[0]  # these programs as a package, which in a clone is `experiments`
INSTALLED = "evomask.experiments"  # and what it is called where it is installed, and in every configuration
NAMES = ("image", "label", "contrast")  # keys whose value is what somebody called something: no ${...} is looked up
LITERAL = (
    *NAMES,
    "out",
    "where",
    "reference",
)  # keys whose value is text, whatever commas, blanks and brackets are in it
# And those whose value is text where there is such a file.
PATHS = ("data.path", "model.path", "method.path", "runs", "shards")
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"  # the user wants tracebacks
BAD_INPUT = (InputError, OSError, HydraException, OmegaConfBaseException)
READER_GONE = 141  # the exit code of a program whose output nobody reads on, as of `... --help | head`
# What a terminal that knows no typography shows instead; anything else that its encoding lacks is escaped.
PLAIN = {"“": '"', "”": '"', "…": "...", "±": "+/-", "×": "x", "–": "-", "—": "-"}


def launch(task: Callable[[DictConfig], int], name: str, argv: Sequence[str] | None = None, folder: Path = CONF) -> int:
    """Compose `<folder>/<name>.yaml` with the overrides in `argv` (default: the command line) and run the task.

    Returns:
      The exit code: that of the task, 2 after bad input (reported on one line of stderr), 130 after an interruption.
      With HYDRA_FULL_ERROR=1 in the environment, exceptions come through with their traceback.
    """
    collect_rarely()
    tune_compiler()
    argv = [*_own_conf(folder), *(sys.argv[1:] if argv is None else argv)]
    codes: list[int] = []

    def job(config: DictConfig) -> None:  # one of several in a sweep; its failure does not stop the others
        reuse_memory()
        with one_blas_thread(), compiling.kept(cache_folder() / "programs"):
            codes.append(guard(lambda: task(config), folder / name))

    def main() -> int:
        _refuse_dashes(argv, folder / name)
        # Hydra reads sys.argv, and prints and exits by itself unless this variable is set.
        given = sorted(quote(argv), key=_is_override)  # argparse takes overrides only if no flag parts them
        with mock.patch.object(sys, "argv", [name, *given]):
            with mock.patch.dict(os.environ, HYDRA_FULL_ERROR="1"):
                hydra.main(version_base="1.3", config_path=str(folder), config_name=name)(job)()
        return max(codes, default=0)

    with any_text():
        code = guard(main, folder / name, argv)
        # Whether anybody reads what was printed is known here, not only when the interpreter has ended.
        return max(code, guard(lambda: print(end="", flush=True) or 0, folder / name))


def _is_override(argument: str) -> bool:
    return argument[:1] in ("+", "~") or "=" in argument and not argument.startswith("-")


def _own_conf(folder: Path) -> list[str]:
    """The override that lets Hydra look in ./conf, too, after the configuration that ships.

    One that is given by hand follows it, and counts instead.
    """
    own = Path.cwd() / "conf" / folder.relative_to(CONF)
    if not own.is_dir() or own.samefile(folder):
        return []
    return [f"hydra.searchpath=[{_quoted(f'file://{own}', False)}]"]


def guard(function: Callable[[], int], config: Path, argv: Sequence[str] = ()) -> int:
    """The function's exit code, or what its exception means, of a command with these overrides."""
    try:
        return function()
    except SystemExit as stop:  # --help, --cfg job, a flag that argparse does not know
        return int(stop.code or 0)
    except KeyboardInterrupt:
        say("interrupted; what was finished is kept")
        return 130
    except BAD_INPUT as error:
        if isinstance(error, BrokenPipeError) and _unread(sys.stdout):  # and not a pipe to a classifier, say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return READER_GONE
        if FULL_ERROR:
            raise
        say(f"error: {explain_error(error, config, argv)}")
        return 2


def _unread(stream: IO[str] | None) -> bool:
    """Whether a stream is a pipe at whose other end nobody is left."""
    try:
        (ends := select.poll()).register(stream.fileno(), 0)
    except (AttributeError, OSError):  # closed, captured or replaced by something that is no file
        return False
    return any(event & select.POLLERR for _, event in ends.poll(0))


@contextlib.contextmanager
def any_text() -> Iterator[None]:
    """Lets stdout and stderr print whatever a file or a class is called, in the encoding that the terminal has."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="evomask.plain")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before):
            if not _unread(stream):  # which it would be told now, and fail
                stream.reconfigure(errors=errors)


def _plain(error: UnicodeError) -> tuple[str, int]:
    r"""What stands for characters that cannot be encoded.

    >>> "“café” ± 1".encode("ascii", "evomask.plain").decode()
    '"caf\\xe9" +/- 1'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    shown = (PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode() for char in lacking)
    return "".join(shown), error.end


codecs.register_error("evomask.plain", _plain)


def _top(config: Path) -> set[str]:
    """The keys and groups at the top of a configuration."""
    return {*OmegaConf.load(config.with_suffix(".yaml")), *_groups(config)}


def _groups(config: Path) -> set[str]:
    """The groups that a configuration has a choice of."""
    defaults = OmegaConf.load(config.with_suffix(".yaml")).defaults
    return {str(key) for item in defaults if isinstance(item, DictConfig) for key in item}


def _refuse_dashes(argv: Sequence[str], config: Path) -> None:
    """The commonest slip, `--image my.jpg`, for which argparse has only a page of usage."""
    keys = _top(config)
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name in keys:
            raise InputError(f"no flag is called {argument.partition('=')[0]}: write {name}=..., without dashes")


def say(message: str) -> None:
    """One line on stderr."""
    print(" ".join(message.split()), file=sys.stderr)


def instantiate(node: Any) -> Any:
    """`hydra.utils.instantiate`, where lists become tuples (records want hashable shapes) and a bad value in a target's
    arguments is reported in the target's own words.
    """
    try:
        return hydra.utils.instantiate(_tuples(OmegaConf.to_container(node, resolve=True)), _convert_="all")
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, InputError):  # bad input, said by evomask itself
            raise error.__cause__ from error
        raise


def classifier(config: DictConfig) -> Classifier:
    """The network of a configuration, with the decision that is explained."""
    return decided(evomask.as_classifier(instantiate(config.model)), instantiate(config.decision))


def here(name: str) -> str:
    """What a `_target_` is called where this runs, for in a clone the programs lie beside evomask, not in it.

    >>> here("evomask.experiments.explain.main") == f"{PROGRAMS}.explain.main", here("my_experiments.Mine")
    (True, 'my_experiments.Mine')
    """
    return PROGRAMS + name.removeprefix(INSTALLED) if name.startswith(f"{INSTALLED}.") else name


def _tuples(node: Any) -> Any:
    if isinstance(node, dict):
        parts = {key: value if key == "_args_" else _tuples(value) for key, value in node.items()}
        return parts | {"_target_": here(node["_target_"])} if isinstance(node.get("_target_"), str) else parts
    if isinstance(node, list):
        return {"_target_": "builtins.tuple", "_args_": [[_tuples(item) for item in node]]}
    return node


def quote(argv: Sequence[str]) -> list[str]:
    """Quotes the values of `LITERAL` and `PATHS` for Hydra's grammar, and joins repeated `image=` into a list.

    >>> quote(["image=photo (1).jpg", "seed=1"])
    ["image='photo (1).jpg'", 'seed=1']
    >>> quote(["image=a.jpg", "image=b.jpg"]), quote(["image=[a b.jpg, 'c, d.jpg']"])
    (["image=['a.jpg','b.jpg']"], ["image=['a b.jpg','c, d.jpg']"])
    """
    others, images = [], []
    for argument in argv:
        key, equals, value = argument.partition("=")
        if key in PATHS and os.path.lexists(os.path.expanduser(value)):
            others.append(f"{key}={_quoted(value)}")
        elif not equals or key not in LITERAL or value == "null":
            others.append(argument)
        elif key == "image":
            images += _images(value)
        else:
            others.append(f"{key}={_quoted(_unquoted(value), key in NAMES)}")
    if len(images) > 1:
        others.insert(0, f"image=[{','.join(map(_quoted, images))}]")
    elif images:
        others.insert(0, f"image={_quoted(images[0])}")
    return others


# An item of a list: in single quotes, in double quotes, or bare up to the next comma.
_ITEM = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,]*?))\s*(?:,|$)""")


def _images(value: str) -> list[str]:
    """`[a.jpg, b.jpg]` or `a.jpg,b.jpg` as a list. What stands in quotes is one name; so are the commas, brackets and
    quotes of a file that exists, or of a pattern that matches one.

    >>> _images("a.jpg, b c.jpg"), _images('"a b.png"'), _images("['a, b.jpg', c.jpg]")
    (['a.jpg', 'b c.jpg'], ['a b.png'], ['a, b.jpg', 'c.jpg'])
    """
    path = os.path.expanduser(value)
    if os.path.lexists(value) or os.path.lexists(path) or glob.glob(path, recursive=True):
        return [value]
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    items = [next((part for part in item.groups() if part), "") for item in _ITEM.finditer(inner)]
    return [re.sub(r"\\(['\"])", r"\1", item) for item in items if item] or [value]


def _unquoted(value: str) -> str:
    """Text that was written in quotes, as messages recommend it, without them.

    >>> _unquoted('"crane, bird"'), _unquoted("'tis")
    ('crane, bird', "'tis")
    """
    item = _ITEM.fullmatch(value)
    whole = item and next((part for part in item.groups()[:2] if part is not None), None)
    return value if not whole or value.rstrip().endswith(",") else re.sub(r"\\(['\"])", r"\1", whole)


def _quoted(value: str, name: bool = True) -> str:
    """A text in Hydra's quotes; in a name, `${` is no interpolation."""
    if name:
        value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", value)) + "'"


def explain_error(error: Exception, config: Path, argv: Sequence[str] = ()) -> str:
    """What was wrong, in one line; what could have been given instead, where Hydra knows only that it was wrong."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher":  # launcher=... names one that comes with a package of its own
            return f"the launcher {name} needs hydra-{name.partition('_')[0]}-launcher: pip install 'evomask[sweeps]'"
        return f"unknown {group} {name!r}: choose from {', '.join(error.options)}"
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, ConfigCompositionException) and unknown:
        return f"unknown key {unknown[1]!r}: choose from {', '.join(_keys(config, unknown[1], argv))}"
    if isinstance(error, OverrideParseException):
        loose, keys = str(error.override), _top(config)
        if loose in keys:
            return f"cannot read {loose}: write {loose}=value, without blanks around the ="
        if "=" not in loose and "image" in keys:
            quotes = "'" if re.search(r"[^\w./~-]", loose) else ""
            return f"cannot read {loose}: did you mean image={quotes}{loose}{quotes}?"
        return f"cannot read {error.override}: write key=value, special characters in quotes: key='\"a, b\"'"
    return str(error) or type(error).__name__


def _keys(path: Path, unknown: str, argv: Sequence[str] = ()) -> list[str]:
    """The keys beside `unknown`, as deep as its path exists, in what the chosen groups make; at the top, groups too."""
    chosen = [each for each in argv if each.partition("=")[0] in _groups(path) and "," not in each]
    with hydra.initialize_config_dir(str(path.parent), version_base="1.3"):
        config = hydra.compose(path.name, chosen, return_hydra_config=True)
    parent = unknown.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else None
    if isinstance(node, DictConfig):
        return sorted(f"{parent}.{key}" for key in node if not str(key).startswith("_"))
    groups = [name.partition("@")[0] for name in config.hydra.runtime.choices if "/" not in name]
    return sorted({*config, *groups} - {"hydra"})
