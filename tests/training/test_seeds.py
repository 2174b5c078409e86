"""Several seeds in one program: each equals the run of that seed, resumes with the others and diverges without them."""

import json
import shutil

import jax
import numpy as np
import pytest
import runs
import tiny

from deft_jax.training import resume, session
from deft_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def both(shared_programs, tmp_path_factory):
    """(workdir, results) of two seeds in one program."""
    workdir = tmp_path_factory.mktemp("both")
    return workdir, session.run(tiny.config(**runs.SEEDS), workdir)


def test_each_seed_in_one_program_equals_its_single_run(both, tmp_path):
    workdir, results = both
    assert results["seeds"] == [3, 4]
    assert results["runs"] == ["seed_3", "seed_4"]
    inside = workdir / "seed_4"
    single = session.run(tiny.config(seed=4), tmp_path)
    assert json.loads((inside / "config.json").read_text())["seed"] == 4
    for got, want in zip(runs.records(inside), runs.records(tmp_path), strict=True):
        assert (got["kind"], got["step"]) == (want["kind"], want["step"])
        for name in ("loss", "reconstruction", "kl_per_latent", "beta"):
            if name in want:
                np.testing.assert_allclose(got[name], want[name], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(results["mig"]["seeds"][4], single["mig"], atol=0.05)


def test_results_of_several_seeds_have_their_mean_and_deviation(both):
    workdir, results = both
    migs = [json.loads((workdir / f"seed_{seed}" / "results.json").read_text())["mig"] for seed in (3, 4)]
    np.testing.assert_allclose(results["mig"]["mean"], np.mean(migs))
    np.testing.assert_allclose(results["mig"]["deviation"], np.std(migs, ddof=1))
    assert json.loads((workdir / "results.json").read_text())["mig"]["mean"] == results["mig"]["mean"]


def test_workdir_of_a_seed_is_that_of_a_finished_single_run(both, after_dispatch):
    after_dispatch(lambda *_: pytest.fail("trained on"))
    workdir, results = both
    assert session.run(tiny.config(seed=3), workdir / "seed_3")["mig"] == results["mig"]["seeds"][3]


def test_interrupted_seeds_resume_from_their_common_checkpoint_to_the_same_end(both, stop_at, tmp_path):
    stop_at(tiny.config(**runs.SEEDS), tmp_path, 5)
    Checkpoints(tmp_path / "seed_4" / "checkpoints", 3).drop_after(3)  # sets aside what this object has not restored
    session.run(tiny.config(**runs.SEEDS), tmp_path)
    for seed in ("seed_3", "seed_4"):
        assert runs.state_of(tmp_path / seed) == runs.state_of(both[0] / seed)
        steps = [record["step"] for record in runs.records(tmp_path / seed) if record["kind"] == "train"]
        assert steps == list(range(1, 9))


def test_seed_that_diverges_does_not_stop_the_others(tmp_path, after_dispatch, capsys):
    def act(step, state, metrics):
        if step == 5:
            state = state.replace(params=jax.tree.map(lambda leaf: leaf.at[0].set(np.nan), state.params))
        return state, metrics

    after_dispatch(act)
    results = session.run(tiny.config(**runs.SEEDS), tmp_path)
    assert results["diverged"] == [3]
    assert list(results["mig"]["seeds"]) == [4]
    assert "between steps 4 and 5" in (tmp_path / "seed_3" / "diverged.txt").read_text()
    assert not (tmp_path / "seed_3" / "results.json").exists()
    assert runs.saved_steps(tmp_path / "seed_3")[-1] == 4
    assert runs.saved_steps(tmp_path / "seed_4")[-1] == 8
    assert "seed_3: loss or parameters are not finite" in capsys.readouterr().err
    assert session.run(tiny.config(**runs.SEEDS), tmp_path) == results  # it is not trained again


class Run:
    """A run with checkpoints, as resume.restore_common_step takes it."""

    def __init__(self, workdir, diverged=None):
        self.checkpoints, self.diverged = Checkpoints(workdir / "checkpoints", 3), diverged


def test_damaged_checkpoint_of_one_seed_takes_all_back_to_an_older_common_one(stopped_once, tmp_path, capfd):
    workdirs = [shutil.copytree(stopped_once, tmp_path / name) for name in "abc"]
    for name, step in (("b", 7), ("a", 6), ("c", 4)):
        shutil.rmtree(tmp_path / name / "checkpoints" / str(step) / "default")
    several = [Run(workdirs[0]), Run(workdirs[1]), Run(workdirs[2], "diverged")]
    start = runs.restored(stopped_once).replace(step=np.int32(0))
    step, states = resume.restore_common_step(several, [start] * 3)
    assert step == 4
    assert [int(state.step) for state in states] == [4, 4, 0]
    assert capfd.readouterr().err.count("going back to step 4") == 2
    several[0].checkpoints.drop_after(4)
    assert several[0].checkpoints.steps == [4]
    assert runs.names(tmp_path / "a" / "checkpoints") >= {"4", "damaged_6"}
