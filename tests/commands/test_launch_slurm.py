"""What the launch scripts of SLURM hand to sbatch and srun; test_slurm_cluster.py has them on a SLURM."""

import itertools

import pytest
from launch_stand_ins import HARD


def test_submission(stage):
    stage.run("slurm.sh", "--nodes", 4, "--gpus", 8, "--time", "1-00", "train", "configs/c.py", "runs/a b", *HARD)
    (words,) = stage.arguments("sbatch")
    script = str(stage.checkout / "launch/slurm_job.sh")
    asked = {"--nodes": "4", "--gpus-per-node": "8", "--time": "1-00"}
    assert asked.items() <= dict(itertools.pairwise(words)).items()
    assert words[words.index(script) + 1 :] == ["--python", "python", "train", "configs/c.py", "runs/a b", *HARD]
    stage.run("slurm.sh", "--seeds", "0,3-4", "--at-most", 2, "grid", "a.py,b.py", "w")
    (words,) = stage.arguments("sbatch")
    assert words[words.index("--array") + 1] == "0-5%2"


def test_the_tasks_of_a_grid_are_all_configs_with_all_seeds(stage):
    seen = []
    for task in range(6):
        words = ["--seeds", "0,3-4", "grid", "configs/a.py,configs/b.py", "w", *HARD]
        stage.run("slurm_job.sh", *words, SLURM_ARRAY_TASK_ID=str(task))
        (called,) = stage.arguments("srun")
        assert called[-len(HARD) :] == HARD
        config, workdir = (called[called.index(flag) + 1] for flag in ("--config", "--workdir"))
        seen.append((config, workdir, called[-len(HARD) - 1]))
    assert seen == [
        (f"configs/{name}.py", f"w/{name}/seed_{seed}", f"--config.seed={seed}") for name in "ab" for seed in (0, 3, 4)
    ]
    assert stage.run("slurm_job.sh", *words, SLURM_ARRAY_TASK_ID="6").returncode == 2


@pytest.mark.parametrize(
    ("left", "checkpoint", "comes_back"),
    [("0:40", "", False), ("0:40", "w/checkpoints/9", True), ("1:00:40", "", True), ("UNLIMITED", "", True)],
)
def test_a_job_that_saved_nothing_within_its_time_limit_does_not_come_back(stage, left, checkpoint, comes_back):
    done = _ended_by_its_time_limit(stage, checkpoint, ["^squeue", [[0, f"{left}\n", None]]])
    assert (["requeue", "7"] in stage.arguments("scontrol")) == comes_back
    assert (done.returncode == 0) == comes_back
    assert ("--time" in done.stderr) != comes_back


@pytest.mark.parametrize(
    ("before", "after", "comes_back"),
    [
        ([0, "5/M", None], [0, "5/M", None], False),
        ([0, "5/M", None], [0, "5/M 9/M", None], True),
        ([1, "", None], [1, "", None], True),  # the bucket cannot be read: nothing is known
    ],
)
def test_what_a_job_saved_in_a_bucket_is_seen(stage, before, after, comes_back):
    rules = [["^squeue", [[0, "0:40\n", None]]], ["^python -c", [before, after]]]
    _ended_by_its_time_limit(stage, "", *rules, workdir="gs://bucket/w")
    assert (["requeue", "7"] in stage.arguments("scontrol")) == comes_back


def _ended_by_its_time_limit(stage, checkpoint, *rules, workdir="w"):
    """Runs a training that leaves a checkpoint, or '' for none, and ends as one that got SIGTERM."""
    work = stage.folder / "bin/work"  # in place of the step
    work.write_text(f"#!/bin/sh\n[ -z '{checkpoint}' ] || mkdir -p '{checkpoint}'\nexit 143\n")
    work.chmod(0o755)
    (stage.folder / "bin/srun").unlink()
    (stage.folder / "bin/srun").symlink_to(work)
    stage.rules(["^scontrol show", [[0, "JobState=RUNNING", None]]], *rules)
    (stage.checkout / "w/checkpoints/5").mkdir(parents=True)
    return stage.run("slurm_job.sh", "train", "c.py", workdir, SLURM_JOB_ID="7")
