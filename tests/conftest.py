"""What several test files share."""

import jax
import pytest
import tiny

from deft_jax.training import session


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """The workdir of the smallest run, trained to its end. Not to be written to: copy it."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    session.run(tiny.config(), workdir, jax.devices()[:1])
    return workdir
