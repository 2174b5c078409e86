"""Trained workdirs that the tests of this room share."""

import shutil

import pytest


@pytest.fixture(scope="module")
def workdir(trained_once, tmp_path_factory):
    directory = tmp_path_factory.mktemp("evaluate") / "run"
    shutil.copytree(trained_once, directory)
    return directory


@pytest.fixture
def fresh(workdir, tmp_path):
    """A trained workdir whose results.json has no scores yet but another entry."""
    shutil.copytree(workdir, tmp_path / "fresh")
    (tmp_path / "fresh" / "results.json").write_text('{"note": [1, 2]}')
    return tmp_path / "fresh"
