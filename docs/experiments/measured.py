"""The measured numbers of an experiment, read from the files of its folder, and tables of them in Markdown."""

import csv
import json
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tabulate import tabulate

HEADINGS = {
    "mig": "MIG",
    "mig_posterior": "MIG of posteriors",
    "mig_posterior_no_shape": "MIG of posteriors, without shape",
    "factor_vae": "FactorVAE score",
    "disentanglement": "DCI-D",
    "completeness": "DCI-C",
    "sap": "SAP",
    "infom": "InfoM",
    "infoc": "InfoC",
    "infoe": "InfoE",
    "nmi1": "NMI1",
    "nmi2": "NMI2",
    "seconds": "seconds",
}

LABELS = {
    "deft": "DEFT",
    "deft_smooth": "DEFT, smooth fall, gamma 1",
    "deft_annealed": "DEFT, betas without labels",
    "deft_sized": "DEFT, four latents",
    "beta_vae": "beta-VAE",
    "beta_tcvae": "beta-TCVAE",
    "factor_vae": "FactorVAE",
    "annealed_vae": "AnnealedVAE",
    "cascade_vae_c": "CascadeVAE-C",
    "control_vae": "ControlVAE",
    "dynamic_vae": "DynamicVAE",
    "devae": "DeVAE",
    "dip_vae_i": "DIP-VAE-I",
    "dip_vae_ii": "DIP-VAE-II",
    "qlae": "QLAE",
    "tripod": "Tripod",
}

NO_BREAK = "\N{NO-BREAK SPACE}"  # within 'mean ± deviation' in a table

LOWER_IS_BETTER = {"nmi2", "seconds"}


@dataclass(frozen=True)
class Score:
    """One score of one run over its seeds, each number as it was written down."""

    mean: str
    deviation: str = ""
    seeds: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @classmethod
    def of_values(cls, values: Mapping[str, float], digits: int = 3) -> "Score":
        """The score of a study.json.

        Args:
          values: seed -> value.
          digits: after the point.

        Returns:
          Mean and sample deviation (none for one seed) beside the values.
        """
        numbers = list(values.values())
        deviation = f"{statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
        texts = tuple(f"{number:.{digits}f}" for number in numbers)
        return cls(f"{statistics.mean(numbers):.{digits}f}", deviation, tuple(values), texts)

    def __str__(self) -> str:
        return f"{self.mean} ± {self.deviation}" if self.deviation else self.mean


@dataclass
class Experiment:
    """The data of one folder, and the functions that its template calls."""

    folder: pathlib.Path
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    scores: dict[tuple[str, str, str], Score] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: pathlib.Path) -> "Experiment":
        """Reads results.json, scores.csv and every study.json of a folder."""
        held = cls(folder)
        if (folder / "results.json").exists():
            results = json.loads((folder / "results.json").read_text())
            held.provenance, held.values = results["provenance"], results.get("values", {})
        if (folder / "scores.csv").exists():
            for row in held.rows("scores.csv"):
                held.scores[row["study"], row["run"], row["score"]] = Score(
                    row["mean"] or row["values"], row["deviation"], tuple(row["seeds"].split()),
                    tuple(row["values"].split()))  # fmt: skip
        for path in sorted(folder.glob("study*.json")):
            named = path.stem.removeprefix("study").removeprefix("_")
            held._replace(named or next(iter(held.provenance)), path)
        return held

    def _replace(self, study: str, path: pathlib.Path) -> None:
        """Takes the runs of a study from a study.json in place of earlier ones."""
        summary = json.loads(path.read_text())
        runs = [name for name, run in summary["runs"].items() if run["scores"]]
        self.scores = {key: value for key, value in self.scores.items() if key[0] != study or key[1] not in runs}
        for name in runs:
            run = summary["runs"][name]
            for score, values in run["scores"].items():
                self.scores[study, name, score] = Score.of_values(values)
            if run.get("seconds"):
                self.scores[study, name, "seconds"] = Score.of_values(run["seconds"], digits=0)
        earlier = self.provenance.get(study, {})
        self.provenance[study] = {
            "command": earlier.get("command", ""),
            "scale": summary["scale"],
            "seeds": " ".join(map(str, summary["seeds"])),
            "recorded": f"{path.name}",
            "definition": [],
        } | summary.get("provenance", {})

    # ---- functions for templates ----

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of the folder."""
        return json.loads((self.folder / name).read_text())

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file of the folder, as texts by column."""
        with (self.folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def row(self, name: str, **where: str) -> dict[str, str]:
        """The one row of a CSV file whose columns have these texts; KeyError where it is not one row."""
        rows = [row for row in self.rows(name) if all(row[column] == text for column, text in where.items())]
        if len(rows) != 1:
            raise KeyError(f"{self.folder.name}/{name}: {len(rows)} rows with {where}")
        return rows[0]

    def table(self, name: str, columns: Mapping[str, str] | Sequence[str] | None = None, **where: str) -> str:
        """A CSV file as a Markdown table.

        Args:
          name: of the file.
          columns: those to show, or column -> heading. Default: all.
          **where: column -> text that rows must have.
        """
        rows = [row for row in self.rows(name) if all(row[column] == text for column, text in where.items())]
        shown = columns if isinstance(columns, Mapping) else {column: column for column in columns or rows[0]}
        return markdown(list(shown.values()), [[row[column] for column in shown] for row in rows])

    def score(self, study: str, run: str, score: str) -> Score:
        """One score of a run of a study; KeyError names the folder where there is none."""
        try:
            return self.scores[study, run, score]
        except KeyError:
            raise KeyError(f"{self.folder.name}: no {score} of {run} in {study}") from None

    def numbers(self, study: str, run: str, score: str) -> list[float]:
        """The values of a score, one per seed."""
        return [float(text) for text in self.score(study, run, score).values]

    def pooled(self, score: str, *runs: tuple[str, str]) -> str:
        """Mean and deviation of a score over the seeds of several (study, run)."""
        return mean_deviation([number for study, run in runs for number in self.numbers(study, run, score)])

    def runs(self, study: str) -> list[str]:
        """Names of the runs of a study, in the order of the file."""
        return list(dict.fromkeys(run for held, run, _ in self.scores if held == study))

    def record_table(self, name: str, columns: Mapping[str, str]) -> str:
        """A JSON list of objects as a Markdown table.

        Args:
          name: of the file.
          columns: field -> heading. 'a.b' is the field b of a, 'mig:3' has three digits after the point. A column
            without any value is left out, and one of the same text throughout; values of a list stand side by side.
        """
        records = self.read_json(name)
        shown: dict[str, list[str]] = {}
        for column, heading in columns.items():
            path, _, digits = column.partition(":")
            texts = []
            for record in records:
                value = record
                for part in path.split("."):
                    value = value.get(part) if isinstance(value, Mapping) else None
                values = value if isinstance(value, list) else [] if value is None else [value]
                texts.append(", ".join(f"{one:.{digits}f}" if digits else str(one) for one in values) or "-")
            if set(texts) != {"-"} and not (len(texts) > 1 and len(set(texts)) == 1 and not digits):
                shown[heading] = texts
        return markdown(list(shown), list(zip(*shown.values(), strict=True)))

    def score_table(
        self,
        rows: str | Sequence[Sequence[str]],
        columns: Sequence[str],
        heading: str = "run",
        bold: bool = True,
        labels: Mapping[str, str] | None = None,
        unranked: Sequence[str] = (),
    ) -> str:
        """Scores of runs as a Markdown table.

        Args:
          rows: a study, for all of its runs; or (study, run) or (study, run, label) per row.
          columns: names of scores: mean and deviation; 'mig seeds' is every seed's value.
          heading: of the first column.
          bold: mark the best mean of each column.
          labels: run -> label. Default: the name of the method.
          unranked: runs that are never marked.
        """
        if isinstance(rows, str):
            rows = [(rows, run) for run in self.runs(rows)]
        best = {}
        for column in columns:
            means = [
                self.scores[study, run, column].mean
                for study, run, *_ in rows
                if (study, run, column) in self.scores and run not in unranked
            ]
            if bold and column != "seconds" and len(means) > 1:
                best[column] = (min if column in LOWER_IS_BETTER else max)(means, key=float)
        body = []
        for study, run, *label in rows:
            line = [label[0] if label else (labels or {}).get(run, method(run))]
            for column in columns:
                held = self.scores.get((study, run, column.removesuffix(" seeds")))
                if column.endswith(" seeds"):
                    line.append(", ".join(held.values) if held and held.values else "-")
                else:
                    text = str(held).replace(" ", NO_BREAK) if held else "-"
                    marked = held and held.mean == best.get(column) and run not in unranked
                    line.append(f"**{text}**" if marked else text)
            body.append(line)
        heads = [HEADINGS[name] for name in (column.removesuffix(" seeds") for column in columns)]
        per_seed = [", every seed" if column.endswith(" seeds") else "" for column in columns]
        return markdown([heading, *(head + suffix for head, suffix in zip(heads, per_seed, strict=True))], body)

    def seed_table(self, study: str, scores: Sequence[str]) -> str:
        """Every seed's scores of the runs of a study as a Markdown table, one column per seed."""
        seeds = list(dict.fromkeys(seed for key, held in self.scores.items() if key[0] == study for seed in held.seeds))
        body = []
        for run in self.runs(study):
            for name in scores:
                held = self.scores.get((study, run, name), Score("-"))
                values = dict(zip(held.seeds, held.values, strict=False))
                body.append([method(run), HEADINGS[name], *(values.get(seed, "-") for seed in seeds)])
        return markdown(["run", "score", *(f"seed {seed}" for seed in seeds)], body)

    def commands(self, *studies: str) -> str:
        """The commands of these studies, or of all, as a code block."""
        lines = [self.provenance[study]["command"] for study in studies or self.provenance]
        return "```sh\n" + "\n".join(dict.fromkeys(line for line in lines if line)) + "\n```"

    def provenance_table(self) -> str:
        """Where the numbers of the page come from, as a Markdown section; empty without an entry."""
        if not self.provenance:
            return ""
        notes = list(dict.fromkeys(note for entry in self.provenance.values() for note in entry.get("definition", ())))
        body = []
        for study, entry in self.provenance.items():
            marks = " ".join(f"({notes.index(note) + 1})" for note in entry.get("definition", ()))
            shown = [str(entry.get(name, "-")) for name in ("scale", "seeds", "recorded")]
            body.append([f"`{study}`", *shown, marks or "-"])
        machines = {(entry["machine"], entry["versions"]) for entry in self.provenance.values() if "machine" in entry}
        return "\n\n".join(
            [
                "## Provenance",
                *(["[How to read the tables](index.md#how-to-read-the-tables)."] if self.scores else []),
                markdown(["study", "steps x batch", "seeds", "recorded", "notes"], body),
                *(f"Machine: {machine}; {versions}." for machine, versions in sorted(machines)),
                *(["\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1))] if notes else []),
            ]
        )


def method(run: str) -> str:
    """The name of a run in a table: deft_smooth_rotated -> DEFT, smooth fall, gamma 1, rotated."""
    rotated = run.removesuffix("_rotated").removesuffix("_rotated")
    return LABELS.get(rotated, f"`{rotated}`") + (", rotated" if rotated != run else "")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column and columns of text to the left, numbers to the right."""
    numeric = re.compile(r"\**<?[-+]?[\d,.]+(\s±\s[\d.]+)?%?\**|-|")
    columns = list(zip(*rows, strict=True))[1:]
    right = [all(map(numeric.fullmatch, column)) and any(map(re.compile(r"\d").search, column)) for column in columns]
    align = ["left", *("right" if flag else "left" for flag in right)]
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=align)


def number(text: Any) -> float:
    return float(str(text).replace(",", "").lstrip("<"))


def flat(values: Sequence[Any]) -> list[Any]:
    """The items of a list and of the lists in it, None left out."""
    parts = [value if isinstance(value, list) else [value] for value in values]
    return [value for part in parts for value in part if value is not None]


def listed(values: Sequence[Any], digits: int | None = None) -> str:
    """'a, b and c'."""
    texts = [f"{value:.{digits}f}" if digits is not None else str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def extent(values: Sequence[Any], digits: int = 3) -> str:
    """'low to high', or the one value that they share."""
    low, high = (f"{pick(map(number, values)):.{digits}f}" for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def mean_deviation(values: Sequence[float], digits: int = 3) -> str:
    """'mean ± sample deviation'."""
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
