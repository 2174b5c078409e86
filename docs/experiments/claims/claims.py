"""Writes claims.json, what page.md.j2 shows: verdicts and tables of the paper's claims, from the result files.

    python docs/experiments/claims/claims.py

A claim whose result files are not there yet is 'not measured yet'; results.json names the commands that make them, and
measure.py brings their results here. Conditions and verdicts: rules.py and score_rules.py.
"""

import csv
import importlib.util
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parent))

import rules  # noqa: E402
import score_rules  # noqa: E402
from measured import LABELS  # noqa: E402
from rules import DEFT, LEAST_DIFFUSION, LEVEL, Finding, Rows, Scores  # noqa: E402

CHOICE_SEEDS = ("100", "101", "102")  # of configs/studies/claims_settings.py
CONFIG = FOLDER.parents[2] / "configs" / "studies" / "claims.py"

# key -> number, claim, criterion. The criteria were written before the results they are applied to were seen, except
# that the medians of an earlier run of the annealing test were known.
NAMES = LABELS | {
    "dsprites": "dSprites",
    "noisy_dsprites": "noisy dSprites",
    "color_dsprites": "dSprites in colour",
    "annealing": "annealing without groups",
    "beta_stages": "beta in stages without groups",
}
STUDIES = {
    "freezing": "trials",
    "diffuse": "diffusion",
    "less": "diffusion",
    "scores": "claims",
    "scores_rotated": "claims_rotated",
    "correlated": "correlated",
    "unsupervised": "unsupervised",
}
"""Claim -> the study that tests it, a key of results.json; of diffusion, in the folder of that name."""
CLAIMS: Mapping[str, tuple[str, str, str]] = {
    "freezing": (
        "i",
        "Factors have different information freezing points",
        "One condition per pair of factors: the freezing betas of the trials differ by the Mann-Whitney test, p at "
        f"most {LEVEL:g} after Holm's correction over all pairs, and the Kruskal-Wallis test of all factors has p at "
        f"most {LEVEL:g}, without which no condition is met. posX and posY are left out: the set is the same with its "
        "axes exchanged. Trials of different factors share their draws of the other factors, for which the tests of "
        "Friedman and, by pairs, of Wilcoxon allow; they stand beside. The other two instruments have one number per "
        "factor and no part in the verdict.",
    ),
    "diffuse": (
        "ii",
        "Existing approaches diffuse information",
        f"One condition per approach, of {', '.join(rules.APPROACHES)}: the mean diffusion over seeds is above "
        f"{LEAST_DIFFUSION:g} by a one-sided t-test, p at most {LEVEL:g} after Holm's correction. Diffusion is the "
        "share of the information that comes in after the first interval of a run and becomes foreign information of "
        "latents that held something before.",
    ),
    "less": (
        "iii",
        "DEFT diffuses less",
        f"One condition per approach of claim ii: the diffusion of DEFT as published ({DEFT}) is lower, by a paired "
        f"t-test over seeds, p at most {LEVEL:g} after Holm's correction. Other settings of DEFT, rotated latents, "
        "foreign information, reconstruction loss and MIG are shown and have no part in the verdict.",
    ),
    "scores": (
        "iv",
        "DEFT has high scores with low variance on three variants of dSprites",
        "Two conditions per set and rival: the mean MIG of DEFT is higher by Welch's test, and its deviation is "
        f"smaller by the test of Brown and Forsythe, p at most {LEVEL:g} after Holm's correction over the six "
        "comparisons of each test. DEFT and the rivals have the best of three settings each, by the mean MIG on "
        "other seeds.",
    ),
    "scores_rotated": (
        "iv with rotation",
        "The same, with rotated latents in DEFT and in the rivals",
        "As claim iv. The rotation is an addition of this library, and no part of the paper's claim.",
    ),
    "correlated": (
        "v",
        "Methods of total correlation fail under correlated factors",
        "Two conditions each for FactorVAE and beta-TCVAE: on pairs of correlated factors (orientation with posX and "
        "with posY) the MIG of DEFT is higher by a paired t-test over seeds, and it is so by more than on pairs of "
        f"independent factors (among deviation, posX, posY); p at most {LEVEL:g} after Holm's correction over the "
        "four. beta-VAE, which has no term of total correlation, stands beside.",
    ),
    "unsupervised": (
        "vi",
        "DEFT is competitive without labels",
        "Among all settings and seeds of DEFT, the model of the highest UDR has at least the median MIG and at least "
        "the median DCI-D (two conditions); the 95 % interval of the rank correlation of UDR and MIG lies above 0; and "
        "the MIG of the pick is at least that of the pick of each rival (two conditions). UDR compares the seeds of "
        "one setting.",
    ),
}


def findings(folder: pathlib.Path = FOLDER) -> dict[str, Finding]:
    """What the result files of a folder, and of its neighbours `diffusion` and `annealing_test`, tell of each claim."""
    found: dict[str, Finding] = {}
    if trials := _rows(folder / "trials.csv"):
        found["freezing"] = rules.freezing(trials, _rows(folder.parent / "annealing_test" / "factors.csv"))
    if runs := _rows(folder.parent / "diffusion" / "runs.csv"):
        found["diffuse"], found["less"] = rules.approaches_diffuse(runs), rules.deft_diffuses_less(runs)
    for key, name, suffix in (("scores", "claims", ""), ("scores_rotated", "claims_rotated", "_rotated")):
        if scores := study_scores(folder / f"study_{name}.json"):
            found[key] = score_rules.high_and_steady(scores, suffix)
    if "scores" in found and (tried := study_scores(folder / "study_settings.json")):
        table = score_rules.settings_table(of_seeds(tried, CHOICE_SEEDS), chosen_settings())
        found["scores"].tables.append(table)
    if pairs := _rows(folder / "correlated.csv"):
        found["correlated"] = score_rules.total_correlation_fails(pairs)
    if models := _rows(folder / "udr.csv"):
        found["unsupervised"] = score_rules.competitive_without_labels(models)
    return found


def summary(folder: pathlib.Path = FOLDER) -> list[dict[str, Any]]:
    """The content of claims.json: one entry per claim."""
    found = findings(folder)
    entries = []
    for key, (number, claim, criterion) in CLAIMS.items():
        finding = found.get(key)
        entry: dict[str, Any] = {"key": key, "study": STUDIES[key], "number": number, "claim": claim,
                                 "criterion": named(criterion), "verdict": None, "numbers": "", "conditions": {},
                                 "tables": []}  # fmt: skip
        if finding is not None:
            entry |= {
                "verdict": finding.verdict,
                "numbers": named(finding.numbers),
                "conditions": {named(text): bool(met) for text, met in finding.conditions.items()},
                "tables": [
                    table._asdict() | {"rows": [[named(text) for text in row] for row in table.rows]}
                    for table in finding.tables
                    if table.rows
                ],
            }
        entries.append(entry)
    return entries


def named(text: str) -> str:
    """A text with names of runs, methods and sets as the other pages write them."""
    return re.sub(r"\w+", lambda word: NAMES.get(word[0], word[0]), text)


def study_scores(path: pathlib.Path) -> Scores:
    """Run -> score -> seed -> value, of a study.json; {} where there is none."""
    if not path.exists():
        return {}
    return {name: run["scores"] for name, run in json.loads(path.read_text())["runs"].items() if run["scores"]}


def of_seeds(scores: Scores, seeds: Sequence[str]) -> Scores:
    """The scores of some seeds alone."""
    return {
        name: {score: {seed: values[seed] for seed in seeds if seed in values} for score, values in held.items()}
        for name, held in scores.items()
    }


def chosen_settings() -> dict[str, dict[str, str]]:
    """Set -> method -> setting, as configs/studies/claims.py has them."""
    spec = importlib.util.spec_from_file_location("claims_config", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CHOSEN


def _rows(path: pathlib.Path) -> Rows:
    """Rows of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    entries = summary()
    (FOLDER / "claims.json").write_text(json.dumps(entries, indent=1) + "\n")
    for entry in entries:
        met = f"{sum(entry['conditions'].values())} of {len(entry['conditions'])} conditions"
        print(f"{entry['number']}, {entry['claim']}: {entry['verdict'] or 'not measured yet'}, {met}")


if __name__ == "__main__":
    main()
