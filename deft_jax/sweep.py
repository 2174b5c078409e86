"""python -m deft_jax.sweep --config configs/studies/X.py --workdir DIR [--jobs N] [--config.FIELD=VALUE ...]

Trains and scores every run of a study with every seed, and ends with a table. The same command again goes on where it
was: what is finished is skipped, what was interrupted resumes. Started on several machines that share DIR, each takes
what no other has; a run is never done twice.

What a study is stands in study.py. Its field `pack`, if given, is the most seeds of a run that are trained in one
program, which is then compiled once and keeps an accelerator busy; all of them on an accelerator, one at a time on a
CPU unless told. Runs called SET/OBJECTIVE make a table of objectives by sets.
"""

from deft_jax.runtime import cli
from deft_jax.studies.runner import run


def main() -> None:
    """The command."""
    from absl import flags

    jobs = flags.DEFINE_integer("jobs", None, "Processes on this machine; one a core unless told.", lower_bound=1)
    cli.run_command("deft_jax.sweep", lambda: lambda config, workdir: run(config, workdir, jobs.value))


if __name__ == "__main__":
    main()
