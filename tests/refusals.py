"""What is refused is refused in one line."""

import contextlib

import pytest


@contextlib.contextmanager
def refused(message, error=ValueError):
    """Within it, an error is raised whose only line matches the pattern."""
    with pytest.raises(error, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)
