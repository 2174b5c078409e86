"""The page of commands: what each does, and every flag, read from the commands themselves."""

import argparse
import ast
import importlib
import os
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

from reference_docstrings import escape, eval_rst, to_rst

ROOT = pathlib.Path(__file__).parent.parent
COMMANDS = ("train", "annealing", "evaluate", "sweep", "report", "gallery", "compile")
LAUNCHERS = ("local.sh", "slurm.sh", "tpu_vm.sh", "container.sh")


class Flag(NamedTuple):
    """A flag of a command: how it is written, and what it means."""

    written: str
    meaning: str


class _Parsed(Exception):
    """Carries the parser of a command out of its main()."""


def _absl_flags(name: str) -> list[Flag]:
    """The flags that this package defines for a command, from its --helpfull."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", f"deft_jax.{name}", "--helpfull"], capture_output=True, text=True, env=environment
    )
    flags: list[Flag] = []
    is_own = False
    for line in done.stdout.splitlines():
        head = re.fullmatch(r"(\S.*):", line)
        flag = re.match(r"  --(?:\[no\])?([\w.]+): (.*)", line)
        if head:
            is_own = "deft_jax" in head[1]
        elif flag and is_own:
            flags.append(Flag(f"--{flag[1]} {flag[1].upper()}", flag[2]))
        elif is_own and flags and line.strip() and "default: 'None'" not in line:
            flags[-1] = flags[-1]._replace(meaning=f"{flags[-1].meaning} {line.strip()}")
    override = Flag("--config.FIELD=VALUE", "Sets a field of the configuration; `@FILE` as the value reads it from a "
                    "JSON file that has an entry of the field's name. May be repeated.")  # fmt: skip
    return [*sorted(flags), override] if flags else []


def _argparse_flags(name: str) -> list[Flag]:
    """The flags of a command from its ArgumentParser, which is intercepted before it parses."""

    def intercept(parser, *arguments, **options):
        raise _Parsed(parser)

    original = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = intercept
    try:
        importlib.import_module(f"deft_jax.{name}").main([])
    except _Parsed as parsed:
        parser = parsed.args[0]
    finally:
        argparse.ArgumentParser.parse_args = original
    flags = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        metavar = action.metavar or action.dest.upper()
        metavar = f"{metavar} [{metavar} ...]" if action.nargs in ("+", "*") else metavar
        written = f"{action.option_strings[-1]} {metavar}" if action.option_strings else metavar
        meaning = (action.help or "") % {"default": action.default, "dest": action.dest}
        flags.append(Flag(written, meaning))
    return flags


def flags_of(name: str) -> list[Flag]:
    """Every flag of `python -m deft_jax.NAME`."""
    source = _source(name)
    return _argparse_flags(name) if "add_argument" in source.read_text() else _absl_flags(name)


def _source(name: str) -> pathlib.Path:
    path = ROOT / "deft_jax" / f"{name}.py"
    return path if path.exists() else ROOT / "deft_jax" / name / "__main__.py"


def _docstring(name: str) -> str:
    return ast.get_docstring(ast.parse(_source(name).read_text())) or ""


def _usage(doc: str) -> list[str]:
    """A docstring whose first line is the command: that line as a block."""
    head, _, rest = doc.partition("\n")
    if not head.startswith("python -m"):
        return to_rst(doc)
    return [".. code-block:: sh", "", f"   {head}", "", *to_rst(rest)]


def commands() -> str:
    """The page of all commands."""
    text = [
        "# Commands\n",
        "Every command is a module of the package. Invalid input ends in one line on stderr and status 2, a run that "
        "fails in one line and status 1, a signal in a saved state and status 143.\n",
    ]
    for name in COMMANDS:
        module = f"python -m deft_jax.{name}"
        lines = [*_usage(_docstring(name)), "", f".. program:: {module}", ""]
        for flag in flags_of(name):
            lines += [f".. option:: {flag.written}", "", f"   {escape(flag.meaning)}", ""]
        text += [f"(command-{name})=\n## deft_jax.{name}\n", eval_rst(lines)]
    return "\n".join(text)


def launchers() -> str:
    """The page of the launch scripts: the head of each."""
    text = [
        "# Launch scripts\n",
        "Each prints this text with `--help`, and with `--dry-run` the commands that it would run. "
        "See {doc}`/howto/devices_and_clusters` for how to use them.\n",
    ]
    for name in LAUNCHERS:
        lines = (ROOT / "launch" / name).read_text().splitlines()[1:]
        end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
        head = [line.removeprefix("#").removeprefix(" ") for line in lines[:end]]
        text += [f"## launch/{name}\n", "```text\n" + "\n".join(head) + "\n```\n"]
    return "\n".join(text)


def configs() -> str:
    """The page of the configurations that come with the package: the first sentence of each file."""
    text = [
        "# Configurations\n",
        "A configuration is a Python file with a function `get_config()` that returns a `ConfigDict`. These come with "
        "the package, in a checkout and in a wheel: `--config configs/NAME.py` works in any folder. Each file opens "
        "with its command and, where it has been measured, its run time and score.\n",
    ]
    for folder, title, command in (
        ("configs", "Trainings and the annealing test", "`python -m deft_jax.train`; `ifp_dsprites.py` is for "
         "`python -m deft_jax.annealing`"),
        ("configs/studies", "Studies", "`python -m deft_jax.sweep`"),
    ):  # fmt: skip
        text += [f"## {title}\n", f"Command: {command}.\n"]
        lines = [".. list-table::", "   :widths: 30 70", ""]
        for path in sorted((ROOT / folder).glob("*.py")):
            if path.stem == "__init__":
                continue
            doc = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
            lines += [f"   * - ``{folder}/{path.name}``", f"     - {escape(' '.join(doc.split()))}"]
        text.append(eval_rst(lines))
    return "\n".join(text)


def pages() -> dict[str, str]:
    """Name -> Markdown of the pages of commands, launch scripts and configurations."""
    return {"commands": commands(), "launchers": launchers(), "configs": configs()}
