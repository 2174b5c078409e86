"""python -m deft_jax.sweep --config configs/studies/X.py --workdir DIR [--jobs N] [--config.FIELD=VALUE ...]

Trains and scores every run of a study with every seed, and prints a table at the end. The same command again resumes:
finished runs are skipped, and interrupted ones go on. It may be started on several machines that share DIR: each takes
runs that no other has, and no run is done twice.

The fields of a study are those of StudyConfig in deft_jax/studies/config.py.
"""

from collections.abc import Callable
from typing import Any

from deft_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    from absl import flags

    jobs = flags.DEFINE_integer(
        "jobs", None, "Processes on this machine (default: one per core; one on an accelerator).", lower_bound=1
    )

    def load() -> Callable[[Any, str], Any]:
        from deft_jax.studies import runner

        return lambda config, workdir: runner.run(config, workdir, jobs.value)

    cli.run_command("deft_jax.sweep", load)


if __name__ == "__main__":
    main()
