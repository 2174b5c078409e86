"""The sections of an annealing test: its freezing points by each instrument."""

import csv
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from deft_jax.reporting.elements import facts, figure, note, side_by_side, table
from deft_jax.reporting.runs import Run
from deft_jax.reporting.training_page import configuration, options
from deft_jax.runtime.files import read_object


def point(told: Mapping | None) -> str:
    """A freezing point as text, with < or > where it lies beyond the sweep."""
    from deft_jax.annealing.freezing_points import Point

    return "" if told is None else str(Point(told["beta"], told["censored"]))


def read_trials(workdir: pathlib.Path) -> list[dict]:
    """The rows of trials.csv as freezing.json holds them: factor, bound, beta, censored; [] without the file."""
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


def trials_summary(rows: Sequence[Mapping]) -> dict[str, dict]:
    """What freezing.json says of each factor as far as the rows of its trials tell: median, quartiles, interval."""
    from deft_jax.annealing import freezing_points

    summary = {}
    for name in dict.fromkeys(row["factor"] for row in rows):
        own = [row for row in rows if row["factor"] == name]
        told = freezing_points.summarise([freezing_points.Point(row["beta"], row["censored"]) for row in own])
        seen = [1 - row["beta"] / row["bound"] for row in own if not row["censored"]]
        summary[name] = {
            "median": told.median._asdict(),
            "quartiles": [told.lower._asdict(), told.upper._asdict()],
            "interval": told.interval and [end._asdict() for end in told.interval],
            "above": told.above,
            "below": told.below,
            "count": told.count,
            "bound": float(np.median([row["bound"] for row in own])),
            "lag": float(np.median(seen)) if seen else None,
        }
    return summary


def trials_table(factors: Mapping[str, Mapping]) -> str:
    """The freezing points of single factors."""
    rows = []
    for name, told in sorted(factors.items(), key=lambda entry: -entry[1]["median"]["beta"]):
        interval = "too few trials" if not told["interval"] else " to ".join(map(point, told["interval"]))
        shift = told.get("shift_by_halving_the_speed")
        rows.append([
            name, point(told["median"]), " to ".join(map(point, told["quartiles"])), interval, told["count"],
            told["above"], told["below"], f"{told['bound']:.3g}",
            "" if told["lag"] is None else f"{told['lag']:.0%}", "" if shift is None else f"{shift:+.0%}",
        ])
    head = ["factor", "median β", "quartiles", "95 % of the median", "trials", "above", "below", "bound", "lag"]
    return table([*head, "at half speed"], rows, "Freezing points of single factors, from the highest median down.")


def points_table(results: Mapping) -> str:
    """The freezing point of each factor by each instrument."""
    measured = [name for name in ("spectrum", "trials", "whole") if "points" in results.get(name, {})]
    names = list(dict.fromkeys(factor for name in measured for factor in results[name]["points"]))
    first = results[measured[0]]["points"] if measured else {}
    names.sort(key=lambda factor: -(first.get(factor) or {"beta": 0.0})["beta"])
    heads = {"spectrum": "spectrum (upper bound)", "trials": "trials (median)", "whole": "whole set"}
    rows = [[factor, *(point(results[name]["points"].get(factor)) for name in measured)] for factor in names]
    head = ["factor", *(heads[name] for name in measured)]
    return table(head, rows, "β at which the information of a factor freezes.")


def stages_table(betas: Mapping) -> str:
    """The betas of stages that were made of the freezing points."""
    rows = [
        [f"stage {index}", f"{beta:.3g}", ", ".join(names) or "the rest"]
        for index, (beta, names) in enumerate(zip(betas["betas"], betas["stages"], strict=True))
    ]
    return table(["stage", "β", "learns"], rows, f"Betas for the stages of a training, from {betas['source']}.")


def spectrum_part(result: Mapping | None, factor_names: Sequence[str]) -> str:
    """Eigenvalues and the factors that the modes are made of."""
    from deft_jax.annealing import plots

    if result is None:
        return note("Not measured.")
    made = plots.spectrum(result["eigenvalues"], result["total_effects"], factor_names, result["modes"])
    return figure(
        made, "Eigenvalues of the freezing spectrum above the factors that each mode is made of.",
        f"{len(result['eigenvalues'])} modes of {result['num_samples']:,} images. A factor freezes below the "
        f"eigenvalue of the first mode of which it makes up {result['share']:.0%}.",
    )


def trials_part(result: Mapping | None, rows: Sequence[Mapping], curves: Mapping | None, threshold: float) -> str:
    """Freezing points of trials on single factors.

    result: of freezing.json, None where it has none yet. rows: of the trials. curves: 'betas' [E], 'kl' [T, E] and
    'factor' [T], None where there are none.
    """
    from deft_jax.annealing import plots

    if not rows and curves is None:
        return note("Not measured.")
    parts = []
    seen = [row for row in rows if not row["censored"]]
    if rows:
        parts.append(trials_table(result["factors"] if result else trials_summary(rows)))
    figures = []
    if seen:
        made = plots.densities(*([row[name] for row in seen] for name in ("beta", "factor", "bound")))
        figures.append(figure(
            made, "Distribution of the freezing points of each factor.",
            "A mark a trial; line: the median; triangle: the median bound from the spectrum of the same sweeps.",
        ))
    if curves is not None:
        made = plots.kl_over_beta(curves["betas"], curves["kl"], curves["factor"].tolist(), threshold)
        figures.append(figure(
            made, "KL of every trial over falling beta, coloured by factor.",
            f"Bold: the median of a factor's trials; dashed: the threshold of {threshold:g} nat.", kind="png",
        ))
    return "".join(parts) + side_by_side(*figures)


def whole_part(result: Mapping | None, window: int) -> str:
    """One model on the whole set while beta falls. window: that the information is smoothed over."""
    from deft_jax.annealing import freezing_points, plots

    if result is None:
        return note("Not measured.")
    history, peaks = result["history"], [peak["beta"] for peak in result["peaks"]]
    rate = freezing_points.information_rate(np.array(history["beta"]), np.array(history["mutual_information"]), window)
    ordered = sorted(result["latents"], key=lambda told: -told["beta"])
    made = figure(
        plots.whole_set(history, rate, peaks, list(result["points"])),
        "Information, its rate, KL per latent and information on each factor over falling beta.",
        "Vertical lines: peaks of the rate at which information is taken up.",
    )
    read_off = facts({
        "Latents freeze at β": ", ".join(map(point, ordered)),
        "Peaks of the rate at β": ", ".join(f"{beta:.3g}" for beta in peaks) or "none",
    })
    return side_by_side(made, read_off)


def read_curves(workdir: pathlib.Path) -> dict | None:
    """The arrays of curves.npz, None without the file."""
    path = workdir / "curves.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("betas", "kl", "factor")}
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def annealing_sections(anchor: str, run: Run) -> list[tuple[str, str]]:
    """(heading, HTML) of an annealing test."""
    config, results = run.config, run.results
    names = results["factor_names"]
    devices = results.get("devices", [])
    seconds = sum(results[name].get("seconds", 0.0) for name in config["instruments"] if name in results)
    about = facts({
        "Workdir": str(run.workdir),
        "Data": options(config["data"]),
        "Instruments": ", ".join(
            name if name in results else f"{name} (not finished)" for name in config["instruments"]
        ),
        "Seed": str(config["seed"]),
        "Machine": ", ".join(f"{devices.count(name)} × {name}" for name in dict.fromkeys(devices)),
        "Time": f"{seconds:,.0f} s",
    })
    betas = read_object(run.workdir / "betas.json")
    result = results.get("trials")
    rows = result["rows"] if result else read_trials(run.workdir)
    threshold = config.get("trials", {}).get("threshold", 0.1)
    window = config.get("whole", {}).get("smooth", 3)
    made = {
        "spectrum": lambda: spectrum_part(results.get("spectrum"), names),
        "trials": lambda: trials_part(result, rows, read_curves(run.workdir), threshold),
        "whole": lambda: whole_part(results.get("whole"), window),
    }
    headings = {"spectrum": "Freezing spectrum", "trials": "Trials of single factors", "whole": "The whole set"}
    return [
        ("Run", about + configuration(config)),
        ("Freezing points", points_table(results) + (stages_table(betas) if betas else "")),
        *((headings[name], made[name]()) for name in headings if name in config["instruments"]),
    ]
