"""What a report shows of an annealing test: the list of its sections, and their data."""

import csv
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.reporting.elements import Image, Section, Table, image_of
from deft_jax.reporting.run_summary import RunSummary, devices_text, options_text, run_summary
from deft_jax.reporting.runs import Run
from deft_jax.runtime.files import read_object

JsonObject = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class FreezingPoints(Section):
    """The freezing point of each factor by each instrument, and the betas of stages that follow from them.

    Attributes:
      points: one row per factor.
      stages: one row per stage; None where betas.json is not written yet.
      source: the instrument whose freezing points the stages follow from.
    """

    points: Table
    stages: Table | None
    source: str

    heading = "Freezing points"
    template = "freezing_points.html.j2"


@dataclasses.dataclass(frozen=True)
class FreezingSpectrum(Section):
    """Eigenvalues and the factors in each mode.

    Attributes:
      image: None where the spectrum was not measured.
      num_modes: of the spectrum.
      num_images: that it was computed from.
      share: of a mode's variance that a factor must make up.
    """

    image: Image | None
    num_modes: int = 0
    num_images: int = 0
    share: float = 0.0

    heading = "Freezing spectrum"
    template = "freezing_spectrum.html.j2"


@dataclasses.dataclass(frozen=True)
class FactorTrials(Section):
    """Freezing points of trials on single factors.

    Attributes:
      table: one row per factor; None where no trial is finished.
      densities: of the freezing points; None where information froze in no trial.
      curves: KL over beta; None where there are no curves.
      threshold: KL in nats at which a trial freezes.
    """

    table: Table | None
    densities: Image | None
    curves: Image | None
    threshold: float

    heading = "Trials of single factors"
    template = "factor_trials.html.j2"


@dataclasses.dataclass(frozen=True)
class WholeSet(Section):
    """One model on the whole set while beta falls.

    Attributes:
      image: None where it was not measured.
      facts: name -> text.
    """

    image: Image | None
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    heading = "The whole set"
    template = "whole_set.html.j2"


def annealing_sections(run: Run) -> list[Section]:
    """The sections of an annealing test, in their order.

    Raises:
      ValueError: a file of the workdir is damaged.
    """
    config, results = run.config, run.results
    trials = results.get("trials")
    rows = trials["rows"] if trials else read_trials(run.workdir)
    threshold = config.get("trials", {}).get("threshold", 0.1)
    window = config.get("whole", {}).get("smooth", 3)
    section_of_instrument = {
        "spectrum": lambda: freezing_spectrum(results.get("spectrum"), results["factor_names"]),
        "trials": lambda: factor_trials(trials, rows, read_curves(run.workdir), threshold),
        "whole": lambda: whole_set(results.get("whole"), window),
    }
    return [
        annealing_summary(run),
        freezing_points(results, read_object(run.workdir / "betas.json")),
        *(section() for name, section in section_of_instrument.items() if name in config["instruments"]),
    ]


def annealing_summary(run: Run) -> RunSummary:
    """The data, the instruments, the machine and the time."""
    config, results = run.config, run.results
    seconds = sum(results[name].get("seconds", 0.0) for name in config["instruments"] if name in results)
    instruments = [name if name in results else f"{name} (not finished)" for name in config["instruments"]]
    facts = {
        "Workdir": str(run.workdir),
        "Data": options_text(config["data"]),
        "Instruments": ", ".join(instruments),
        "Seed": str(config["seed"]),
        "Machine": devices_text(results.get("devices", [])),
        "Time": f"{seconds:,.0f} s",
    }
    return run_summary(facts, config)


def freezing_points(results: JsonObject, betas: JsonObject | None) -> FreezingPoints:
    """The freezing points of freezing.json, and the stages of betas.json."""
    columns = {"spectrum": "spectrum (upper bound)", "trials": "trials (median)", "whole": "whole set"}
    points = {name: results[name]["points"] for name in columns if "points" in results.get(name, {})}
    factors = list(dict.fromkeys(factor for by_factor in points.values() for factor in by_factor))
    first: JsonObject = next(iter(points.values()), {})
    factors.sort(key=lambda factor: -(first.get(factor) or {"beta": 0.0})["beta"])
    rows = [[factor, *(point_text(by_factor.get(factor)) for by_factor in points.values())] for factor in factors]
    table = Table(["factor", *(columns[name] for name in points)], rows)
    if not betas:
        return FreezingPoints(table, None, "")
    stages = [
        [f"stage {index}", f"{beta:.3g}", ", ".join(names) or "the others"]
        for index, (beta, names) in enumerate(zip(betas["betas"], betas["stages"], strict=True))
    ]
    return FreezingPoints(table, Table(["stage", "β", "learns"], stages), betas["source"])


def freezing_spectrum(result: JsonObject | None, factor_names: Sequence[str]) -> FreezingSpectrum:
    """The spectrum of freezing.json; None where it has none."""
    from deft_jax.annealing import plots

    if result is None:
        return FreezingSpectrum(None)
    drawn = plots.spectrum(result["eigenvalues"], result["total_effects"], factor_names, result["modes"])
    return FreezingSpectrum(image_of(drawn), len(result["eigenvalues"]), result["num_samples"], result["share"])


def factor_trials(
    result: JsonObject | None, rows: Sequence[JsonObject], curves: Mapping[str, np.ndarray] | None, threshold: float
) -> FactorTrials:
    """Freezing points of trials on single factors.

    Args:
      result: of freezing.json, None where it has none yet.
      rows: of the trials: 'factor', 'bound', 'beta', 'censored'.
      curves: 'betas' [E], 'kl' [T, E] and 'factor' [T], None where there are none.
      threshold: KL in nats at which a trial freezes.
    """
    from deft_jax.annealing import plots

    table = trials_table(result["factors"] if result else summarise_trials(rows)) if rows else None
    froze = [row for row in rows if not row["censored"]]
    densities = kl = None
    if froze:
        betas, factors, bounds = ([row[name] for row in froze] for name in ("beta", "factor", "bound"))
        densities = image_of(plots.densities(betas, factors, bounds))
    if curves is not None:
        figure = plots.kl_over_beta(curves["betas"], curves["kl"], curves["factor"].tolist(), threshold)
        kl = image_of(figure, "png")
    return FactorTrials(table, densities, kl, threshold)


def trials_table(factors: Mapping[str, JsonObject]) -> Table:
    """The freezing points of single factors, from the highest median down. factors: as of freezing.json."""
    rows = []
    for name, summary in sorted(factors.items(), key=lambda entry: -entry[1]["median"]["beta"]):
        interval = " to ".join(map(point_text, summary["interval"])) if summary["interval"] else "too few trials"
        lag, shift = summary["lag"], summary.get("shift_by_halving_the_speed")
        rows.append([
            name, point_text(summary["median"]), " to ".join(map(point_text, summary["quartiles"])), interval,
            summary["count"], summary["above"], summary["below"], f"{summary['bound']:.3g}",
            "" if lag is None else f"{lag:.0%}", "" if shift is None else f"{shift:+.0%}",
        ])  # fmt: skip
    head = ["factor", "median β", "quartiles", "95 % of the median", "trials", "above", "below", "bound", "lag"]
    return Table([*head, "at half speed"], rows)


def whole_set(result: JsonObject | None, window: int) -> WholeSet:
    """The sweep on the whole set. window: points of the moving mean over the information."""
    from deft_jax.annealing import plots
    from deft_jax.annealing.freezing_points import information_rate

    if result is None:
        return WholeSet(None)
    history, peaks = result["history"], [peak["beta"] for peak in result["peaks"]]
    rate = information_rate(np.array(history["beta"]), np.array(history["mutual_information"]), window)
    latents = sorted(result["latents"], key=lambda point: -point["beta"])
    facts = {
        "Latents freeze at β": ", ".join(map(point_text, latents)),
        "Peaks of the rate at β": ", ".join(f"{beta:.3g}" for beta in peaks) or "none",
    }
    return WholeSet(image_of(plots.whole_set(history, rate, peaks, list(result["points"]))), facts)


def point_text(point: JsonObject | None) -> str:
    """A freezing point as text, with < or > where it lies beyond the sweep; '' for None."""
    from deft_jax.annealing.freezing_points import Point

    return "" if point is None else str(Point(point["beta"], point["censored"]))


def summarise_trials(rows: Sequence[JsonObject]) -> dict[str, dict[str, Any]]:
    """Median, quartiles and interval of each factor, as of freezing.json, from the rows of its trials."""
    from deft_jax.annealing.freezing_points import Point, summarise

    summaries = {}
    for name in dict.fromkeys(row["factor"] for row in rows):
        of_factor = [row for row in rows if row["factor"] == name]
        summary = summarise([Point(row["beta"], row["censored"]) for row in of_factor])
        lags = [1 - row["beta"] / row["bound"] for row in of_factor if not row["censored"]]
        summaries[name] = {
            "median": summary.median._asdict(),
            "quartiles": [summary.lower._asdict(), summary.upper._asdict()],
            "interval": summary.interval and [end._asdict() for end in summary.interval],
            "above": summary.above,
            "below": summary.below,
            "count": summary.count,
            "bound": float(np.median([row["bound"] for row in of_factor])),
            "lag": float(np.median(lags)) if lags else None,
        }
    return summaries


def read_trials(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of trials.csv as freezing.json has them: factor, bound, beta, censored.

    Returns:
      One dict per trial; [] without the file.

    Raises:
      ValueError: the file is damaged.
    """
    path = workdir / "trials.csv"
    if not path.exists():
        return []
    try:
        with path.open(newline="") as lines:
            return [
                {
                    "factor": row["factor"],
                    "bound": float(row["bound"]),
                    "beta": float(row["ifp"]),
                    "censored": row["censored"],
                }
                for row in csv.DictReader(lines)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def read_curves(workdir: pathlib.Path) -> dict[str, np.ndarray] | None:
    """The arrays of curves.npz.

    Returns:
      'betas', 'kl' and 'factor'; None without the file.

    Raises:
      ValueError: the file is damaged.
    """
    path = workdir / "curves.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("betas", "kl", "factor")}
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
