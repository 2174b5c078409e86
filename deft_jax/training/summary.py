"""The summary at the end of a run: printed, and written for several seeds."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from deft_jax.evaluation import ledger
from deft_jax.runtime.locks import update_object
from deft_jax.runtime.paths import shown
from deft_jax.training.run_writer import RunWriter


def print_summary(writer: RunWriter, results: dict[str, Any]) -> dict[str, Any]:
    """Prints the results of a run, and returns them."""
    if results["freezing_order"]:
        print("\nNormalised MI of the best latent with each factor at the end of each stage, in order of entering:")
        print(writer.freezing_table(results["freezing_order"]))
    if results.get("ledger"):
        print(f"\n{ledger.summary_line(results['ledger'])}")
    print(f"\n{writer.reached()} after {results['step']} steps; figures: {shown(writer.workdir / 'figures')}")
    return results


def write_seed_summary(
    workdir: pathlib.Path,
    seeds: Sequence[int],
    writers: Sequence[RunWriter],
    results: Sequence[Mapping[str, Any] | None],
) -> dict[str, Any]:
    """Writes the results of several seeds to results.json, prints their mean, and returns them."""
    runs = list(zip(seeds, writers, results, strict=True))
    summary: dict[str, Any] = {
        "seeds": list(seeds),
        "diverged": [seed for seed, writer, _ in runs if writer.diverged is not None],
    }
    migs = {seed: result["mig"] for seed, _, result in runs if result and "mig" in result}
    if migs:
        values = list(migs.values())
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        summary["mig"] = {"mean": statistics.mean(values), "deviation": deviation, "seeds": migs}
        each = " ".join(f"{value:.3f}" for value in values)
        print(f"\nMIG {summary['mig']['mean']:.3f} ± {deviation:.3f} over {len(values)} seeds: {each}")
    summary["runs"] = [writer.workdir.name for writer in writers]
    update_object(workdir / "results.json", lambda before: before | summary)
    print(f"workdirs: {shown(workdir / writers[0].workdir.name)} to {writers[-1].workdir.name}")
    return summary
