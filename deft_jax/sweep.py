"""python -m deft_jax.sweep --config configs/studies/X.py --workdir DIR [--jobs N] [--config.FIELD=VALUE ...]

Trains and scores every run of a study with every seed, and prints a table at the end. The same command again resumes:
finished runs are skipped, and interrupted ones go on. A run that fails three times is reported at the end and stops no
other.

The runs are tasks of Dask. By default their workers are processes of this machine. With --scheduler tcp://HOST:8786
they are those of a cluster that is already there: `dask worker tcp://HOST:8786 --nthreads 1` on any machine that sees
DIR under the same path, or jobs of SLURM, PBS, SGE or LSF by dask-jobqueue. Workers may come and go; a run goes on
elsewhere from its newest checkpoint. One command at a time runs the study of a DIR.

The fields of a study are those of StudyConfig in deft_jax/studies/config.py.
"""

import re
from collections.abc import Callable
from typing import Any

from deft_jax.runtime import cli


def main() -> None:
    """Runs the command."""
    from absl import flags

    jobs = flags.DEFINE_integer(
        "jobs", None, "Runs at a time on this machine (default: one per core; one on an accelerator).", lower_bound=1
    )
    scheduler = flags.DEFINE_string(
        "scheduler", None, "A Dask cluster that does the runs: tcp://HOST:8786, or the path of its scheduler file."
    )
    resources = flags.DEFINE_list(
        "resources", [], "What each run needs of its worker, as in dask worker --resources GPU=1; with --scheduler."
    )

    def load() -> Callable[[Any, str], Any]:
        from deft_jax.studies import runner

        amounts = _amounts(resources.value)
        return lambda config, workdir: runner.run(
            config, workdir, jobs.value, scheduler=scheduler.value, resources=amounts
        )

    cli.run_command("deft_jax.sweep", load)


def _amounts(entries: list[str]) -> dict[str, float]:
    """['GPU=1'] -> {'GPU': 1.0}."""
    amounts = {}
    for entry in entries:
        match = re.fullmatch(r"\s*([^=\s]+)\s*=\s*(\d*\.?\d+)\s*", entry)
        if match is None or float(match[2]) == 0:
            raise ValueError(f"--resources must be NAME=NUMBER, as in GPU=1, got {','.join(entries)!r}")
        amounts[match[1]] = float(match[2])
    return amounts


if __name__ == "__main__":
    main()
