"""Writes the pages of docs/experiments from their templates and the measured numbers beside them.

    python docs/experiments/build.py            # writes every page
    python docs/experiments/build.py --check    # names the pages that differ from what would be written

An experiment is a folder with these files, of which only the template is required:

    page.md.j2         text of the page, Jinja2; results appear in it only as placeholders
    results.json       {"provenance": study -> {"command", "scale", ...}, "values": name -> number}
    scores.csv         study, run, score, mean, deviation, seeds, values; one row per score
    study.json         result of `python -m deft_jax.sweep`: replaces the runs of the first study of results.json
    study_NAME.json    the same for the study NAME
    *.csv, *.json      other tables, read by `table`, `record_table` and `read_json`

The page of the folder NAME is NAME.md. A study that was run again is published by copying its study.json here; numbers
in the prose follow, conclusions in words have to be read again.
"""

import argparse
import pathlib
import re
import statistics
import sys
from collections.abc import Sequence

import jinja2
from measured import Experiment, extent, flat, listed, markdown, mean_deviation, method, number

FOLDER = pathlib.Path(__file__).resolve().parent

# Pages in the order of the index: heading -> folders.
SECTIONS = {
    "Claims of the paper": ("claims", "diffusion"),
    "First runs": ("quickstart", "models", "order_of_freezing"),
    "Freezing points and betas": ("annealing_test", "annealed_betas"),
    "Comparisons with baselines": (
        "dsprites", "other_sets", "supervision", "quantised", "all_objectives", "published_scores",
    ),
    "What moves the scores of DEFT": ("ablation", "rotation", "betas_without_labels", "latent_counts", "mig_ceiling"),
    "Software": ("survival", "speed", "disent", "accelerator", "scaling"),
}

# What a template may use of its Experiment.
TEMPLATE_NAMES = ("values", "provenance", "read_json", "rows", "row", "table", "record_table", "score", "numbers",
                  "pooled", "runs", "score_table", "seed_table", "commands")  # fmt: skip


def _environment(root: pathlib.Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {
        "num": number,
        "flat": flat,
        "listed": listed,
        "extent": extent,
        "mean_deviation": mean_deviation,
        "mean": statistics.mean,
        "fixed": lambda value, digits=3: f"{number(value):.{digits}f}",
        "thousands": lambda value: f"{value:,}",
        "first_number": lambda text: text.replace(",", " ").split()[0],
    }
    environment.globals |= {
        "markdown": markdown,
        "method": method,
        "experiment": lambda name: Experiment.read(root / name),
    }
    return environment


def render(name: str, root: pathlib.Path = FOLDER) -> str:
    """The page of one experiment as Markdown.

    Args:
      name: of its folder.
      root: folder of the experiments.
    """
    measured = Experiment.read(root / name)
    context = {key: getattr(measured, key) for key in TEMPLATE_NAMES}
    text = _environment(root).get_template(f"{name}/page.md.j2").render(context)
    parts = [re.sub(r"\n{3,}", "\n\n", text).strip("\n"), measured.provenance_table()]
    return "\n\n".join(part for part in parts if part) + "\n"


def build(root: pathlib.Path = FOLDER) -> dict[str, str]:
    """All pages: file name -> Markdown.

    Raises:
      ValueError: a folder with a template is not in SECTIONS, or a page lacks its question or answer.
    """
    in_index = {name for names in SECTIONS.values() for name in names}
    if forgotten := sorted(path.parent.name for path in root.glob("*/page.md.j2") if path.parent.name not in in_index):
        raise ValueError(f"SECTIONS of docs/experiments/build.py lacks {', '.join(forgotten)}")
    pages = {f"{name}.md": render(name, root) for names in SECTIONS.values() for name in names}
    entries = {}
    for file, text in pages.items():
        title = re.match(r"# (.+)\n", text)
        question, answer = (re.search(rf"^\*\*{word}:\*\* (.+)$", text, re.M) for word in ("Question", "Answer"))
        if not (title and question and answer):
            raise ValueError(f"{file} must open with '# TITLE', '**Question:**' and '**Answer:**'")
        entries[file.removesuffix(".md")] = {"title": title[1], "question": question[1], "answer": answer[1]}
    index = _environment(root).get_template("index.md.j2").render(sections=SECTIONS, entries=entries)
    return {"index.md": re.sub(r"\n{3,}", "\n\n", index).rstrip("\n") + "\n", **pages}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is not up to date")
    check = parser.parse_args(argv).check
    stale = []
    for file, text in build().items():
        path = FOLDER / file
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(file)
            if not check:
                path.write_text(text, encoding="utf-8")
    print("\n".join(f"{'differs' if check else 'written'}: {file}" for file in stale) or "every page is up to date")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
