"""The annealing test: at which beta does the information of each factor freeze?

    python -m deft_jax.annealing --config configs/ifp_dsprites.py --workdir DIR [--config.field=value ...]

Three instruments (Wu et al. 2022, section 3, for the first two):

spectrum  no training: the eigenvalues at which a collapsed VAE becomes unstable (spectrum.py), of the whole set and
          of every trial's sweep; upper bounds of what the other two measure
trials    labels used: many small VAEs, each on the images of one factor, while beta falls (trials.py)
whole     no labels needed: one VAE on the whole set while beta falls; latents freeze one after the other

Every instrument ends in freezing points read off by one rule (freezing_points.py), and each of them in the betas of
DEFT's stages. The workdir receives config.json, freezing.json with all results, trials.csv, curves.npz, figures/, and
betas.json, which training takes by --config.stages.betas=@DIR/betas.json.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping

import jax

from deft_jax import data
from deft_jax.annealing import freezing_points
from deft_jax.annealing import stages as annealing_stages
from deft_jax.annealing.config import INSTRUMENTS, AnnealingConfig, BetasConfig, parse_annealing
from deft_jax.annealing.freezing_points import Point
from deft_jax.annealing.spectrum import SpectrumInstrument
from deft_jax.annealing.trials import TrialsInstrument
from deft_jax.annealing.whole_set import WholeSetInstrument
from deft_jax.data.description import SAMPLE, check_unchanged, keep
from deft_jax.evaluation import encoder
from deft_jax.runtime.config_file import save_or_check_config
from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.files import read_object, to_jsonable, write_atomically
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.locks import lock_workdir
from deft_jax.runtime.paths import local_path
from deft_jax.runtime.progress import warn
from deft_jax.training import session


@pinned()
def run(config, workdir: str | pathlib.Path, devices=None) -> dict:
    """Runs the instruments of a configuration and returns what freezing.json holds.

    config: as configs/ifp_dsprites.py. Called again with the same configuration it goes on where it was interrupted.
    devices: for the trials and the whole set; all local ones unless given.
    Raises ValueError in one line where the configuration does not fit, before anything is trained.
    """
    config = parse_annealing(config)
    workdir = local_path(workdir, "--workdir")
    given = data.with_absolute_paths(config.data.name, config.data.options)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, options=given))
    source = data.get(config.data.name, only=config.data.only, **config.data.options)
    check_unchanged(source, workdir)
    read_object(workdir / "freezing.json")  # refused now if it is damaged
    # How points become betas may change: nothing is measured by it.
    free = ("betas", *session.moved_paths(workdir, config.data, source))
    runs = [_INSTRUMENTS[name](config, source) for name in INSTRUMENTS if name in config.instruments]
    with lock_workdir(workdir):
        save_or_check_config(workdir, config.to_mapping(), free)
        keep(source, workdir, encoder.draw_factors(source, SAMPLE, config.seed))
        for remark in source.remarks:
            print(f"data: {remark}")
        return _measure(config, source, runs, workdir, devices)


def _measure(config: AnnealingConfig, source, runs, workdir: pathlib.Path, devices) -> dict:
    """Runs the instruments in a workdir that is this process's own."""
    # What an earlier call has measured stays until this one has measured it anew.
    results = (read_object(workdir / "freezing.json") or {}) | {
        "factor_names": source.factor_names,
        "seed": config.seed,
        "devices": [device.device_kind for device in devices or jax.local_devices()],
        "versions": {"jax": jax.__version__},
    }
    for instrument in runs:
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


def order_line(points: Mapping[str, Point | None]) -> str:
    """The names by falling freezing point; those that never froze last, in brackets."""
    seen = {
        name: point for name, point in points.items() if point is not None and point.censored != freezing_points.BELOW
    }
    ordered = sorted(seen, key=lambda name: -seen[name].order)
    never = [name for name in points if name not in seen]
    return " > ".join(ordered) + (f"  (not frozen: {', '.join(never)})" if never else "")


_INSTRUMENTS = {"spectrum": SpectrumInstrument, "trials": TrialsInstrument, "whole": WholeSetInstrument}


def _write_betas(config: BetasConfig, results: Mapping, workdir: pathlib.Path) -> None:
    """betas.json from the chosen instrument, betas_NAME.json from each, and the lines that say so."""
    rule = {"last": config.last, "separation": config.separation, "max_stages": config.max_stages}
    for name in INSTRUMENTS:
        if name not in results:
            continue
        points = {factor: Point(**point) for factor, point in results[name]["points"].items()}
        print(f"Order by {name + ':':<10} {order_line(points)}")
        seen = {factor: point.beta for factor, point in points.items() if not point.censored}
        seen = results[name].get("separate", seen)  # what tells the points apart without labels, where there is that
        try:
            made = {"source": name} | annealing_stages.stage_betas(seen, **rule)
        except ValueError as error:
            print(f"no betas from {name}: {error}")
            if name == config.source:
                raise
            continue
        frozen = [Point(**point) for point in results[name].get("latents", [])] or list(points.values())
        groups = annealing_stages.group_sizes(made["betas"], frozen)
        made |= {"groups": groups, "latents": sum(groups), "points": seen, "rule": rule}
        text = json.dumps(to_jsonable(made), indent=2) + "\n"
        write_atomically(workdir / f"betas_{name}.json", text)
        if name == config.source:
            write_atomically(workdir / "betas.json", text)
        pairs = zip(made["betas"], made["stages"], strict=True)
        stages = "; ".join(f"{beta:.3g}: {', '.join(names)}" for beta, names in pairs)
        print(f"{'':<21}betas  {stages}")
        print(f"{'':<20}groups  {', '.join(map(str, groups))}")
    found = f"@{workdir / 'betas.json'}"
    print(f"\n{found[1:]} (from {config.source}): train with --config.stages.betas={found}")
    print(f"and with as many latents as froze by --config.model.groups={found} --config.model.latents={found}")
