"""Trials of single factors: many small VAEs, each on the images of one factor, while beta falls."""

import csv
import io
import math
import time

import numpy as np

from deft_jax.annealing import freezing_points, trial_program
from deft_jax.annealing.config import SPEEDS, AnnealingConfig
from deft_jax.annealing.freezing_points import Point
from deft_jax.annealing.instrument import point_dict, resolve_beta_max
from deft_jax.data.source import Source
from deft_jax.runtime.files import write_atomically
from deft_jax.runtime.progress import Progress
from deft_jax.runtime.signals import Signals
from deft_jax.training.checkpoint import Checkpoints


class TrialsInstrument:
    """Trials of single factors, at one speed and, to see how far a finite speed matters, at twice that speed."""

    name = "trials"

    def __init__(self, config: AnnealingConfig, source: Source):
        section = self.config = config.trials
        varying = [name for name, size in zip(source.factor_names, source.factor_sizes, strict=True) if size > 1]
        self.names = tuple(section.factors) or tuple(varying)
        self.source = source
        self.buckets = trial_program.plan(source, self.names, section.num_trials, config.seed)
        self.bounds = trial_program.in_order(self.buckets, [bucket.bound for bucket in self.buckets]).astype(float)
        self.bases = trial_program.in_order(self.buckets, [bucket.base for bucket in self.buckets])
        top = int(self.bounds.argmax())
        beta_max = resolve_beta_max(
            section.beta_max, self.bounds[top], f"{self.names[self.factor_of(top)]}", "trials"
        )
        self.settings = {
            name: trial_program.Settings(
                beta_max=beta_max,
                beta_min=section.beta_min,
                steps=section.steps // speed,
                fall=section.fall,
                latents=section.latents,
                hidden=section.hidden,
                batch_size=section.batch_size,
                learning_rate=section.learning_rate,
                points=section.points,
            )
            for name, speed in SPEEDS.items()
        }

    def factor_of(self, row: int) -> int:
        """Index in `names` of the factor that a row sweeps."""
        return row // self.config.num_trials

    def measure(self, workdir, devices) -> dict:
        curves = {name: self._train(workdir, name, devices) for name in SPEEDS}
        grids = {name: settings.betas for name, settings in self.settings.items()}
        points = {
            name: [
                freezing_points.freezing_point(grids[name], kl_E, self.config.threshold, self.config.smooth)
                for kl_E in curves[name]
            ]
            for name in SPEEDS
        }
        count = self.config.num_trials
        factors = {}
        for index, factor in enumerate(self.names):
            rows = slice(index * count, (index + 1) * count)
            factors[factor] = self._summary(points[""][rows], points["_fast"][rows], self.bounds[rows])
        self._write(workdir, points, curves, grids)
        return {
            "beta_max": self.settings[""].beta_max,
            "beta_min": self.settings[""].beta_min,
            "threshold": self.config.threshold,
            "factors": factors,
            "points": {factor: row["median"] for factor, row in factors.items()},
            "rows": [
                {"factor": self.names[self.factor_of(row)], "bound": self.bounds[row], **point_dict(point)}
                for row, point in enumerate(points[""])
            ],
        }

    def _summary(self, points, fast, bounds) -> dict:
        told, quick = freezing_points.summarise(points), freezing_points.summarise(fast)
        seen = [(point.beta, bound) for point, bound in zip(points, bounds, strict=True) if not point.censored]
        shift = None
        if not told.median.censored and not quick.median.censored:
            shift = told.median.beta / quick.median.beta - 1
        within = None
        if told.interval is not None and shift is not None:
            low, high = (point.order for point in told.interval)
            within = low <= quick.median.beta <= high
        return {
            "median": point_dict(told.median),
            "quartiles": [point_dict(told.lower), point_dict(told.upper)],
            "interval": told.interval and [point_dict(point) for point in told.interval],
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
        runner = trial_program.TrialRunner(settings, self.source, self.buckets, devices)
        state = trial_program.init_state(settings, self.source.likelihood, self.buckets)
        checkpoints = Checkpoints(workdir / f"trials{name}", keep=2)
        if checkpoints.latest is not None:
            state = checkpoints.restore(state)
        step = int(state.step)
        progress = Progress(settings.steps, step)
        progress.write(
            f"{len(self.bounds)} trials of {settings.steps} steps, beta {settings.beta_max:.4g} to "
            f"{settings.beta_min:g}" + (f", resuming at step {step}" if step else "")
        )
        state = runner.put(state)
        every, stride = self.config.checkpoint_every, settings.steps // settings.points
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
                    frozen = (curves[:, max(0, step // stride - 1)] >= self.config.threshold).mean()
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
        arrays = {f"betas{name}": grids[name] for name in SPEEDS} | {f"kl{name}": curves[name] for name in SPEEDS}
        factor = np.repeat(np.array(self.names), self.config.num_trials)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, factor=factor, **arrays)
        write_atomically(workdir / "curves.npz", buffer.getvalue())

    def table(self, result) -> str:
        lines = [
            f"Trials, {self.config.num_trials} a factor: beta at which the KL rises through "
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
        from deft_jax.annealing import plots
        from deft_jax.evaluation import plots as evaluation_plots

        with np.load(directory.parent / "curves.npz", allow_pickle=False) as arrays:
            figure = plots.kl_over_beta(arrays["betas"], arrays["kl"], arrays["factor"].tolist(), result["threshold"])
        evaluation_plots.save(figure, directory / "kl_over_beta.png")
        rows = [row for row in result["rows"] if not row["censored"]]
        if rows:
            figure = plots.densities(
                [row["beta"] for row in rows], [row["factor"] for row in rows], [row["bound"] for row in rows]
            )
            evaluation_plots.save(figure, directory / "freezing_points.png")
