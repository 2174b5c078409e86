"""Command lines: --config and --workdir, values read from files, errors and exit statuses.

Invalid input ends a command in one line per fault and status 2, a failure while it runs in one line and status 1, a
signal in a saved state and status 143, Ctrl-C where there is nothing to save, and a second one, in one line and 130.
"""

import argparse
import contextlib
import copy
import inspect
import json
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from deft_jax.runtime import buckets
from deft_jax.runtime.signals import TERMINATED, Interrupted
from deft_jax.runtime.validation import ConfigErrors

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def keep_programs() -> None:
    """Turns on JAX's compilation cache, so that a run that starts again does not compile again.

    The cache is in the user's cache folder, or in JAX_COMPILATION_CACHE_DIR; JAX_ENABLE_COMPILATION_CACHE=false turns
    it off. To be called before anything is compiled.
    """
    import jax

    option = "jax_compilation_cache_dir"
    if getattr(jax.config, option) is None:
        folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "deft_jax"
        jax.config.update(option, str(folder))


def exit_with_error(name: str, message: object, status: int = BAD_INPUT) -> NoReturn:
    """Ends the command `name` with one line on stderr."""
    print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)


@contextlib.contextmanager
def cli_errors(name: str) -> Iterator[None]:
    """Turns the expected exceptions of the command `name` into lines and a status; others propagate."""
    try:
        yield
    except ConfigErrors as error:
        for line in error.lines[:-1]:
            print(f"{name}: {line}", file=sys.stderr)
        exit_with_error(name, error.lines[-1])
    except ValueError as error:
        exit_with_error(name, error)
    except (FloatingPointError, OSError) as error:  # OSError: a full disk, a process that died
        exit_with_error(name, error, FAILED)
    except Interrupted as interruption:
        exit_with_error(name, interruption, TERMINATED)
    except KeyboardInterrupt:
        exit_with_error(name, "interrupted", INTERRUPTED)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser for `python -m NAME` whose errors are one line, without the usage."""

    def __init__(self, name: str, doc: str):
        self._name = name
        super().__init__(
            prog=f"python -m {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        known = ", ".join(action.option_strings[-1] for action in self._actions if action.option_strings)
        exit_with_error(self._name, f"{message}; known: {known}" if message.startswith("unrecognized") else message)


def run_command(name: str, load: Callable[[], Callable[..., Any]], has_workdir: bool = True) -> None:
    """Runs a command: parses the flags, then calls load()(config, workdir), or load()(config) without a workdir.

    Args:
      name: of the module, as in `python -m NAME`.
      load: imports what the command needs and returns its function; called after the flags are parsed, so that --help
        and an invalid flag answer at once.
      has_workdir: whether it has the flag --workdir.
    """
    config = config_flags.DEFINE_config_file("config", None, "The experiment: a file in configs/.", lock_config=True)
    if has_workdir:
        flags.DEFINE_string(
            "workdir", None, "Where the run writes, a folder, gs://... or s3://...; the same command resumes."
        )
    file = flags.FLAGS["config"].parser = _ConfigFile()

    def main(argv: Sequence[str]) -> None:
        del argv
        with cli_errors(name):  # importing JAX raises ValueError where a JAX_... variable has a value it does not know
            function = load()
            keep_programs()
            logging.set_verbosity(logging.WARNING)
            function(config.value, *([str(flags.FLAGS["workdir"].value)] if has_workdir else []))
            if expectation := file.expectation(config.value):
                print(expectation)

    app.run(main, flags_parser=lambda argv: _parse(name, argv))


class _InvalidFlag(Exception):
    """A fault of the command line with its whole message; not a ValueError, whose message absl would extend."""


def _parse(name: str, argv: Sequence[str]) -> list[str]:
    """The positional arguments that absl's parser leaves; ends the command at the first fault."""
    try:
        rest = flags.FLAGS([_read_value_from_file(argument) for argument in argv])
        if len(rest) > 1:
            raise _InvalidFlag(f"unexpected argument {rest[1]!r}; known: {_known()}, --config.FIELD=VALUE")
        for flag in ("config", "workdir"):
            if flag in flags.FLAGS and flags.FLAGS[flag].value in (None, ""):
                raise _InvalidFlag(f"give --{flag}, {flags.FLAGS[flag].help[0].lower()}{flags.FLAGS[flag].help[1:]}")
        return rest
    except _InvalidFlag as error:
        exit_with_error(name, error)
    except flags.UnrecognizedFlagError as error:
        exit_with_error(name, f"{error}; known: {_known()}, --config.FIELD=VALUE")
    except flags.Error as error:
        message = str(error)
        match = re.match(r"flag --([\w.]+)=", message)
        if match and match[1] in flags.FLAGS and flags.FLAGS[match[1]].parser.syntactic_help:
            message += f"; it takes {flags.FLAGS[match[1]].parser.syntactic_help}"
        exit_with_error(name, message)
    except (AttributeError, KeyError) as error:
        # "'fild'\nDid you mean ...", at times quoted once more
        message = str(error.args[0]).replace("\\'", "'").replace("\\n", "\n").strip("'\"")
        field, _, advice = message.replace("'", "", 1).partition("\n")
        fault = f"has no field {field!r}" if field.isidentifier() else f"cannot be set: {message}"
        exit_with_error(name, f"the config {fault}{'; ' * bool(advice)}{advice}")
    except (TypeError, ValueError) as error:
        exit_with_error(name, error)


def _known() -> str:
    """The flags that the command defines."""
    names = ("config", "workdir", "jobs", "scheduler", "resources", "topology")
    return ", ".join(f"--{flag}" for flag in names if flag in flags.FLAGS)


class _ConfigFile(flags.ArgumentParser):
    """--config=FILE.py or --config=FILE.py:WORD: the ConfigDict that its get_config() or get_config(WORD) returns.

    If the file defines EXPECTED, a line on the results of its config as it stands, the command prints it at the end.
    """

    _expected = ""
    _original = ConfigDict()

    def expectation(self, config: ConfigDict) -> str:
        """EXPECTED of the file; '' if it has none, or if `config` differs from that of the file in more than seeds."""
        is_same = self._expected and _without_seeds(config) == _without_seeds(self._original)
        return self._expected if is_same else ""

    def parse(self, argument: str) -> ConfigDict:
        path, colon, word = argument.partition(":")
        if not path:
            raise _InvalidFlag("--config is empty; give a file in configs/ or one of yours")
        names = _execute(path)
        get_config = names.get("get_config")
        if not callable(get_config):
            raise _InvalidFlag(f"the config {path} has no function get_config(); see the files in configs/")
        words = (word,) if colon else ()
        try:
            inspect.signature(get_config).bind(*words)
        except TypeError:
            fault = f"takes no word after the colon, got {word!r}" if colon else f"needs a word: --config={path}:WORD"
            raise _InvalidFlag(f"the config {path} {fault}") from None
        with _config_errors(path):
            config = get_config(*words)
        if isinstance(config, dict):
            config = ConfigDict(config)
        if not isinstance(config, ConfigDict):
            kind = type(config).__name__
            raise _InvalidFlag(f"get_config() of the config {path} must return a ConfigDict, got {kind}")
        self._expected = ""  # absl keeps one parser of a class
        if "EXPECTED" in names:
            self._expected, self._original = str(names["EXPECTED"]), copy.deepcopy(config)
        return config.lock()


def _without_seeds(config: ConfigDict) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in ("seed", "num_seeds", "tracking")}


def _config_path(path: str) -> pathlib.Path:
    """The file of this path; the file that the package installed if configs/... is not in the current folder."""
    package = pathlib.Path(__file__).parents[1]
    if pathlib.PurePath(path).parts[:1] == ("configs",) and not pathlib.Path(path).exists():
        # A wheel holds them inside the package, a checkout beside it.
        for folder in (package, package.parent):
            if (folder / "configs").is_dir():
                return folder / path if (folder / path).is_file() else pathlib.Path(path)
    return pathlib.Path(path)


def _execute(path: str) -> dict[str, Any]:
    """The names that a Python file defines."""
    try:
        file = _config_path(path)
        text = file.read_bytes()
    except (OSError, ValueError) as error:
        raise _InvalidFlag(f"cannot read the config {path}: {getattr(error, 'strerror', None) or error}") from None
    module = types.ModuleType("deft_jax_config")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # where a dataclass in the file looks for its own module
    with _config_errors(path):
        exec(compile(text, path, "exec"), module.__dict__)
    return vars(module)


@contextlib.contextmanager
def _config_errors(path: str) -> Iterator[None]:
    """Turns any exception of a config file into an _InvalidFlag with the file's name and the line."""
    try:
        yield
    except Exception as error:
        lines, trace = [getattr(error, "lineno", None)], error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == path:
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        line = next((f", line {line}" for line in reversed(lines) if line), "")
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        message = error.msg if isinstance(error, SyntaxError) else error
        raise _InvalidFlag(f"the config {path}{line}: {kind}{message}") from error


def _read_value_from_file(argument: str) -> str:
    """Replaces --config.a.b=@FILE by --config.a.b=VALUE, the value of b in the JSON file."""
    match = re.fullmatch(r"(--?config\.(?:\w+\.)*(\w+)=)@(.*)", argument, re.DOTALL)
    if not match:
        return argument
    flag, field, path = match.groups()
    try:
        values = json.loads(buckets.read_text(path, flag[:-1]))
    except OSError as error:
        raise _InvalidFlag(f"cannot read {path or repr(path)} for {flag[:-1]}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise _InvalidFlag(f"cannot read {path} for {flag[:-1]}, it is not JSON: {error}") from None
    if not isinstance(values, dict) or field not in values:
        known = f"; it has {', '.join(values) or 'none'}" if isinstance(values, dict) else ", it holds no JSON object"
        raise _InvalidFlag(f"{path} has no entry {field!r} for {flag[:-1]}{known}")
    value = values[field]
    return flag + (value if isinstance(value, str) else repr(tuple(value) if isinstance(value, list) else value))
