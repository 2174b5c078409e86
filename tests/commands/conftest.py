"""A folder with the launch scripts and stand-ins for what they call."""

import pytest
from launch_stand_ins import Stage


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)
