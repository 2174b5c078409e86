"""Records are read as they were written, also after an interruption."""

import io
import json
import struct

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from deft_jax.runtime import files
from deft_jax.runtime import progress as runtime_progress
from deft_jax.training import metrics_log


def scalars(folder):
    """(tag, step, value) of every scalar in the TensorBoard event files of a folder."""
    return [(value.tag, step, value.simple_value) for value, step in values(folder)]


def values(folder):
    """(value, step) of every value in the TensorBoard event files of a folder."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:  # a record: length of 8 bytes, checksum of 4, payload, checksum of 4
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            found += [(value, event.step) for value in event.summary.value]
            content = content[16 + length :]
    return found


def test_atomic_write_leaves_no_other_file(tmp_path):
    path = tmp_path / "new" / "file.json"
    files.write_atomically(path, "first")
    files.write_atomically(path, "second")
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


def test_jsonable_values_survive_json():
    values = {
        "array": np.arange(4).reshape(2, 2),
        "scalar": np.float32(0.5),
        "nested": {"pair": (np.int64(3), None)},
        "text": "posX",
    }
    want = {"array": [[0, 1], [2, 3]], "scalar": 0.5, "nested": {"pair": [3, None]}, "text": "posX"}
    assert json.loads(json.dumps(files.to_jsonable(values))) == want


def test_records_are_read_as_written(tmp_path):
    log = metrics_log.MetricsLog(tmp_path, 0)
    log.write("train", 3, 0, {"loss": np.float32(2.5), "kl_per_latent": np.array([1.0, 0.5])})
    log.write("eval", 3, 0, {"nmi": np.eye(2)})
    assert metrics_log.read_records(tmp_path / "metrics.jsonl") == log.records  # before it is closed
    log.close()
    assert log.records == [
        {"kind": "train", "step": 3, "stage": 0, "loss": 2.5, "kl_per_latent": [1.0, 0.5]},
        {"kind": "eval", "step": 3, "stage": 0, "nmi": [[1.0, 0.0], [0.0, 1.0]]},
    ]
    assert scalars(tmp_path / "tensorboard") == [
        ("train/loss", 3, 2.5),
        ("train/kl_per_latent/0", 3, 1.0),
        ("train/kl_per_latent/1", 3, 0.5),
    ]


def test_images_and_histograms_are_read_as_written(tmp_path):
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    numbers = np.array([0.0, 0.0, 1.0, 4.0])
    log = metrics_log.MetricsLog(tmp_path, 0)
    log.show(7, {"grid": pixels}, {"latents/mean/0": numbers})
    log.close()
    image, histogram = values(tmp_path / "tensorboard")
    assert (image[0].tag, image[1], histogram[0].tag, histogram[1]) == ("grid", 7, "latents/mean/0", 7)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(image[0].image.encoded_image_string))), pixels)
    content = histogram[0].histo
    assert (content.min, content.max, content.num, content.sum, content.sum_squares) == (0, 4, 4, 5, 17)
    below = [count for count, limit in zip(content.bucket, content.bucket_limit, strict=True) if limit <= 0.5]
    assert sum(below) == 2


def test_incomplete_line_is_ignored_and_replaced_by_the_next_record(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = [{"kind": "train", "step": step, "stage": 0, "loss": 1.0} for step in (1, 2)]
    lines = [json.dumps(record) for record in whole]
    for cut in range(1, len(lines[1])):
        path.write_text(lines[0] + "\n" + lines[1][:cut])
        assert metrics_log.read_records(path) == whole[:1]
    log = metrics_log.MetricsLog(tmp_path, 2)
    log.write("train", 2, 0, {"loss": 1.0})
    log.close()
    assert path.read_text().splitlines() == lines


def test_records_after_the_step_of_the_checkpoint_are_dropped(tmp_path):
    log = metrics_log.MetricsLog(tmp_path, 0)
    for step in range(1, 6):
        log.write("train", step, 0, {"loss": step})
    log.close()
    log = metrics_log.MetricsLog(tmp_path, 3)
    assert [record["step"] for record in log.records] == [1, 2, 3]
    log.write("train", 4, 0, {"loss": 40})
    log.close()
    read = metrics_log.read_records(tmp_path / "metrics.jsonl")
    assert [(record["step"], record["loss"]) for record in read] == [(1, 1), (2, 2), (3, 3), (4, 40)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_without_a_terminal_is_plain_lines():
    stream = io.StringIO()
    progress = runtime_progress.Progress(1000, 0, stream)
    progress.write("stage 0")
    progress.update(20, ["beta 8", "loss 1.5"])
    progress.close()
    assert stream.getvalue() == "stage 0\nstep   20/1000  beta 8  loss 1.5\n"


def test_progress_on_a_terminal_is_a_bar_that_starts_at_the_resumed_step():
    stream = Terminal()
    progress = runtime_progress.Progress(1000, 400, stream)
    progress.update(500, ["beta 8"])
    progress.write("a line")
    progress.close()
    text = stream.getvalue()
    assert "500/1000" in text
    assert "400/1000" in text
    assert "beta 8" in text
    assert "a line\n" in text
