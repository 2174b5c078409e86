"""Exported models: the same parameters and codes as their workdir, in a folder that only reading commands take."""

import shutil

import jax
import numpy as np
import pytest
import runs
import tiny

import deft_jax
from deft_jax.training import export, session

pytestmark = pytest.mark.usefixtures("shared_programs")
FACTORS = np.array([[1, 3, 0], [0, 0, 2]])


@pytest.fixture(scope="module")
def exported(whole, tmp_path_factory):
    return export(whole[0], tmp_path_factory.mktemp("models") / "mine")


def test_exported_model_is_that_of_the_workdir(whole, exported):
    before, after = deft_jax.load(whole[0]), deft_jax.load(exported)
    assert tiny.fingerprint(after.params) == tiny.fingerprint(before.params)
    assert (after.step, after.stage, after.records) == (before.step, before.stage, before.records)
    jax.tree.map(np.testing.assert_array_equal, after.encode_factors(FACTORS), before.encode_factors(FACTORS))
    assert (exported / "results.json").read_bytes() == (whole[0] / "results.json").read_bytes()
    assert not {"checkpoints", "figures", "tensorboard", ".lock"} & runs.names(exported)
    assert runs.names(exported.parent) == {"mine"}, "nothing unfinished is left"


def test_export_of_an_earlier_step_has_no_later_record_and_no_result(whole, tmp_path):
    early = deft_jax.load(export(whole[0], tmp_path / "early", step=4))
    assert early.step == 4 == max(record["step"] for record in early.records)
    assert not (early.workdir / "results.json").exists()
    assert tiny.fingerprint(early.params) == tiny.fingerprint(deft_jax.load(whole[0], 4).params)
    with pytest.raises(ValueError, match="step 4"):
        deft_jax.load(early.workdir, 8)


def test_nothing_is_written_over(whole, exported, tmp_path):
    (tmp_path / "file").write_text("mine")
    before = runs.times(exported)
    for taken in (exported, tmp_path / "file"):
        with pytest.raises(ValueError, match="not empty"):
            export(whole[0], taken)
    with pytest.raises(ValueError, match="no training"):
        session.run(tiny.config(), exported)
    assert runs.times(exported) == before
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ValueError, match="holds no run"):
        export(tmp_path / "nothing", tmp_path / "new")
    assert runs.names(tmp_path) == {"file"}


def one_kernel(change):
    def changed(arrays):
        name = next(name for name in arrays if name.endswith("kernel"))
        return arrays | {name: change(arrays[name])}

    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: dict(list(arrays.items())[:-1]),
        lambda arrays: arrays | {"more": np.zeros(3)},
        lambda arrays: arrays | {"stage": np.int32(9)},
        lambda arrays: arrays | {"step": np.float32(0.5)},
        one_kernel(lambda kernel: kernel[..., :-1]),
        one_kernel(lambda kernel: kernel.astype(np.float64)),
        one_kernel(lambda kernel: kernel * np.nan),
        one_kernel(lambda kernel: kernel.astype(object)),
    ],
    ids=("fewer", "more", "stage", "step", "shape", "type", "nan", "object"),
)
def test_weights_of_another_model_are_refused_in_one_line(exported, tmp_path, change):
    folder = shutil.copytree(exported, tmp_path / "changed")
    with np.load(folder / "weights.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    np.savez(folder / "weights.npz", **change(arrays))
    with pytest.raises(ValueError, match=r"weights\.npz") as error:
        deft_jax.load(folder)
    assert "\n" not in str(error.value)
