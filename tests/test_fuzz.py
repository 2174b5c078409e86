"""Random damage, the same in every run: configs and archives are accepted, or refused with a line per fault.

What is refused raises ValueError, a config in the checks that come before anything compiles; no pickle in a file is
ever opened.
"""

import copy
import io
import re
import zipfile

import jax
import numpy as np
import pytest
import tiny
from refusals import refused

from deft_jax.data.archive import archive
from deft_jax.data.source import Source
from deft_jax.objectives import registry
from deft_jax.studies import scoring
from deft_jax.training import build as training_build
from deft_jax.training.config import parse_training

# ---- configs ----

FALL = {"rule": "exponential", "start": 70.0, "end": 1.0, "rate": 15.0, "thresholds": (12.0,)}
BASES = [
    tiny.config(periodic_metrics={"mig": {"every": 4, "num_bins": 10}, "dci": {"every": 4}}),
    tiny.config(stages=FALL, model={"groups": (1, 3), "width": (2, 4)}, data={"only": {"size": 1}}),
    tiny.config(data={"name": "listed_squares", "labelled": True}, optimizer={"gamma": 0.0, "decay": "cosine"}),
    tiny.config(data={"name": "translation(radius=0:4)", "grid": "polar"}, optimizer={"b1": 0.8, "weight_decay": 0.1}),
    *(tiny.config(objective={"name": name}) for name in registry.OBJECTIVES),
    tiny.config(objective={"name": "dynamic_vae", "kl_target": 9.0, "period": 50, "ramp_steps": 5, "beta_start": 4.0}),
    tiny.config(objective={"name": "control_vae", "beta_max": float("inf"), "kp": 0.1, "increment": 0.5}),
    tiny.config(objective={"name": "devae", "betas": (10.0, 40.0)}),
    tiny.config(objective={"name": "dip_vae_i", "lambda_od": 1.0, "lambda_d": None}),
]
NUMBERS = [0, 1, -1, 7, 2**31 - 1, 2**31, 2**63, -(10**30), 10**400, 0.0, -0.0, 0.5, 5e-324, 1e-30, 1e38, 1e39,
           1e308, -1e308, float("nan"), float("inf"), float("-inf"), np.float32(3), np.int64(3),
           np.float64("nan")]  # fmt: skip
GARBAGE = [None, True, False, "", "x", "1e3", "a\nb", "squares(", "squares(size=7)", "squares(size=0:9:0)", ":", "x:y",
           "x" * 1000, b"bytes", [], (), {}, [[]], [None], ("a", 1), [float("nan")], [1, [2]], {"a": 1}, {1: 2},
           {None: {}}, {"a": {"b": []}}, 1 + 2j, range(3), object(), len, np.zeros(2), np.zeros((2, 2)),
           {1, 2}]  # fmt: skip


def places(config, before=()):
    """The path of every field, sections included."""
    for name, value in config.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from places(value, (*before, name))


def mutate(config, rng):
    """One field dropped, added, moved, or set to something else."""
    options = list(places(config))
    *sections, name = options[rng.integers(len(options))]
    section = config
    for part in sections:
        section = section[part]
    kind = rng.integers(8)
    if kind == 0:
        del section[name]
    elif kind == 1:
        section["surplus"] = section.pop(name)
    elif kind == 2:
        section[3] = "a name that is no text"
    elif kind <= 5:
        section[name] = NUMBERS[rng.integers(len(NUMBERS))]
    else:
        section[name] = GARBAGE[rng.integers(len(GARBAGE))]


def refusal(call, note):
    """What a call is refused with, None where it is not; any other exception goes on, with a note."""
    try:
        call()
    except ValueError as error:
        return str(error)
    except Exception as error:
        error.add_note(note)
        raise
    return None


def is_one_line(text):
    return 0 < len(text) < 1000 and "\n" not in text


def is_one_line_per_fault(text):
    lines = text.split("\n")
    return len(set(lines)) == len(lines) and all(map(is_one_line, lines))


def checked(config):
    """What a run does with its configuration before anything compiles."""
    built = training_build.build(config)
    training_build.check_metrics(parse_training(config), built.source)


@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_config_is_refused_with_a_line_per_fault_or_accepted(seed):
    rng = np.random.default_rng(seed)
    refused = 0
    for number in range(80):
        config = copy.deepcopy(BASES[rng.integers(len(BASES))])
        for _ in range(rng.integers(1, 4)):
            mutate(config, rng)
        message = refusal(lambda: checked(config), f"config {number}: {config}")  # noqa: B023
        assert message is None or is_one_line_per_fault(message), config
        refused += message is not None
    assert refused > 40


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda value: type(value).__name__)
def test_values_that_are_no_config_are_refused(garbage):
    assert is_one_line_per_fault(refusal(lambda: training_build.build(garbage), "") or "")


def test_undamaged_configs_are_accepted():
    for config in BASES:
        assert refusal(lambda: checked(copy.deepcopy(config)), "") is None  # noqa: B023


# ---- archives ----

SIZES, COUNT = (3, 2, 4), 24
CLASSES = np.stack(np.unravel_index(np.arange(COUNT), SIZES), -1)


def members(flag):
    """Arrays of an archive of images, and of one of codes, that are as they should be; and others that are not."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 16, 16), np.uint8)
    codes = rng.normal(size=(COUNT, 3))
    strange = {
        "objects": np.array([tiny.Trap(flag)] * COUNT, object),
        "object": np.array(tiny.Trap(flag), object),
        "structured": np.zeros(COUNT, [("a", "f4"), ("b", object)]),
        "fields": np.zeros((COUNT, 2), [("a", "f4")]),
        "dates": np.zeros((COUNT, 2), "M8[s]"),
        "complex": np.zeros((COUNT, 2), complex),
        "text": np.full((COUNT, 2), "text"),
        "bytes": np.full((COUNT, 2), b"bytes"),
        "void": np.zeros((COUNT, 2), "V7"),
        "half": np.full((COUNT, 16, 16), 0.5, np.float16),
        "long": np.full((COUNT, 16, 16), 0.5, np.longdouble),
        "big-endian": rng.integers(0, 3, (COUNT, 2)).astype(">i8"),
        "nan": np.full((COUNT, 3), np.nan),
        "infinite": np.full((COUNT, 16, 16), np.inf, np.float32),
        "unsigned": np.full((COUNT, 2), 2**64 - 1, np.uint64),
        "large": np.tile([[2**62], [3]], (COUNT // 2, 2)),
        "negative": np.full((COUNT, 2), -5),
        "scalar": np.float64(3),
        "empty": np.zeros((0, 3)),
        "thin": np.zeros((COUNT, 0)),
        "flat": np.zeros(COUNT),
        "deep": np.zeros((COUNT, 1, 1, 1, 1)),
        "bool": rng.integers(0, 2, (COUNT, 3)) > 0,
    }
    return {"images": images, "factors": CLASSES}, {"codes": codes, "factors": CLASSES}, strange


def npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=True)
    return buffer.getvalue()


def packed(parts, deflated):
    """A zip of these members, name -> bytes of the .npy file: its checksums are those of what it holds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive_file:
        for name, content in parts.items():
            archive_file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


HEADERS = [
    (rb"'descr': '[^']*'", [b"'descr': '|O'", b"'descr': '<f8'", b"'descr': '|V0'", b"'descr': 'x'", b"'descr': []"]),
    (rb"\((\d+), [^)]*\)", [b"(24, 99999999999)", b"(-24, 3)", b"(24, 3, None)", b"(True, 3)", b"((24, 3),)", b"()"]),
    (rb"False", [b"True", b"3", b"None"]),
    (rb"\{", [b"", b"((((((", b"{{", b"{'a': 1, ", b"# "]),
    (rb"fortran_order", [b"fortran_ordem", b"descr"]),
]


def flipped(content, rng, count=None):
    content = bytearray(content)
    for _ in range(count or rng.integers(1, 9)):
        content[rng.integers(len(content))] = rng.integers(256)
    return bytes(content)


def damaged(good, strange, rng):
    """The bytes of an archive with one kind of damage."""
    parts, deflated = {name: npy(array) for name, array in good.items()}, bool(rng.integers(2))
    chosen = list(parts)[rng.integers(len(parts))]
    kind = rng.integers(7)
    if kind == 0:
        whole = packed(parts, deflated)
        return whole[: rng.integers(len(whole))]
    if kind == 1:
        return flipped(packed(parts, deflated), rng)
    if kind == 2:  # the ends of a zip hold its table of contents
        whole = packed(parts, deflated)
        return whole[:-200] + flipped(whole[-200:], rng)
    if kind == 3:
        parts[chosen] = npy(strange[list(strange)[rng.integers(len(strange))]])
    elif kind == 4:
        pattern, others = HEADERS[rng.integers(len(HEADERS))]
        parts[chosen] = re.sub(pattern, others[rng.integers(len(others))], parts[chosen][:128], count=1) + (
            parts[chosen][128:]
        )
    elif kind == 5:
        parts[chosen] = flipped(parts[chosen][:128], rng) + parts[chosen][128:]
    else:
        content = parts[chosen]
        parts[chosen] = flipped(content, rng, 4)[: rng.integers(len(content))] if rng.integers(2) else content * 2
    return packed(parts, deflated)


def images_of(path):
    source = archive(path)
    assert isinstance(source, Source)
    assert source.num_images >= 2
    for leaf in jax.tree.leaves(source.arrays):
        assert np.isfinite(leaf).all()


def scores_of(path):
    scores = scoring.evaluate_codes(path, ("mig",))["scores"]["codes"]
    assert -1e-6 <= scores["mig"]["mig"] <= 1 + 1e-6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("which", "read"), [(0, images_of), (1, scores_of)], ids=["images", "codes"])
def test_a_damaged_archive_is_refused_in_one_line_or_read(which, read, seed, tmp_path):
    rng, flag = np.random.default_rng(seed), tmp_path / "unpickled"
    contents = members(flag)
    refused = 0
    for number in range(80):
        content = damaged(contents[which], contents[2], rng)
        path = tmp_path / f"{number}.npz"
        path.write_bytes(content)
        message = refusal(lambda: read(path), f"archive {number} of seed {seed}")  # noqa: B023
        assert message is None or is_one_line(message), number
        assert not flag.exists(), "a pickle was opened"
        refused += message is not None
    assert 40 < refused < 80


OTHERS = [b"", b"PK", b"\x80\x04N.", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"{}", b"\x00" * 99]


@pytest.mark.parametrize("content", OTHERS)
@pytest.mark.parametrize("name", ["set.npz", "set.npy", "set"])
def test_files_of_another_kind_are_refused(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    for read in (images_of, scores_of):
        with refused(name):
            read(tmp_path / name)


def test_the_traps_work(tmp_path):
    contents = members(tmp_path / "unpickled")
    (tmp_path / "trap.npz").write_bytes(packed({"x": npy(contents[2]["object"])}, deflated=False))
    np.load(tmp_path / "trap.npz", allow_pickle=True)["x"]
    assert (tmp_path / "unpickled").exists()
