"""The annealing test: at which beta does the information of each factor freeze?

    python -m deft_jax.annealing --config configs/ifp_dsprites.py --workdir DIR [--config.field=value ...]

Three instruments (Wu et al. 2022, section 3, for the first two):

spectrum  no training: the eigenvalues at which a collapsed VAE becomes unstable (spectrum.py), of the whole set and
          of every trial's sweep; upper bounds of what the other two measure
trials    uses labels: many small VAEs, each on the images of one factor, while beta falls (trials.py)
whole     needs no labels: one VAE on the whole set while beta falls; latents freeze one after the other (whole_set.py)

Every instrument reads freezing points by one rule (freezing_points.py), and betas of DEFT's stages follow from them
(stages.py). The workdir receives config.json, freezing.json with all results, trials.csv, curves.npz, figures/, and
betas.json, which training takes by --config.stages.betas=@DIR/betas.json.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from deft_jax import data
from deft_jax.annealing import freezing_points
from deft_jax.annealing.config import INSTRUMENTS, AnnealingConfig, BetasConfig, parse_annealing
from deft_jax.annealing.freezing_points import Point
from deft_jax.annealing.instrument import Instrument, Result
from deft_jax.annealing.spectrum import SpectrumInstrument
from deft_jax.annealing.stages import group_sizes, stage_betas
from deft_jax.annealing.trials import TrialsInstrument
from deft_jax.annealing.whole_set import WholeSetInstrument
from deft_jax.data.description import SAMPLE, check_unchanged, keep
from deft_jax.data.source import Source
from deft_jax.evaluation import encoder
from deft_jax.runtime import buckets
from deft_jax.runtime.config_file import save_or_check_config
from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.files import read_object, to_jsonable, write_atomically
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.locks import lock_workdir
from deft_jax.runtime.paths import shown
from deft_jax.runtime.progress import warn
from deft_jax.training import workdirs


@pinned()
def run(
    config: Any, workdir: str | pathlib.Path, devices: Sequence[jax.Device] | None = None
) -> dict[str, Any]:
    """Runs the instruments of a configuration.

    The same call resumes an interrupted measurement.

    Args:
      config: an AnnealingConfig, or what `parse_annealing` takes, as in configs/ifp_dsprites.py.
      workdir: where results are written, a folder or an address gs://... or s3://...
      devices: for the trials and the whole set. Default: None, all local ones.

    Returns:
      What freezing.json holds.

    Raises:
      ConfigErrors: the configuration is invalid; nothing is written.
      ValueError: the configuration does not fit the data set or the workdir, or no stages follow from the points.
      FloatingPointError: a loss is no longer finite.
      CannotWrite: the disk is full; when there is space again, the same call resumes.
      Interrupted: a signal was received, and the state saved.
    """
    config = parse_annealing(config)
    options = data.with_absolute_paths(config.data.name, config.data.options)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, options=options))
    with buckets.working_copy(workdir, "--workdir") as folder:
        return _run(config, folder, devices)


def _run(
    config: AnnealingConfig, workdir: pathlib.Path, devices: Sequence[jax.Device] | None
) -> dict[str, Any]:
    """`run` in a local folder."""
    source = data.get(config.data.name, only=config.data.only, **config.data.options)
    check_unchanged(source, workdir)
    read_object(workdir / "freezing.json")  # raises now if it is damaged
    # The rule from points to betas may change, and what else evaluations log: no measurement depends on them.
    free = ("betas", "whole.evaluation.ledger", *workdirs.moved_paths(workdir, config.data, source))
    instruments = _instruments(config, source)
    with lock_workdir(workdir):
        save_or_check_config(workdir, config.to_mapping(), free)
        keep(source, workdir, encoder.draw_factors(source, SAMPLE, config.seed))
        for remark in source.remarks:
            print(f"data: {remark}")
        return _measure(config, source, instruments, workdir, devices)


def _instruments(config: AnnealingConfig, source: Source) -> list[Instrument]:
    """The instruments of a configuration, in the order of INSTRUMENTS."""
    instruments: list[Instrument] = []
    if "spectrum" in config.instruments:
        instruments.append(SpectrumInstrument(config.spectrum, source, config.seed))
    if "trials" in config.instruments:
        instruments.append(TrialsInstrument(config.trials, source, config.seed))
    if "whole" in config.instruments and config.whole is not None:
        instruments.append(WholeSetInstrument(config.whole, config.data, source, config.seed))
    return instruments


def _measure(
    config: AnnealingConfig,
    source: Source,
    instruments: Sequence[Instrument],
    workdir: pathlib.Path,
    devices: Sequence[jax.Device] | None,
) -> dict[str, Any]:
    """Runs the instruments in a locked workdir."""
    # Results of an earlier call stay until they are measured anew.
    results: dict[str, Any] = (read_object(workdir / "freezing.json") or {}) | {
        "factor_names": source.factor_names,
        "seed": config.seed,
        "devices": [device.device_kind for device in devices or jax.local_devices()],
        "versions": {"jax": jax.__version__},
    }
    for instrument in instruments:
        begin = time.perf_counter()
        results[instrument.name] = instrument.measure(workdir, devices)
        results[instrument.name]["seconds"] = time.perf_counter() - begin
        write_atomically(workdir / "freezing.json", json.dumps(to_jsonable(results), indent=2) + "\n")
        print(instrument.table(results[instrument.name]) + "\n")
        try:
            instrument.draw(results[instrument.name], workdir / "figures")
        except CannotWrite:
            raise
        except Exception as error:
            warn(f"the figure of {instrument.name} failed and is left out ({type(error).__name__}: {error})")
    _write_betas(config.betas, results, workdir)
    return to_jsonable(results)


def _order_line(points: Mapping[str, Point]) -> str:
    """The names by falling freezing point; those that never froze follow in brackets."""
    frozen = [name for name, point in points.items() if point.censored != freezing_points.BELOW]
    ordered = sorted(frozen, key=lambda name: -points[name].order)
    never = [name for name in points if name not in frozen]
    return " > ".join(ordered) + (f"  (not frozen: {', '.join(never)})" if never else "")


def _write_betas(config: BetasConfig, results: Mapping[str, Any], workdir: pathlib.Path) -> None:
    """Writes betas.json from the chosen instrument and betas_NAME.json from each, and prints them."""
    for name in INSTRUMENTS:
        if name not in results:
            continue
        points = {factor: Point(**point) for factor, point in results[name]["points"].items()}
        print(f"Order by {name + ':':<10} {_order_line(points)}")
        try:
            betas = _betas(config, name, results[name], points)
        except ValueError as error:
            print(f"no betas from {name}: {error}")
            if name == config.source:
                raise
            continue
        text = json.dumps(to_jsonable(betas), indent=2) + "\n"
        write_atomically(workdir / f"betas_{name}.json", text)
        if name == config.source:
            write_atomically(workdir / "betas.json", text)
        pairs = zip(betas["betas"], betas["stages"], strict=True)
        stages = "; ".join(f"{beta:.3g}: {', '.join(names)}" for beta, names in pairs)
        print(f"{'':<21}betas  {stages}")
        print(f"{'':<20}groups  {', '.join(map(str, betas['groups']))}")
    path = shown(workdir / "betas.json")
    print(f"\n{path} (from {config.source}): train with --config.stages.betas=@{path}")
    print(f"and with as many latents as froze by --config.model.groups=@{path} --config.model.latents=@{path}")


def _betas(config: BetasConfig, name: str, result: Result, points: Mapping[str, Point]) -> dict[str, Any]:
    """The content of betas_NAME.json, from the result of an instrument and its freezing points."""
    rule = {"last": config.last, "separation": config.separation, "max_stages": config.max_stages}
    uncensored = {factor: point.beta for factor, point in points.items() if not point.censored}
    separated = result.get("separate", uncensored)  # whole: peaks, which need no labels
    stages = stage_betas(
        separated, last=config.last, separation=config.separation, max_stages=config.max_stages
    )
    latents = [Point(**point) for point in result.get("latents", [])]
    groups = group_sizes(stages.betas, latents or list(points.values()))
    shared = {"groups": groups, "latents": sum(groups), "points": separated, "rule": rule}
    return {"source": name} | stages._asdict() | shared
