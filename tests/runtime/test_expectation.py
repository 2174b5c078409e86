"""EXPECTED of a config file is said of its config as it stands, whatever the seed."""

import pytest

from deft_jax.runtime import cli

FILE = """
from ml_collections import ConfigDict
{line}
def get_config():
    return ConfigDict({{"seed": 0, "num_seeds": 1, "model": {{"latents": 3}}}})
"""


SETTINGS = [("seed", 7, True), ("num_seeds", 4, True), ("model", 4, False)]


@pytest.mark.parametrize(("field", "value", "is_said"), SETTINGS)
def test_only_the_seed_may_differ(tmp_path, field, value, is_said):
    path = tmp_path / "config.py"
    path.write_text(FILE.format(line="EXPECTED = 'a score of 1'"))
    file = cli._ConfigFile()
    config = file.parse(str(path))
    assert file.expectation(config) == "a score of 1"
    if field == "model":
        config.model.latents = value
    else:
        config[field] = value
    assert file.expectation(config) == ("a score of 1" if is_said else "")


def test_a_file_may_have_none(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(FILE.format(line=""))
    file = cli._ConfigFile()
    assert file.expectation(file.parse(str(path))) == ""
