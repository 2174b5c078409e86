"""python -m deft_jax.train --config configs/X.py --workdir DIR [--config.field=value ...]"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: a file in configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run writes; the same command again resumes from there.")


def main(argv):
    """Runs the training; bad input ends in one line, a signal in a saved state."""
    if len(argv) > 1:
        sys.exit(f"deft_jax.train: unexpected argument {argv[1]!r}; known: --config, --workdir, --config.FIELD=VALUE")
    from deft_jax import loop  # after the flags, so that --help and a wrong flag answer at once

    logging.set_verbosity(logging.WARNING)
    try:
        loop.run(_CONFIG.value, _WORKDIR.value)
    except (ValueError, FloatingPointError) as error:
        sys.exit(f"deft_jax.train: {error}")
    except loop.Interrupted as interruption:
        print(f"deft_jax.train: {interruption}", file=sys.stderr)
        sys.exit(143)  # as a process that SIGTERM ended, so that a job scheduler does not take it for done


def _parse(argv):
    """absl's parser, with what ml_collections raises at a wrong file or field told in one line."""
    try:
        rest = app.parse_flags_with_usage(argv)
        list(_CONFIG.value or ())  # a file that could not be loaded says so at its first use
        return rest
    except OSError as error:
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        sys.exit(f"deft_jax.train: cannot load the config {path}: {str(error).splitlines()[-1].strip()}")
    except (AttributeError, KeyError) as error:
        # "'fild'\nDid you mean ...", at times quoted once more
        told = str(error.args[0]).replace("\\'", "'").replace("\\n", "\n").strip("'\"")
        sys.exit(f"deft_jax.train: the config has no field {told.replace(chr(39), '', 1)}".replace("\n", "; "))
    except TypeError as error:
        sys.exit(f"deft_jax.train: {'; '.join(str(error).splitlines())}")


def command():
    """Entry point."""
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=_parse)


if __name__ == "__main__":
    command()
