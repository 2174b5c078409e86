"""What a run prints and writes at its end."""

import json
import pathlib
import statistics

from deft_jax.runtime.files import read_object, to_jsonable, write_atomically
from deft_jax.training.run_writer import RunWriter


def print_summary(record: RunWriter, results: dict) -> dict:
    """Prints what a run has reached."""
    if results["freezing_order"]:
        print("\nNormalised MI of the best latent with each factor at the end of each stage, in order of entering:")
        print(record.freezing_table(results["freezing_order"]))
    print(f"\n{record.reached()} after {results['step']} steps; figures: {record.workdir / 'figures'}")
    return results


def write_seed_summary(workdir: pathlib.Path, seeds, records, results) -> dict:
    """Writes and prints what the runs of several seeds have reached."""
    migs = {seed: found["mig"] for seed, found in zip(seeds, results, strict=True) if found and "mig" in found}
    told = {"seeds": seeds, "diverged": [s for s, r in zip(seeds, records, strict=True) if r.diverged is not None]}
    if migs:
        values = list(migs.values())
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        told["mig"] = {"mean": statistics.mean(values), "deviation": deviation, "seeds": migs}
        each = " ".join(f"{value:.3f}" for value in values)
        print(f"\nMIG {told['mig']['mean']:.3f} ± {deviation:.3f} over {len(values)} seeds: {each}")
    told["runs"] = [record.workdir.name for record in records]
    held = read_object(workdir / "results.json") or {}
    write_atomically(workdir / "results.json", json.dumps(held | to_jsonable(told), indent=2) + "\n")
    print(f"workdirs: {workdir / records[0].workdir.name} to {records[-1].workdir.name}")
    return told
