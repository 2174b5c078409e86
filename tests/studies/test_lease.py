"""One process at a time has the lease of a run."""

import os
import time

from deft_jax.studies.lease import NAME, Lease


def test_a_lease_belongs_to_one_process_until_it_is_released(tmp_path):
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_without_a_heartbeat_is_taken_over_by_one_process(tmp_path):
    assert Lease(tmp_path, heartbeat=1e6).take()
    long_ago = time.time() - 1000
    os.utime(tmp_path / NAME, (long_ago, long_ago))
    others = [Lease(tmp_path) for _ in range(3)]
    assert [lease.take() for lease in others] == [True, False, False]
    others[0].release()


def test_a_lease_is_touched_at_every_heartbeat(tmp_path):
    lease = Lease(tmp_path, heartbeat=0.01)
    assert lease.take()
    os.utime(tmp_path / NAME, (0, 0))
    deadline = time.monotonic() + 300
    while (tmp_path / NAME).stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / NAME).stat().st_mtime > 0
    lease.release()
