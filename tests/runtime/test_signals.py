"""Signals are recorded within a block; a block inside another one knows what that one has received."""

import os
import signal

from deft_jax.runtime.signals import Signals


def test_a_signal_that_came_before_the_inner_block_is_not_lost():
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as outer:
        with Signals() as first:
            assert first.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        with Signals() as second:
            assert second.received == outer.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
