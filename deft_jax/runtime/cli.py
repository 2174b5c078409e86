"""What the commands share: --config and --workdir, values read from files, and how a command ends.

Bad input ends in one line and status 2, a run that failed while it was running in one line and status 1, a signal in a
saved state and status 143.
"""

import argparse
import contextlib
import inspect
import json
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from deft_jax.runtime.signals import Interrupted
from deft_jax.runtime.validation import ConfigErrors

BAD_INPUT, FAILED = 2, 1
TERMINATED = 143  # as a process that SIGTERM ended, so that a job scheduler does not take it for done


def keep_programs() -> None:
    """Keeps compiled programs on disk, so that a run which starts again, or one much like it, need not wait for them.

    In the user's cache folder, unless JAX_COMPILATION_CACHE_DIR names another; JAX_ENABLE_COMPILATION_CACHE=false turns
    it off. To be called before anything is compiled.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "deft_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def exit_with_error(name: str, told, status: int = BAD_INPUT):
    """Ends the command with one line on stderr."""
    print(f"{name}: {' '.join(str(told).split())}", file=sys.stderr)
    sys.exit(status)


@contextlib.contextmanager
def cli_errors(name: str):
    """Within it, what a command may end in becomes one line and its status; any other exception is a fault of ours."""
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


class Parser(argparse.ArgumentParser):
    """An ArgumentParser for `python -m NAME` whose errors are one line, without the usage."""

    def __init__(self, name: str, doc: str):
        self._name = name
        super().__init__(
            prog=f"python -m {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message):
        known = ", ".join(action.option_strings[-1] for action in self._actions if action.option_strings)
        exit_with_error(self._name, f"{message}; known: {known}" if message.startswith("unrecognized") else message)


def run_command(name: str, load: Callable[[], Callable]) -> None:
    """Runs a command: parses the flags, then calls load()(config, workdir).

    load: imports what the command needs and returns its function; called after the flags are read, so that --help and
    a wrong flag answer at once.
    """
    config = config_flags.DEFINE_config_file("config", None, "The experiment: a file in configs/.", lock_config=True)
    workdir = flags.DEFINE_string("workdir", None, "Where the run writes; the same command again resumes from there.")
    flags.FLAGS["config"].parser = _ConfigFile()

    def main(argv):
        del argv
        with cli_errors(name):  # importing JAX raises ValueError where a JAX_... variable has a value it does not know
            function = load()
            keep_programs()
            logging.set_verbosity(logging.WARNING)
            function(config.value, workdir.value)

    app.run(main, flags_parser=lambda argv: _parse(name, argv))


class _Refused(Exception):
    """A fault of the command line, told in full; not a ValueError, to which absl would add its own words."""


def _parse(name, argv):
    """absl's parser, with all that can be wrong told in one line."""
    try:
        rest = flags.FLAGS([_read_value_from_file(argument) for argument in argv])
        if len(rest) > 1:
            raise _Refused(f"unexpected argument {rest[1]!r}; known: {_known()}, --config.FIELD=VALUE")
        for flag in ("config", "workdir"):
            if flags.FLAGS[flag].value in (None, ""):
                raise _Refused(f"give --{flag}, {flags.FLAGS[flag].help[0].lower()}{flags.FLAGS[flag].help[1:]}")
        return rest
    except _Refused as error:
        exit_with_error(name, error)
    except flags.UnrecognizedFlagError as error:
        exit_with_error(name, f"{error}; known: {_known()}, --config.FIELD=VALUE")
    except flags.Error as error:
        told = str(error)
        flag = re.match(r"flag --([\w.]+)=", told)
        if flag and flag[1] in flags.FLAGS and flags.FLAGS[flag[1]].parser.syntactic_help:
            told += f"; it takes {flags.FLAGS[flag[1]].parser.syntactic_help}"
        exit_with_error(name, told)
    except (AttributeError, KeyError) as error:
        # "'fild'\nDid you mean ...", at times quoted once more
        told = str(error.args[0]).replace("\\'", "'").replace("\\n", "\n").strip("'\"")
        field, _, advice = told.replace("'", "", 1).partition("\n")
        known = f"has no field {field!r}" if field.isidentifier() else f"cannot be set so: {told}"
        exit_with_error(name, f"the config {known}{'; ' * bool(advice)}{advice}")
    except (TypeError, ValueError) as error:
        exit_with_error(name, error)


def _known() -> str:
    """The flags of the command itself: those that this package defines."""
    own = [flag for flag in ("config", "workdir", "jobs") if flag in flags.FLAGS]
    return ", ".join(f"--{flag}" for flag in own)


class _ConfigFile(flags.ArgumentParser):
    """--config=FILE.py or --config=FILE.py:WORD: the ConfigDict that its get_config() or get_config(WORD) returns."""

    def parse(self, argument: str) -> ConfigDict:
        path, colon, word = argument.partition(":")
        if not path:
            raise _Refused("--config is empty; give a file in configs/ or one of yours")
        get_config = _execute(path).get("get_config")
        if not callable(get_config):
            raise _Refused(f"the config {path} has no function get_config(); see the files in configs/")
        words = (word,) if colon else ()
        try:
            inspect.signature(get_config).bind(*words)
        except TypeError:
            told = f"takes no word after the colon, got {word!r}" if colon else f"needs a word: --config={path}:WORD"
            raise _Refused(f"the config {path} {told}") from None
        with _config_errors(path):
            made = get_config(*words)
        if isinstance(made, dict):
            made = ConfigDict(made)
        if not isinstance(made, ConfigDict):
            raise _Refused(f"get_config() of the config {path} must return a ConfigDict, got {type(made).__name__}")
        return made.lock()


def _config_path(path: str) -> pathlib.Path:
    """The file of this path; for a path configs/... that is none, the file of this name that came with the package."""
    package = pathlib.Path(__file__).parents[1]
    if pathlib.PurePath(path).parts[:1] == ("configs",) and not pathlib.Path(path).exists():
        # A wheel holds them inside the package, a checkout beside it.
        for folder in (package, package.parent):
            if (folder / "configs").is_dir():
                return folder / path if (folder / path).is_file() else pathlib.Path(path)
    return pathlib.Path(path)


def _execute(path: str) -> dict:
    """What a Python file defines."""
    try:
        place = _config_path(path)
        text = place.read_bytes()
    except (OSError, ValueError) as error:
        raise _Refused(f"cannot read the config {path}: {getattr(error, 'strerror', None) or error}") from None
    module = types.ModuleType("deft_jax_config")
    module.__file__ = str(place)
    sys.modules[module.__name__] = module  # where a dataclass in the file looks for its own module
    with _config_errors(path):
        exec(compile(text, path, "exec"), module.__dict__)
    return vars(module)


@contextlib.contextmanager
def _config_errors(path: str):
    """Whatever a config raises, told with its name, and with the line where that is known."""
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
        told = error.msg if isinstance(error, SyntaxError) else error
        raise _Refused(f"the config {path}{line}: {kind}{told}") from error


def _read_value_from_file(argument: str) -> str:
    """--config.a.b=@FILE becomes --config.a.b=VALUE with the value that the JSON file holds under the name b."""
    match = re.fullmatch(r"(--?config\.(?:\w+\.)*(\w+)=)@(.*)", argument, re.DOTALL)
    if not match:
        return argument
    flag, field, path = match.groups()
    try:
        values = json.loads(pathlib.Path(path).read_text())
    except OSError as error:
        raise _Refused(f"cannot read {path or repr(path)} for {flag[:-1]}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise _Refused(f"cannot read {path} for {flag[:-1]}, it is not JSON: {error}") from None
    if not isinstance(values, dict) or field not in values:
        held = f"; it has {', '.join(values) or 'none'}" if isinstance(values, dict) else ", it holds no JSON object"
        raise _Refused(f"{path} has no entry {field!r} for {flag[:-1]}{held}")
    value = values[field]
    return flag + (value if isinstance(value, str) else repr(tuple(value) if isinstance(value, list) else value))
