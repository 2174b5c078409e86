"""A damaged checkpoint is never restored as a good one, and a run resumes from the newest readable one."""

import json
import shutil
import time

import jax
import numpy as np
import pytest
import runs
import tiny

import deft_jax
from deft_jax.training import checkpoint, session
from deft_jax.training.checkpoint import Checkpoints, DamagedCheckpoint
from deft_jax.training.step import init_state

pytestmark = pytest.mark.usefixtures("shared_programs")


def damage(path, how):
    content = path.read_bytes()
    middle = len(content) // 2
    if how == "cut":
        path.write_bytes(content[:middle])
    elif how == "zeroed":
        path.write_bytes(bytes(len(content)))
    elif how == "flipped":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    else:
        path.unlink()


def file_in(folder, name):
    """A file of a checkpoint; 'numbers' is the largest of those that hold the arrays."""
    if name == "numbers":
        return max((folder / "default" / "d").iterdir(), key=lambda path: path.stat().st_size)
    return folder / name


@pytest.mark.parametrize(("name", "how"), [
    *(("numbers", how) for how in ("cut", "zeroed", "flipped", "removed")),
    *(("default/_METADATA", how) for how in ("cut", "removed")),
    *(("default/manifest.ocdbt", how) for how in ("flipped", "removed")),
    *(("_CHECKPOINT_METADATA", how) for how in ("zeroed", "removed")),
])
def test_damaged_checkpoint_is_skipped_with_one_warning(stopped, stopped_once, name, how, capfd):
    damage(file_in(stopped / "checkpoints" / str(runs.STOP), name), how)
    with pytest.raises(DamagedCheckpoint, match="checkpoints/7 cannot be read"):
        runs.restored(stopped, runs.STOP)
    assert runs.state_of(stopped) == runs.state_of(stopped_once, 6)
    time.sleep(0.05)  # a traceback of a thread would arrive late
    [warning] = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: the checkpoint ")
    assert warning.endswith("; going back to step 6")


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def cut_numbers(folder):
    damage(file_in(folder, "numbers"), "cut")


@pytest.mark.parametrize(("damages", "resumed"), [
    ({7: cut_numbers}, 6),
    ({7: empty, 6: lambda folder: damage(file_in(folder, "default/_METADATA"), "zeroed")}, 4),
    ({6: lambda folder: damage(folder / "_CHECKPOINT_METADATA", "removed"), 4: empty}, 7),  # older than the newest
])
def test_training_resumes_from_the_newest_readable_checkpoint_to_the_same_end(stopped, whole, damages, resumed, capfd):
    for step, act in damages.items():
        act(stopped / "checkpoints" / str(step))
    session.run(tiny.config(), stopped)
    printed = capfd.readouterr().err
    assert f"resuming at step {resumed} of 8" in printed
    newer = [step for step in damages if step > resumed]
    assert printed.count("warning: ") == len(newer)
    assert runs.state_of(stopped) == runs.state_of(whole[0])
    assert runs.records(stopped) == runs.records(whole[0])
    assert {f"damaged_{step}" for step in newer} <= runs.names(stopped / "checkpoints")


def test_without_a_readable_checkpoint_nothing_is_trained_or_changed(stopped, stopped_once):
    for step in (4, 6, 7):
        damage(file_in(stopped / "checkpoints" / str(step), "default/manifest.ocdbt"), "zeroed")
    before = runs.times(stopped / "checkpoints")
    with pytest.raises(ValueError, match=r"checkpoints/7 cannot be read .*, nor 2 older; nothing was changed"):
        session.run(tiny.config(), stopped)
    assert runs.times(stopped / "checkpoints") == before
    assert runs.records(stopped) == runs.records(stopped_once)
    with pytest.raises(ValueError, match="nothing was changed"):
        deft_jax.load(stopped)


def test_load_takes_the_newest_readable_checkpoint_and_changes_nothing(stopped, capfd):
    cut_numbers(stopped / "checkpoints" / "7")
    (stopped / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()  # as if a run were saving there
    before = runs.times(stopped)
    assert deft_jax.load(stopped).step == 6
    assert "going back to step 6" in capfd.readouterr().err
    with pytest.raises(ValueError, match="checkpoints/7 cannot be read"):
        deft_jax.load(stopped, 7)
    assert runs.times(stopped) == before


def test_changed_numbers_are_noticed_by_their_digest_and_checkpoints_without_one_are_read(tmp_path, monkeypatch):
    state = jax.tree.map(np.asarray, init_state(tiny.experiment()))
    digest = checkpoint._digest
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_digest", lambda copy: digest(copy.replace(key=copy.key + 1)))
        checkpoints = Checkpoints(tmp_path, 1)
        checkpoints.save(state)
        checkpoints.close()
    with pytest.raises(DamagedCheckpoint, match="its numbers are not those that were saved"):
        Checkpoints(tmp_path, 1).restore(state, 0)
    path = tmp_path / "0" / "_CHECKPOINT_METADATA"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"custom_metadata": {}}))
    assert tiny.fingerprint(Checkpoints(tmp_path, 1).restore(state, 0)) == tiny.fingerprint(state)
