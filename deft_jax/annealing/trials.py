"""Trials of single factors: many small VAEs, each on the images of one factor, while beta falls."""

import io
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from deft_jax.annealing import freezing_points, trial_plan, trial_program, trial_tables
from deft_jax.annealing.config import SPEEDS, TrialsConfig
from deft_jax.annealing.freezing_points import Point
from deft_jax.annealing.instrument import Result, point_dict, resolve_beta_max
from deft_jax.annealing.trial_program import Sweep, TrialRunner
from deft_jax.data.source import Source
from deft_jax.runtime.files import write_atomically
from deft_jax.runtime.progress import Progress
from deft_jax.runtime.signals import Signals
from deft_jax.training.checkpoint import Checkpoints

_POINTS_PER_DISPATCH = 10


class TrialsInstrument:
    """Trials of single factors, at one speed and at twice that speed, which shows how far the finite speed matters."""

    name = "trials"

    def __init__(self, config: TrialsConfig, source: Source, seed: int) -> None:
        self.config, self.source = config, source
        varying = [name for name, size in zip(source.factor_names, source.factor_sizes, strict=True) if size > 1]
        self.names = config.factors or tuple(varying)
        self.buckets = trial_plan.plan(source, self.names, config.num_trials, seed)
        self.bounds = trial_plan.in_order(self.buckets, [bucket.bound for bucket in self.buckets]).astype(float)
        self.bases = trial_plan.in_order(self.buckets, [bucket.base for bucket in self.buckets])
        self.factor_of_trial = [name for name in self.names for _ in range(config.num_trials)]
        top = int(self.bounds.argmax())
        beta_max = resolve_beta_max(config.beta_max, float(self.bounds[top]), self.factor_of_trial[top], "trials")
        self.sweeps = {name: Sweep(config, beta_max, speed) for name, speed in SPEEDS.items()}

    def measure(self, workdir: pathlib.Path, devices: Sequence[jax.Device] | None) -> Result:
        """See Instrument."""
        curves = {name: self._train(workdir, name, devices) for name in SPEEDS}
        points = {name: self._freezing_points(name, curves[name]) for name in SPEEDS}
        count = self.config.num_trials
        factors = {}
        for index, factor in enumerate(self.names):
            rows = slice(index * count, (index + 1) * count)
            factors[factor] = _summary(points[""][rows], points["_fast"][rows], self.bounds[rows])
        table = trial_tables.csv_text(
            self.source.factor_names, self.factor_of_trial, self.bases, self.bounds, points[""], points["_fast"]
        )
        write_atomically(workdir / "trials.csv", table)
        self._write_curves(workdir, curves)
        rows_of_trials = zip(self.factor_of_trial, self.bounds.tolist(), points[""], strict=True)
        return {
            "beta_max": self.sweeps[""].beta_max,
            "beta_min": self.config.beta_min,
            "threshold": self.config.threshold,
            "factors": factors,
            "points": {factor: summary["median"] for factor, summary in factors.items()},
            "rows": [
                {"factor": factor, "bound": bound, **point_dict(point)} for factor, bound, point in rows_of_trials
            ],
        }

    def table(self, result: Result) -> str:
        """See Instrument."""
        return trial_tables.terminal_text(result, self.config.num_trials)

    def draw(self, result: Result, directory: pathlib.Path) -> None:
        """See Instrument."""
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

    def _freezing_points(self, name: str, kl_TxE: np.ndarray) -> list[Point]:
        """One freezing point per trial of the sweep of this name."""
        betas, rule = self.sweeps[name].betas, (self.config.threshold, self.config.smooth)
        return [freezing_points.freezing_point(betas, kl_E, *rule) for kl_E in kl_TxE]

    def _train(self, workdir: pathlib.Path, name: str, devices: Sequence[jax.Device] | None) -> np.ndarray:
        """KL curves [trials, points] of the sweep of this name; resumes from its checkpoints."""
        sweep = self.sweeps[name]
        runner = TrialRunner(sweep, self.source, self.buckets, devices)
        state = trial_program.init_state(sweep, self.source.likelihood, self.buckets)
        checkpoints = Checkpoints(workdir / f"trials{name}", keep=2)
        if checkpoints.latest is not None:
            state = checkpoints.restore(state)
        step = int(state.step)
        progress = Progress(sweep.steps, step)
        progress.write(
            f"{len(self.bounds)} trials of {sweep.steps} steps, beta {sweep.beta_max:.4g} to "
            f"{self.config.beta_min:g}" + (f", resuming at step {step}" if step else "")
        )
        state = runner.put(state)
        every, dispatch = self.config.checkpoint_every, _POINTS_PER_DISPATCH * sweep.steps_per_point
        try:
            with Signals() as signals:
                while step < sweep.steps:
                    # A dispatch ends at a point of the curve and at a checkpoint.
                    stop = min(sweep.steps, step - step % sweep.steps_per_point + dispatch, step - step % every + every)
                    begin = time.perf_counter()
                    state = runner.run(state, stop - step)
                    curves = runner.curves(state)
                    rate = (stop - step) * len(curves) / (time.perf_counter() - begin)
                    step = stop
                    self._check_finite(curves, step)
                    progress.update(step, self._progress_texts(sweep, curves, step, rate))
                    if step % every == 0 or step == sweep.steps or signals.received is not None:
                        checkpoints.save(runner.host(state))
                    if signals.received is not None and step < sweep.steps:
                        raise signals.interrupted(step, sweep.steps)
            return runner.curves(state)
        finally:
            progress.close()
            checkpoints.close()

    def _check_finite(self, kl_TxE: np.ndarray, step: int) -> None:
        finite_T = np.isfinite(kl_TxE).all(axis=1)
        if not np.all(finite_T):
            trial = int(np.flatnonzero(~finite_T)[0])
            raise FloatingPointError(
                f"the KL of trial {trial} ({self.factor_of_trial[trial]}) is not finite before step {step}; lower "
                "trials.learning_rate"
            )

    def _progress_texts(self, sweep: Sweep, kl_TxE: np.ndarray, step: int, rate: float) -> list[str]:
        frozen = (kl_TxE[:, max(0, step // sweep.steps_per_point - 1)] >= self.config.threshold).mean()
        return [f"beta {float(sweep.beta(step)):.3g}", f"frozen {frozen:.0%}", f"{rate:.0f} trial-steps/s"]

    def _write_curves(self, workdir: pathlib.Path, curves: dict[str, np.ndarray]) -> None:
        arrays: dict[str, Any] = {f"betas{name}": self.sweeps[name].betas for name in SPEEDS}
        arrays |= {f"kl{name}": curves[name] for name in SPEEDS}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, factor=np.array(self.factor_of_trial), **arrays)
        write_atomically(workdir / "curves.npz", buffer.getvalue())


def _summary(slow: Sequence[Point], fast: Sequence[Point], bounds_T: np.ndarray) -> dict[str, Any]:
    """The entry of a factor in freezing.json, from its trials at one speed and at twice that speed."""
    summary, fast_summary = freezing_points.summarise(slow), freezing_points.summarise(fast)
    lags = [1 - point.beta / bound for point, bound in zip(slow, bounds_T, strict=True) if not point.censored]
    shift = within = None
    if not summary.median.censored and not fast_summary.median.censored:
        shift = summary.median.beta / fast_summary.median.beta - 1
        if summary.interval is not None:
            low, high = summary.interval
            within = low.order <= fast_summary.median.beta <= high.order
    return {
        "median": point_dict(summary.median),
        "quartiles": [point_dict(summary.lower), point_dict(summary.upper)],
        "interval": summary.interval and [point_dict(point) for point in summary.interval],
        "above": summary.above,
        "below": summary.below,
        "count": summary.count,
        "bound": float(np.median(bounds_T)),
        "lag": float(np.median(lags)) if lags else None,
        "least_lag": float(np.min(lags)) if lags else None,
        "shift_by_halving_the_speed": shift,
        "shift_within_interval": within,
    }
