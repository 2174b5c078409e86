"""The annealing test: at which beta does the information of each factor freeze?

    python -m deft_jax.annealing --config configs/ifp_dsprites.py --workdir DIR [--config.field=value ...]

Three instruments (Wu et al. 2022, section 3, for the first two):

spectrum  no training: the eigenvalues at which a collapsed VAE becomes unstable (spectrum.py), of the whole set and
          of every trial's sweep; upper bounds of what the other two measure
trials    labels used: many small VAEs, each on the images of one factor, while beta falls (trials.py)
whole     no labels needed: one VAE on the whole set while beta falls; latents freeze one after the other

Every instrument ends in freezing points read off by one rule (freezing.py), and each of them in the betas of DEFT's
stages. The workdir receives config.json, freezing.json with all results, trials.csv, curves.npz, figures/, and
betas.json, which training takes by --config.stages.betas=@DIR/betas.json.
"""

import csv
import io
import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from deft_jax import commands, data, evaluation, freezing, loop, options, spectrum, trials
from deft_jax.checkpoint import Checkpoints
from deft_jax.description import SAMPLE, check_unchanged, keep
from deft_jax.freezing import Point
from deft_jax.interruption import Signals
from deft_jax.jax_settings import pinned
from deft_jax.logs import Progress, claim, plain, read_object, read_records, write_atomically
from deft_jax.paths import local_path
from deft_jax.source import Source
from deft_jax.workdir import CannotWrite, lock, warn

INSTRUMENTS = ("spectrum", "trials", "whole")
_LEAST_POINTS = 3  # of a curve in which peaks are looked for
HEADROOM = 1.15  # a sweep starts this far above the freezing spectrum
_FIELDS = ("seed", "data", "instruments", "spectrum", "trials", "whole", "betas")
_SPEEDS = {"": 1, "_fast": 2}  # name of a sweep -> how many times the speed


@pinned()
def run(config, workdir: str | pathlib.Path, devices=None) -> dict:
    """Runs the instruments of a configuration and returns what freezing.json holds.

    config: as configs/ifp_dsprites.py. Called again with the same configuration it goes on where it was interrupted.
    devices: for the trials and the whole set; all local ones unless given.
    Raises ValueError in one line where the configuration does not fit, before anything is trained.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else config
    options.check_section("the configuration", config)
    workdir = local_path(workdir, "--workdir")
    missing = [field for field in _FIELDS if field not in config]
    if missing:
        raise ValueError(f"the configuration lacks {', '.join(missing)}; it needs {', '.join(_FIELDS)}")
    options.check_count("seed", config["seed"], least=0)
    options.check_type("instruments", config["instruments"], Sequence[str])
    instruments = tuple(config["instruments"])
    for name in instruments:
        options.choose(dict.fromkeys(INSTRUMENTS), name, "instrument")
    if not instruments:
        raise ValueError(f"instruments is empty; choose from {', '.join(INSTRUMENTS)}")
    _check_fields("data", config["data"], "name")
    _check_fields("betas", config["betas"], "source")
    options.check(freezing.stage_betas, _without(config["betas"], "source"), "betas", ("points",))
    options.choose(dict.fromkeys(INSTRUMENTS), config["betas"]["source"], "betas.source")
    if config["betas"]["source"] not in instruments:
        raise ValueError(f"betas.source is {config['betas']['source']!r}, but the instruments are {instruments}")
    config = dict(config) | {"data": data.with_absolute_paths(config["data"])}
    source = data.get(config["data"]["name"], **_without(config["data"], "name"))
    check_unchanged(source, workdir)
    read_object(workdir / "freezing.json")  # refused now if it is damaged
    # How points become betas may change: nothing is measured by it.
    free = ("betas", *loop.moved_paths(workdir, config, source))
    runs = [_INSTRUMENTS[name](config, source) for name in INSTRUMENTS if name in instruments]
    with lock(workdir):
        claim(workdir, config, free)
        keep(source, workdir, evaluation.draw_factors(source, SAMPLE, config["seed"]))
        for remark in source.remarks:
            print(f"data: {remark}")
        return _measure(config, source, runs, workdir, devices)


def _measure(config, source, runs, workdir: pathlib.Path, devices) -> dict:
    """Runs the instruments in a workdir that is this process's own."""
    # What an earlier call has measured stays until this one has measured it anew.
    results = (read_object(workdir / "freezing.json") or {}) | {
        "factor_names": source.factor_names,
        "seed": config["seed"],
        "devices": [device.device_kind for device in devices or jax.local_devices()],
        "versions": {"jax": jax.__version__},
    }
    for instrument in runs:
        begin = time.perf_counter()
        results[instrument.name] = instrument.measure(workdir, devices)
        results[instrument.name]["seconds"] = time.perf_counter() - begin
        write_atomically(workdir / "freezing.json", json.dumps(plain(results), indent=2) + "\n")
        print(instrument.table(results[instrument.name]) + "\n")
        try:
            instrument.draw(results[instrument.name], workdir / "figures")
        except CannotWrite:
            raise
        except Exception as error:
            warn(f"the figure of {instrument.name} failed and is left out ({type(error).__name__}: {error})")
    _write_betas(config["betas"], results, workdir)
    return plain(results)


def _without(section: Mapping, *names: str) -> dict:
    return {key: value for key, value in section.items() if key not in names}


def _check_fields(name: str, section: Mapping, *fields: str) -> None:
    """That a section is one, and has these fields."""
    options.check_section(name, section)
    missing = [field for field in fields if field not in section]
    if missing:
        raise ValueError(f"{name} lacks the field {', '.join(map(repr, missing))}")


def _check_reading(section: Mapping, name: str) -> None:
    """The fields by which curves are read."""
    options.check_above(f"{name}.threshold", section["threshold"])
    options.check_type(f"{name}.smooth", section["smooth"], int)
    options.check_type(f"{name}.beta_min", section["beta_min"], float)
    if section["smooth"] < 1 or section["smooth"] % 2 == 0:
        told = "the window of a moving mean, must be odd and at least 1"
        raise ValueError(f"{name}.smooth, {told}, got {section['smooth']}")


def _point(point: Point) -> dict:
    return {"beta": point.beta, "censored": point.censored}


def _beta_max(given: float | None, top: float, where: str, section: str) -> float:
    """Where a sweep starts: above the spectrum, or where it is told if that is not below the spectrum."""
    if given is None:
        return HEADROOM * top
    options.check_above(f"{section}.beta_max", given)
    if given < top:
        raise ValueError(
            f"{section}.beta_max = {given:g} lies below the freezing spectrum, which reaches {top:.1f} ({where}): "
            f"information would be frozen from the start; leave it out, or take at least {math.ceil(top)}"
        )
    return given


def order_line(points: Mapping[str, Point | None]) -> str:
    """The names by falling freezing point; those that never froze last, in brackets."""
    seen = {name: point for name, point in points.items() if point is not None and point.censored != freezing.BELOW}
    ordered = sorted(seen, key=lambda name: -seen[name].order)
    never = [name for name in points if name not in seen]
    return " > ".join(ordered) + (f"  (not frozen: {', '.join(never)})" if never else "")


class _Spectrum:
    """The freezing spectrum of the whole set."""

    name = "spectrum"

    def __init__(self, config, source: Source):
        self.source, self.config, self.seed = source, config["spectrum"], config["seed"]
        given = ("source", "seed")
        _check_fields("spectrum", self.config, "share")
        options.check(spectrum.freezing_spectrum, _without(self.config, "share"), "spectrum", given)
        options.check_type("spectrum.share", self.config["share"], float)
        if not 0 < self.config["share"] <= 1:
            raise ValueError(f"spectrum.share must be above 0 and at most 1, got {self.config['share']}")
        if self.config.get("num_modes", 1) < 1 or self.config.get("num_samples", 2) < 2:
            raise ValueError("spectrum needs num_modes >= 1 and num_samples >= 2")

    def measure(self, workdir, devices) -> dict:
        found = spectrum.freezing_spectrum(self.source, seed=self.seed, **_without(self.config, "share"))
        modes = spectrum.factor_points(found, self.source.factor_names, self.config["share"])
        lowest = Point(float(found.eigenvalues[-1]), freezing.BELOW)
        points = {
            name: lowest if mode is None else Point(float(found.eigenvalues[mode])) for name, mode in modes.items()
        }
        return found._asdict() | {
            "modes": modes,
            "share": self.config["share"],
            "points": {name: _point(point) for name, point in points.items()},
        }

    def table(self, result) -> str:
        names, modes = self.source.factor_names, result["modes"]
        lines = [
            f"Freezing spectrum of the whole set: {len(result['eigenvalues'])} modes of {result['num_samples']} images",
            f"{'factor':<14}{'bound':>8}{'+-':>7}  first mode of which it makes up {result['share']:.0%}",
        ]
        for name in sorted(names, key=lambda name: -result["points"][name]["beta"]):
            point, mode = Point(**result["points"][name]), modes[name]
            error = "" if mode is None else f"{result['standard_errors'][mode]:.2g}"
            told = "none of them"
            if mode is not None:
                told = f"{mode} ({result['total_effects'][mode][names.index(name)]:.2f})"
            lines.append(f"{name:<14}{point!s:>8}{error:>7}  {told}")
        return "\n".join(lines)

    def draw(self, result, directory) -> None:
        from deft_jax import freezing_plots, plots

        figure = freezing_plots.spectrum(
            result["eigenvalues"], result["total_effects"], self.source.factor_names, result["modes"]
        )
        plots.save(figure, directory / "spectrum.png")


class _Trials:
    """Trials of single factors, at one speed and, to see how far a finite speed matters, at twice that speed."""

    name = "trials"

    def __init__(self, config, source: Source):
        own = ("factors", "num_trials", "threshold", "smooth", "beta_max", "beta_min", "checkpoint_every")
        section = self.config = config["trials"]
        _check_fields("trials", section, *own)
        options.check(trials.Settings, _without(section, *own), "trials", ("beta_max", "beta_min"))
        _check_reading(section, "trials")
        points = section.get("points", trials.Settings.points)
        counts = {name: section[name] for name in ("checkpoint_every", "num_trials", "steps")} | {"points": points}
        for name, count in counts.items():
            options.check_count(f"trials.{name}", count)
        options.check_type("trials.factors", section["factors"], Sequence[str])
        if section["steps"] % (max(_SPEEDS.values()) * points):
            raise ValueError(
                f"trials.steps = {section['steps']} must be a multiple of {max(_SPEEDS.values()) * points}: "
                f"the sweep is run at double speed too, and each has {points} points"
            )
        varying = [name for name, size in zip(source.factor_names, source.factor_sizes, strict=True) if size > 1]
        self.names = tuple(section["factors"]) or tuple(varying)
        self.source = source
        self.buckets = trials.plan(source, self.names, section["num_trials"], config["seed"])
        self.bounds = trials.in_order(self.buckets, [bucket.bound for bucket in self.buckets]).astype(float)
        self.bases = trials.in_order(self.buckets, [bucket.base for bucket in self.buckets])
        top = int(self.bounds.argmax())
        beta_max = _beta_max(section["beta_max"], self.bounds[top], f"{self.names[self.factor_of(top)]}", "trials")
        self.settings = {
            name: trials.Settings(
                beta_max=beta_max,
                beta_min=section["beta_min"],
                **_without(section, "steps", *own),
                steps=section["steps"] // speed,
            )
            for name, speed in _SPEEDS.items()
        }

    def factor_of(self, row: int) -> int:
        """Index in `names` of the factor that a row sweeps."""
        return row // self.config["num_trials"]

    def measure(self, workdir, devices) -> dict:
        curves = {name: self._train(workdir, name, devices) for name in _SPEEDS}
        grids = {name: settings.betas for name, settings in self.settings.items()}
        points = {
            name: [
                freezing.freezing_point(grids[name], kl_E, self.config["threshold"], self.config["smooth"])
                for kl_E in curves[name]
            ]
            for name in _SPEEDS
        }
        count = self.config["num_trials"]
        factors = {}
        for index, factor in enumerate(self.names):
            rows = slice(index * count, (index + 1) * count)
            factors[factor] = self._summary(points[""][rows], points["_fast"][rows], self.bounds[rows])
        self._write(workdir, points, curves, grids)
        return {
            "beta_max": self.settings[""].beta_max,
            "beta_min": self.settings[""].beta_min,
            "threshold": self.config["threshold"],
            "factors": factors,
            "points": {factor: row["median"] for factor, row in factors.items()},
            "rows": [
                {"factor": self.names[self.factor_of(row)], "bound": self.bounds[row], **_point(point)}
                for row, point in enumerate(points[""])
            ],
        }

    def _summary(self, points, fast, bounds) -> dict:
        told, quick = freezing.summarise(points), freezing.summarise(fast)
        seen = [(point.beta, bound) for point, bound in zip(points, bounds, strict=True) if not point.censored]
        shift = None
        if not told.median.censored and not quick.median.censored:
            shift = told.median.beta / quick.median.beta - 1
        within = None
        if told.interval is not None and shift is not None:
            low, high = (point.order for point in told.interval)
            within = low <= quick.median.beta <= high
        return {
            "median": _point(told.median),
            "quartiles": [_point(told.lower), _point(told.upper)],
            "interval": told.interval and [_point(point) for point in told.interval],
            "above": told.above,
            "below": told.below,
            "count": told.count,
            "bound": float(np.median(bounds)),
            "lag": float(np.median([1 - beta / bound for beta, bound in seen])) if seen else None,
            "least_lag": float(np.min([1 - beta / bound for beta, bound in seen])) if seen else None,
            "shift_by_halving_the_speed": shift,
            "shift_within_interval": within,
        }

    def _train(self, workdir, name: str, devices) -> np.ndarray:
        """KL curves [trials, points] of the sweep of this name, from where its checkpoints stand."""
        settings = self.settings[name]
        runner = trials.TrialRunner(settings, self.source, self.buckets, devices)
        state = trials.init_state(settings, self.source.likelihood, self.buckets)
        checkpoints = Checkpoints(workdir / f"trials{name}", keep=2)
        if checkpoints.latest is not None:
            state = checkpoints.restore(state)
        step = int(state.step)
        progress = Progress(settings.steps, step)
        progress.say(f"{len(self.bounds)} trials of {settings.steps} steps, beta {settings.beta_max:.4g} to "
                     f"{settings.beta_min:g}" + (f", resuming at step {step}" if step else ""))
        state = runner.put(state)
        every, stride = self.config["checkpoint_every"], settings.steps // settings.points
        try:
            with Signals() as signals:
                while step < settings.steps:
                    stop = min(settings.steps, step - step % stride + 10 * stride, step - step % every + every)
                    begin = time.perf_counter()
                    state = runner.run(state, stop - step)
                    curves = runner.curves(state)
                    rate = (stop - step) * len(curves) / (time.perf_counter() - begin)
                    step = stop
                    if not np.all(np.isfinite(curves)):
                        bad = int(np.flatnonzero(~np.isfinite(curves).all(axis=1))[0])
                        raise FloatingPointError(
                            f"the KL of trial {bad} ({self.names[self.factor_of(bad)]}) is not finite before step "
                            f"{step}; lower trials.learning_rate"
                        )
                    frozen = (curves[:, max(0, step // stride - 1)] >= self.config["threshold"]).mean()
                    beta = f"beta {float(settings.beta(step)):.3g}"
                    progress.update(step, [beta, f"frozen {frozen:.0%}", f"{rate:.0f} trial-steps/s"])
                    if step % every == 0 or step == settings.steps or signals.received is not None:
                        checkpoints.save(runner.host(state))
                    if signals.received is not None and step < settings.steps:
                        raise signals.interrupted(step, settings.steps)
            return runner.curves(state)
        finally:
            progress.close()
            checkpoints.close()

    def _write(self, workdir, points, curves, grids) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        head = ["trial", "factor", *(f"fixed_{name}" for name in self.source.factor_names), "bound"]
        writer.writerow([*head, "ifp", "censored", "ifp_at_double_speed", "censored_at_double_speed"])
        for row, (slow, fast) in enumerate(zip(points[""], points["_fast"], strict=True)):
            name = self.names[self.factor_of(row)]
            fixed = [
                "" if name == other else value
                for other, value in zip(self.source.factor_names, self.bases[row].tolist(), strict=True)
            ]
            read = [f"{slow.beta:.6g}", slow.censored, f"{fast.beta:.6g}", fast.censored]
            writer.writerow([row, name, *fixed, f"{self.bounds[row]:.6g}", *read])
        write_atomically(workdir / "trials.csv", text.getvalue())
        arrays = {f"betas{name}": grids[name] for name in _SPEEDS} | {f"kl{name}": curves[name] for name in _SPEEDS}
        factor = np.repeat(np.array(self.names), self.config["num_trials"])
        buffer = io.BytesIO()
        np.savez_compressed(buffer, factor=factor, **arrays)
        write_atomically(workdir / "curves.npz", buffer.getvalue())

    def table(self, result) -> str:
        lines = [
            f"Trials, {self.config['num_trials']} a factor: beta at which the KL rises through "
            f"{result['threshold']:g} nat, from {result['beta_max']:.4g} to {result['beta_min']:g}",
            f"{'factor':<14}{'median':>8}{'quartiles':>15}{'95 % of median':>17}{'above':>7}{'below':>7}"
            f"{'bound':>8}{'lag':>6}{'half speed':>12}",
        ]
        rows = result["factors"]
        for name in sorted(rows, key=lambda name: -Point(**rows[name]["median"]).order):
            row = rows[name]
            low, high = (str(Point(**point)) for point in row["quartiles"])
            interval = "too few trials"
            if row["interval"]:
                interval = " to ".join(str(Point(**point)) for point in row["interval"])
            lag = "" if row["lag"] is None else f"{row['lag']:.0%}"
            shift = row["shift_by_halving_the_speed"]
            moved = "" if shift is None else f"{shift:+.0%}"
            lines.append(
                f"{name:<14}{Point(**row['median'])!s:>8}{f'{low} to {high}':>15}{interval:>17}{row['above']:>7}"
                f"{row['below']:>7}{row['bound']:>8.3g}{lag:>6}{moved:>12}"
            )
        moved = {name: row["shift_within_interval"] for name, row in rows.items()}
        far = [name for name, within in moved.items() if within is False]
        unknown = [name for name, within in moved.items() if within is None]
        if far:
            told = ", ".join(far)
            lines.append(f"Not converged in speed: halving it moved the median of {told} by more than its interval.")
        elif not unknown:
            lines.append("Halving the speed moved every median by less than its uncertainty.")
        if unknown:
            lines.append(f"Convergence in speed unknown for {', '.join(unknown)}: too few trials, or censored.")
        own = 1 - math.exp(-2 * result["threshold"])
        lines.append(
            "Lag: how far below the bound of its own sweep a trial froze, median over trials; without any delay a "
            f"linear\nmodel passes the threshold {own:.0%} below it."
        )
        return "\n".join(lines)

    def draw(self, result, directory) -> None:
        from deft_jax import freezing_plots, plots

        with np.load(directory.parent / "curves.npz", allow_pickle=False) as arrays:
            figure = freezing_plots.kl_over_beta(
                arrays["betas"], arrays["kl"], arrays["factor"].tolist(), result["threshold"]
            )
        plots.save(figure, directory / "kl_over_beta.png")
        rows = [row for row in result["rows"] if not row["censored"]]
        if rows:
            figure = freezing_plots.densities(
                [row["beta"] for row in rows], [row["factor"] for row in rows], [row["bound"] for row in rows]
            )
            plots.save(figure, directory / "freezing_points.png")


class _Whole:
    """One VAE on the whole set: a training run in which beta falls from above the spectrum to beta_min."""

    name = "whole"

    def __init__(self, config, source: Source):
        section = config["whole"]
        own = ("beta_max", "beta_min", "threshold", "smooth")
        _check_fields("whole", section, *own, "model", "optimizer")
        _check_fields("whole.model", section["model"], "latents")
        options.check_section("whole.optimizer", section["optimizer"])
        _check_reading(section, "whole")
        self.source, self.config = source, section
        options.check_section("whole.evaluation", section.get("evaluation"))
        for field, count in (("total_steps", section.get("total_steps")),
                             ("evaluation.every", section["evaluation"].get("every"))):
            options.check_count(f"whole.{field}", count)
        most = max(1, (section["total_steps"] - 1) // (_LEAST_POINTS - 1))
        if section["evaluation"]["every"] > most or section["total_steps"] < _LEAST_POINTS:
            raise ValueError(f"whole.evaluation.every must be at most {most} for the {_LEAST_POINTS} evaluations that "
                             f"freezing points are read from, got {section['evaluation']['every']} of "
                             f"whole.total_steps = {section['total_steps']}")
        top = spectrum.freezing_spectrum(source, seed=config["seed"], num_modes=1).eigenvalues[0]
        beta_max = _beta_max(section["beta_max"], float(top), "the whole set", "whole")
        if not 0 < section["beta_min"] < beta_max:
            raise ValueError(f"whole.beta_min must lie between 0 and {beta_max:.4g}, got {section['beta_min']}")
        model = dict(section["model"])
        self.run_config = {
            "seed": config["seed"],
            "data": dict(config["data"]),
            "objective": {"name": "beta_vae"},
            **_without(section, *own),
            "model": model | {"groups": (model["latents"],), "calibrate": False},
            # start exp(-rate t / T): the logarithm of beta falls at one speed
            "stages": {
                "rule": "exponential",
                "start": beta_max,
                "end": 0.0,
                "rate": math.log(beta_max / section["beta_min"]),
                "thresholds": (),
            },
            "optimizer": {"gamma": 1.0, **section["optimizer"]},
        }
        loop.build(self.run_config)

    def measure(self, workdir, devices) -> dict:
        directory = workdir / "whole"
        loop.run(self.run_config, directory, devices, remarks=False)  # a run that is finished stays as it is
        records = [record for record in read_records(directory / "metrics.jsonl") if record["kind"] == "eval"]
        if len(records) < _LEAST_POINTS:
            raise ValueError(f"{directory} holds {len(records)} evaluations that worked, {_LEAST_POINTS} are needed")
        history = {
            name: np.array([record[name] for record in records])
            for name in (
                "beta",
                "mutual_information",
                "mutual_information_upper",
                "total_correlation",
                "dimension_wise_kl",
                "kl_per_latent",
                "factor_information",
            )
        }
        betas, rule = history["beta"], (self.config["threshold"], self.config["smooth"])
        latents = [freezing.freezing_point(betas, kl_E, *rule) for kl_E in history["kl_per_latent"].T]
        factors = [freezing.freezing_point(betas, told_E, *rule) for told_E in history["factor_information"].T]
        peaks = freezing.peaks(betas, history["mutual_information"], self.config["smooth"])
        names = self.source.ground_truth_names
        return {
            "beta_max": self.run_config["stages"]["start"],
            "beta_min": self.config["beta_min"],
            "threshold": self.config["threshold"],
            "latents": [_point(point) for point in latents],
            "peaks": [peak._asdict() for peak in peaks],
            "points": {name: _point(point) for name, point in zip(names, factors, strict=True)},
            "separate": {f"peak {index}": peak.beta for index, peak in enumerate(peaks)},
            "history": history,
        }

    def table(self, result) -> str:
        frozen = sorted((Point(**point) for point in result["latents"]), key=lambda point: -point.order)
        told = [str(point) for point in frozen]
        peaks = [f"{peak['beta']:.3g}" for peak in result["peaks"]]
        points = {name: Point(**point) for name, point in result["points"].items()}
        lines = [
            f"Whole set, without labels: latents freeze at beta {', '.join(told)}",
            f"peaks of -dI/d(log beta) at beta {', '.join(peaks) or 'none'}",
            f"{'factor':<14}{'enters':>8}  (labels used: one latent tells {result['threshold']:g} nat of it)",
        ]
        lines += [f"{name:<14}{points[name]!s:>8}" for name in sorted(points, key=lambda name: -points[name].order)]
        return "\n".join(lines)

    def draw(self, result, directory) -> None:
        from deft_jax import freezing_plots, plots

        history = result["history"]
        rate = freezing.information_rate(history["beta"], history["mutual_information"], self.config["smooth"])
        figure = freezing_plots.whole_set(
            history, rate, [peak["beta"] for peak in result["peaks"]], self.source.ground_truth_names
        )
        plots.save(figure, directory / "whole_set.png")


_INSTRUMENTS = {"spectrum": _Spectrum, "trials": _Trials, "whole": _Whole}


def _write_betas(section: Mapping, results: Mapping, workdir: pathlib.Path) -> None:
    """betas.json from the chosen instrument, betas_NAME.json from each, and the lines that say so."""
    rule = _without(section, "source")
    for name in INSTRUMENTS:
        if name not in results:
            continue
        points = {factor: Point(**point) for factor, point in results[name]["points"].items()}
        print(f"Order by {name + ':':<10} {order_line(points)}")
        seen = {factor: point.beta for factor, point in points.items() if not point.censored}
        seen = results[name].get("separate", seen)  # what tells the points apart without labels, where there is that
        try:
            made = {"source": name} | freezing.stage_betas(seen, **rule)
        except ValueError as error:
            print(f"no betas from {name}: {error}")
            if name == section["source"]:
                raise
            continue
        frozen = [Point(**point) for point in results[name].get("latents", [])] or list(points.values())
        groups = freezing.group_sizes(made["betas"], frozen)
        made |= {"groups": groups, "latents": sum(groups), "points": seen, "rule": rule}
        text = json.dumps(plain(made), indent=2) + "\n"
        write_atomically(workdir / f"betas_{name}.json", text)
        if name == section["source"]:
            write_atomically(workdir / "betas.json", text)
        pairs = zip(made["betas"], made["stages"], strict=True)
        stages = "; ".join(f"{beta:.3g}: {', '.join(names)}" for beta, names in pairs)
        print(f"{'':<21}betas  {stages}")
        print(f"{'':<20}groups  {', '.join(map(str, groups))}")
    found = f"@{workdir / 'betas.json'}"
    print(f"\n{found[1:]} (from {section['source']}): train with --config.stages.betas={found}")
    print(f"and with as many latents as froze by --config.model.groups={found} --config.model.latents={found}")


if __name__ == "__main__":
    commands.run("deft_jax.annealing", lambda: run)
