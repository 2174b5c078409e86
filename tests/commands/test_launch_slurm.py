"""The launch scripts of SLURM, against stand-ins for sbatch, srun and scontrol."""

import itertools
import shlex
import subprocess

import pytest
from launch_stand_ins import HARD, SOON, wait_for


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


def test_a_run_on_several_nodes_has_one_process_a_node_with_all_its_gpus(stage):
    several = {"SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "16", "CARRY_OUT": "1"}
    assert stage.run("slurm_job.sh", "train", "c.py", "a b", *HARD, **several).returncode == 0
    srun, python = stage.calls()
    flags = dict(itertools.pairwise(srun["arguments"]))
    assert {"--nodes": "2", "--ntasks-per-node": "1", "--cpus-per-task": "16"}.items() <= flags.items()
    assert python["arguments"] == ["-m", "deft_jax.train", "--config", "c.py", "--workdir", "a b", *HARD]
    assert python["environment"] == {"DEFT_JAX_DISTRIBUTED": "auto", "JAX_LOCAL_DEVICE_IDS": "0,1,2,3"}

    for verb in ("train", "sweep"):
        stage.run("slurm_job.sh", verb, "c.py", "w", CARRY_OUT="1")
        (alone,) = stage.calls("python")
        assert alone["environment"] == {}


@pytest.mark.parametrize("num_gpus", [0, 4])
def test_a_sweep_on_several_nodes_has_a_worker_for_each_gpu_or_core(stage, num_gpus):
    several = {"SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": str(num_gpus), "SLURM_CPUS_PER_TASK": "8"}
    done = stage.run("slurm_job.sh", "--dry-run", "sweep", "c.py", "a b", *HARD, **several)
    scheduler, workers, sweep = map(shlex.split, done.stdout.splitlines())
    place = "a b/scheduler.json"
    assert scheduler[scheduler.index("--scheduler-file") + 1] == workers[workers.index("--scheduler-file") + 1] == place
    assert (scheduler[-1], workers[-1], sweep[sweep.index("--scheduler") + 1]) == ("&", "&", place)
    flags = dict(itertools.pairwise(workers))
    each, cores = (num_gpus, 8 // num_gpus) if num_gpus else (8, 1)
    asked = {"--nodes": "2", "--ntasks-per-node": str(each), "--cpus-per-task": str(cores), "--nthreads": "1"}
    assert asked.items() <= flags.items()
    assert [flags.get("--gpus-per-task"), flags.get("--resources")] == (["1", "GPU=1"] if num_gpus else [None, None])
    assert ("--resources" in sweep) == (num_gpus > 0)
    assert sweep[-len(HARD) :] == HARD


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


def test_only_a_saved_job_that_nobody_cancelled_is_requeued(stage):
    job = {"SLURM_JOB_ID": "7"}
    task = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "1"}
    for status, environment, cancelled, expected, requeued in [
        (143, job, False, 0, ["requeue", "7"]),
        (143, task, False, 0, ["requeue", "8_1"]),
        (143, job, True, 143, None),
        (1, job, False, 1, None),
        (0, job, False, 0, None),
    ]:
        for used in stage.folder.glob("used_*"):
            used.unlink()
        rules = [["^srun", [[status]]]]
        stage.rules(*rules, *([["scontrol show", [[0, "JobState=CANCELLED"]]]] if cancelled else []))
        done = stage.run("slurm_job.sh", "train", "c.py", "w", **environment)
        assert done.returncode == expected
        requeues = [words for words in stage.arguments("scontrol") if words[0] == "requeue"]
        assert requeues == ([requeued] if requeued else [])


def test_a_signal_to_the_batch_script_reaches_the_step(stage):
    path = stage.folder / "bin" / "srun"
    path.write_text("#!/bin/bash\ntrap 'exit 143' TERM\ntouch \"$STAND_INS/ready\"\nwhile :; do sleep 0.05; done\n")
    words = ["bash", str(stage.checkout / "launch/slurm_job.sh"), "train", "c.py", "w"]
    process = subprocess.Popen(words, env=stage.environment | {"SLURM_JOB_ID": "7"}, cwd=stage.checkout)
    wait_for(stage.folder / "ready")
    process.terminate()
    assert process.wait(SOON) == 0
    assert stage.arguments("scontrol")[-1] == ["requeue", "7"]
