"""The file that scores are added to, its reasons for missing ones, and the progress on stderr."""

import io

import pytest
import tiny

from deft_jax.runtime.files import read_object
from deft_jax.studies import scoring_progress
from deft_jax.studies.score_file import ScoreFile
from deft_jax.studies.scoring_progress import ScoringProgress
from deft_jax.training import build
from deft_jax.training.config import parse_training


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("quiet", "parts"), [(0.0, 3), (1e9, 0)])
def test_without_a_terminal_there_is_a_line_per_metric_and_sometimes_per_part(monkeypatch, quiet, parts):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr(scoring_progress, "_QUIET", quiet)
    with ScoringProgress(2, "run") as progress:
        for name in ("mig", "dci"):
            progress.start(name)
            for done in (1, 2, 3) if name == "dci" else ():
                progress.within(done, 3)
            progress.finish()
        lines = progress._stream.getvalue().splitlines()
    assert lines[:2] == ["run: 1/2  mig", "run: 2/2  dci"]
    assert lines[2:] == [f"run: 2/2  dci: {done} of 3" for done in (1, 2, 3)][:parts]


def test_on_a_terminal_a_bar_names_the_metric_and_is_removed_at_the_end(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    with ScoringProgress(2, "run") as progress:
        progress.start("dci, mean")
        progress.within(1, 5)
        progress.print_line("a line")
        progress.finish()
        text = progress._stream.getvalue()
        assert progress._bar.n == 1
    assert "dci, mean: 1 of 5" in text
    assert "a line\n" in text
    assert progress._stream.getvalue().endswith("\r")


def test_a_score_outlives_a_refusal_of_the_same_sample(tmp_path):
    path = tmp_path / "results.json"

    def fails():
        raise MemoryError("no space")

    for compute in (lambda: {"mig": 0.5}, fails):
        scores = ScoreFile(path, ("mean",), {"seed": 0}, ("mig",))
        scores.add("mean", "mig", compute)
    evaluation = read_object(path)["evaluation"]
    assert evaluation["scores"]["mean"] == {"mig": {"mig": 0.5}}
    assert evaluation["refused"]["mean"] == {}
    with pytest.raises(ValueError, match=r"no metric could be computed: mig \(MemoryError: no space\)"):
        scores.result()


def test_an_option_that_needs_more_images_than_the_set_has_is_refused_before_training():
    periodic_metrics = {"sap": {"every": 4, "num_train": 40}}
    training = parse_training(tiny.config(periodic_metrics=periodic_metrics, evaluation={"num_samples": 64}))
    with pytest.raises(ValueError, match=r"periodic_metrics\.sap\.num_train must be below the number of images, 32"):
        build.check_metrics(training, tiny.squares())


@pytest.mark.parametrize("value", [3.0, None, [("a", 1.0)]])
def test_a_metric_that_returns_no_dict_is_refused(tmp_path, value):
    scores = ScoreFile(tmp_path / "results.json", ("codes",), {}, ("custom",))
    scores.add("codes", "custom", lambda: value)
    with pytest.raises(ValueError, match=f"must return a dict of scores, got {type(value).__name__}"):
        scores.result()
