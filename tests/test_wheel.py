"""The wheel: everything is in it, the configs too, and a command finds them where there is no checkout."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from deft_jax.runtime import cli

ROOT = pathlib.Path(__file__).parent.parent
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The contents of a wheel built from a copy of the checkout, in a folder."""
    pytest.importorskip("setuptools", minversion="70.1", reason="builds the wheel with setuptools of 70.1 or later")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("deft_jax", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-c", BUILD, folder], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def names_in(folder):
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix() for path in paths}


def test_every_file_and_every_config_is_in_the_wheel(installed):
    assert names_in(installed / "deft_jax") == names_in(ROOT / "deft_jax") | {
        f"configs/{name}" for name in names_in(ROOT / "configs")
    }
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"deft_jax"}


def run_installed(installed, folder, *arguments):
    """A command of the wheel's own deft_jax, in a folder."""
    environment = os.environ | {"PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "deft_jax.train", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_command_finds_the_configs_of_the_wheel(installed, tmp_path):
    # Refused by the config's own fields, before anything is trained: so the config was read.
    done = run_installed(installed, tmp_path, "--config=configs/quickstart.py", "--config.fild=1", "--workdir=run")
    assert done.returncode == cli.BAD_INPUT
    assert "has no field 'fild'" in done.stderr


def test_a_file_in_the_working_folder_wins(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli._ConfigFile().parse("configs/quickstart.py").total_steps == 30_000
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.py").write_text("def get_config():\n    return {'mine': 1}\n")
    assert cli._ConfigFile().parse("configs/quickstart.py").mine == 1
    assert cli._ConfigFile().parse("configs/ifp_dsprites.py:correlated").data.name == "correlated"


def test_only_files_of_configs_are_looked_for_in_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "configs" / "quickstart.py")
    for path in ("quickstart.py", "configs/nothing.py", "deft_jax/runtime/cli.py", absolute):
        with pytest.raises(cli._InvalidFlag, match="cannot read the config"):
            cli._ConfigFile().parse(path)
