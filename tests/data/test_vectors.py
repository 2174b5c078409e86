"""Vectors and series: read, normalised and recorded; trained on, encoded and decoded in their own units."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny
from refusals import refused

import deft_jax
from deft_jax import data, encode
from deft_jax.data import description, features
from deft_jax.evaluation import figures
from deft_jax.reporting import model_sample, page
from deft_jax.training import session

FACTORS = np.stack(np.indices((4, 5)), -1).reshape(-1, 2)


def numbers(*shape, seed=0):
    """Numbers of several units: means and deviations differ by feature."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * np.geomspace(0.01, 100, shape[-1]) + np.linspace(-50, 50, shape[-1])


def drawn(source):
    every = np.indices(source.factor_sizes).reshape(len(source.factor_sizes), -1).T
    return np.asarray(source.render(source.arrays, every, jax.random.key(0)))


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("shape", [(20, 6), (20, 7, 3)])
def test_each_feature_is_standard_and_comes_back_in_its_unit(tmp_path, shape, storage):
    values = numbers(*shape)
    np.savez(tmp_path / "set.npz", values=values)
    source = data.get("vectors", path=tmp_path / "set.npz", storage=storage)
    images = drawn(source)
    assert images.shape == (20, 1, *(shape[1:] if len(shape) == 3 else (6, 1)))
    by_feature = np.moveaxis(images, 3 if len(shape) == 3 else 2, 0).reshape(shape[-1], -1)
    np.testing.assert_allclose(by_feature.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(by_feature.std(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(source.features.restore(images), values, rtol=1e-5, atol=1e-5)
    assert source.layout == {2: "vector", 3: "series"}[len(shape)]


def test_rules_of_normalisation(tmp_path):
    values = numbers(30, 4)
    common, none = (features.fit(values, rule, "abcd") for rule in ("common", "none"))
    np.testing.assert_allclose(common.normalise(values).var(axis=0).mean(), 1, rtol=1e-5)
    ratio = common.normalise(values).std(axis=0).ravel() / values.std(axis=0)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    np.testing.assert_array_equal(none.normalise(values)[:, 0, :, 0], values.astype(np.float32))


def test_factors_make_a_grid_in_their_order_and_names_are_read(tmp_path):
    values, shuffle = numbers(20, 3), np.random.default_rng(1).permutation(20)
    np.savez(tmp_path / "set.npz", data=values[shuffle], factors=FACTORS[shuffle], factor_names=["u", "v"],
             feature_names=["length", "mass", "time"])  # fmt: skip
    source = data.get("vectors", path=tmp_path / "set.npz")
    assert (source.factor_names, source.factor_sizes) == (("u", "v"), (4, 5))
    assert source.features.names == ("length", "mass", "time")
    np.testing.assert_allclose(source.features.restore(drawn(source)), values, rtol=1e-5)


def test_the_digest_follows_the_numbers_and_not_their_storage(tmp_path):
    values = numbers(20, 3)
    digests = []
    for name, changed, options in (("a", 0, {}), ("b", 0, {"storage": "host"}), ("c", 1e-9, {})):
        np.savez(tmp_path / f"{name}.npz", values=values + changed)
        digests.append(data.get("vectors", path=tmp_path / f"{name}.npz", **options).digest)
    assert digests[0] == digests[1] != digests[2]


def with_entry(value):
    values = numbers(20, 3)
    values[4, 1] = value
    return values


CONSTANT = np.concatenate([numbers(20, 2), np.full((20, 1), 0.1)], axis=1)
WRONG = {
    "nan": ({"values": with_entry(np.nan), "feature_names": ["a", "mass", "c"]}, {}, r"'mass' in 1 places.*\[4, 1\]"),
    "infinite": ({"values": with_entry(np.inf)}, {}, "'x1'"),
    "huge": ({"values": with_entry(1e200)}, {}, "too large.*x1"),
    "one axis": ({"values": np.arange(9)}, {}, r"\[N, F\].*\[N, 1\]"),
    "images": ({"values": np.zeros((9, 4, 4, 1))}, {}, "data.name=archive"),
    "one row": ({"values": np.ones((1, 4))}, {}, "at least 2"),
    "objects": ({"values": np.array([[None, 1]] * 9)}, {}, "pickled"),
    "texts": ({"values": np.array([["a", "b"]] * 9)}, {}, "real numbers"),
    "complex": ({"values": np.ones((9, 2), complex)}, {}, "real numbers"),
    "constant": ({"values": CONSTANT}, {}, "x2.*data.constant=keep"),
    "all constant": ({"values": np.ones((9, 2))}, {"constant": "keep"}, "x0, x1"),
    "names": ({"values": numbers(20, 3), "feature_names": ["a"]}, {}, "3 texts"),
    "factors": ({"values": numbers(20, 3), "factors": FACTORS[:9]}, {}, "9 rows"),
    "member": ({"speed": numbers(20, 3)}, {}, "speed"),
    "rule": ({"values": numbers(20, 3)}, {"normalise": "minmax"}, "data.normalise"),
    "likelihood": ({"values": numbers(20, 3)}, {"likelihood": "bernoulli"}, "likelihood"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_numbers_are_refused_in_one_line_that_names_them(tmp_path, case):
    members, options, fault = WRONG[case]
    np.savez(tmp_path / "set.npz", **members)
    with refused(fault):
        data.get("vectors", path=tmp_path / "set.npz", **options)


def test_constant_features_are_kept_as_zeros(tmp_path):
    np.savez(tmp_path / "set.npz", values=CONSTANT)
    source = data.get("vectors", path=tmp_path / "set.npz", constant="keep")
    assert not np.any(drawn(source)[:, 0, 2])
    np.testing.assert_allclose(source.features.restore(drawn(source))[:, 2], 0.1, rtol=1e-6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(workdir, file) of a run of two stages and groups on vectors."""
    folder = tmp_path_factory.mktemp("vectors")
    np.savez(folder / "set.npz", values=numbers(20, 5), factors=FACTORS)
    config = tiny.config(data={"name": "vectors", "path": str(folder / "set.npz")})
    with pytest.MonkeyPatch.context() as patch:  # the report draws
        patch.setattr(figures, "figures", lambda **_: {})
        patch.setattr(figures, "history_figures", lambda *_, **__: {})
        session.run(config, folder / "run")
    return folder / "run", folder / "set.npz"


def test_a_run_records_the_normalisation_and_takes_vectors_in_their_units(trained, tmp_path):
    workdir, file = trained
    model, values = deft_jax.load(workdir), numbers(20, 5)
    recorded = json.loads((workdir / "source.json").read_text())["features"]
    np.testing.assert_allclose(recorded["offset"], values.mean(axis=0))
    np.testing.assert_allclose(recorded["scale"], values.std(axis=0))
    assert model.model.kind == "mlp"
    by_values, by_factors = model.encode(values).mean, model.encode_factors(FACTORS).mean
    np.testing.assert_allclose(by_values, by_factors, rtol=1e-4, atol=1e-5)
    assert model.decode(by_values).shape == values.shape
    spread = np.abs(model.decode(by_values) - values.mean(axis=0)) / values.std(axis=0)
    assert spread.max() < 10  # in the units of the data
    encode.main(["--workdir", str(workdir), "--images", str(file), "--out", str(tmp_path / "codes.npz")])
    np.testing.assert_allclose(np.load(tmp_path / "codes.npz")["mean"], by_values, rtol=1e-5, atol=1e-6)
    with refused(r"\[N, 5\]"):
        model.encode(values[:, :4])
    with refused("'x0' in 20"):
        model.encode(values * np.nan)


def test_the_report_draws_lines_and_says_what_does_not_apply(trained, tmp_path):
    workdir, _ = trained
    text = page.report([workdir], tmp_path / "page.html").read_text()
    assert "it does not apply" in text
    assert "vectors (normalisation: standard)" in text


def test_without_its_file_the_report_has_the_examples_that_the_run_has_kept(trained, tmp_path):
    workdir, file = trained
    moved = file.rename(tmp_path / "moved.npz")
    try:
        sample = model_sample.draw_sample(deft_jax.load(workdir))
    finally:
        moved.rename(file)
    assert sample.fallback_reason
    order = np.argsort(sample.ground_truth @ [5, 1])
    np.testing.assert_allclose(sample.images[order], numbers(20, 5), rtol=1e-5)


def test_a_description_survives_its_file(tmp_path):
    source = data.get("breast_cancer")
    described = description.describe(source)
    (tmp_path / "source.json").write_text(json.dumps(dataclasses.asdict(described)))
    assert description.read_description(tmp_path) == described


def test_digits_are_the_same_in_each_layout():
    images = drawn(data.get("digits", layout="image"))[..., 0] * 16
    for layout in ("vector", "series"):
        source = data.get("digits", layout=layout)
        restored = source.features.restore(drawn(source)).reshape(-1, 8, 8)
        np.testing.assert_allclose(restored, images, atol=0.04)
