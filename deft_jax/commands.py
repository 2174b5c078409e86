"""What the commands share: --config and --workdir, values read from files, and faults told in one line."""

import json
import os
import pathlib
import re
import sys
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

from deft_jax.interruption import Interrupted


def keep_programs() -> None:
    """Keeps compiled programs on disk, so that a run which starts again, or one much like it, need not wait for them.

    In the user's cache folder, unless JAX_COMPILATION_CACHE_DIR names another; JAX_ENABLE_COMPILATION_CACHE=false turns
    it off. To be called before anything is compiled.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "deft_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def run(name: str, load: Callable[[], Callable]) -> None:
    """Runs a command: parses the flags, then calls load()(config, workdir).

    load: imports what the command needs and returns its function; called after the flags are read, so that --help and
    a wrong flag answer at once. Bad input ends in one line and status 1, a signal in a saved state and status 143.
    """
    config = config_flags.DEFINE_config_file("config", None, "The experiment: a file in configs/.", lock_config=True)
    workdir = flags.DEFINE_string("workdir", None, "Where the run writes; the same command again resumes from there.")
    flags.mark_flags_as_required(["config", "workdir"])

    def main(argv):
        if len(argv) > 1:
            sys.exit(f"{name}: unexpected argument {argv[1]!r}; known: --config, --workdir, --config.FIELD=VALUE")
        function = load()
        keep_programs()
        logging.set_verbosity(logging.WARNING)
        try:
            function(config.value, workdir.value)
        except (ValueError, FloatingPointError) as error:
            sys.exit(f"{name}: {error}")
        except Interrupted as interruption:
            print(f"{name}: {interruption}", file=sys.stderr)
            sys.exit(143)  # as a process that SIGTERM ended, so that a job scheduler does not take it for done

    app.run(main, flags_parser=lambda argv: _parse(name, config, argv))


def _parse(name, config, argv):
    """absl's parser, with what ml_collections raises at a wrong file or field told in one line."""
    try:
        rest = app.parse_flags_with_usage([_from_file(argument) for argument in argv])
        list(config.value or ())  # a file that could not be loaded says so at its first use
        return rest
    except ValueError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        sys.exit(f"{name}: cannot load the config {path}: {str(error).splitlines()[-1].strip()}")
    except (AttributeError, KeyError) as error:
        # "'fild'\nDid you mean ...", at times quoted once more
        told = str(error.args[0]).replace("\\'", "'").replace("\\n", "\n").strip("'\"")
        sys.exit(f"{name}: the config has no field {told.replace(chr(39), '', 1)}".replace("\n", "; "))
    except TypeError as error:
        sys.exit(f"{name}: {'; '.join(str(error).splitlines())}")


def _from_file(argument: str) -> str:
    """--config.a.b=@FILE becomes --config.a.b=VALUE with the value that the JSON file holds under the name b."""
    match = re.fullmatch(r"(--?config\.(?:\w+\.)*(\w+)=)@(.+)", argument)
    if not match:
        return argument
    flag, field, path = match.groups()
    try:
        values = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path} for {flag[:-1]}: {error}") from None
    if not isinstance(values, dict) or field not in values:
        held = f"; it has {', '.join(values)}" if isinstance(values, dict) else ""
        raise ValueError(f"{path} has no entry {field!r} for {flag[:-1]}{held}")
    value = values[field]
    return flag + repr(tuple(value) if isinstance(value, list) else value)
