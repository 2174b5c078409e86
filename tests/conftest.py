"""What several test files share."""

import jax
import pytest
import shared_programs as programs
import tiny

from deft_jax.training import session


def pytest_collection_modifyitems(items):
    """Files with a slow test come first: a worker that starts with one at the end would keep the others waiting."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """The workdir of the smallest run, trained to its end. Not to be written to: copy it."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    with programs.shared(), programs.drawn():
        session.run(tiny.config(), workdir, jax.devices()[:1])
    return workdir


@pytest.fixture(scope="module")
def shared_programs():
    """Within a module, trainings share their compiled programs, also with other modules, and draw no figures."""
    with programs.shared():
        yield


@pytest.fixture
def drawn():
    """Trainings draw figures, also where programs are shared."""
    with programs.drawn():
        yield
