"""Copies of folders in a bucket, and leases, against a bucket that is a folder here."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
from refusals import refused

from deft_jax.runtime import buckets, leases, mirrors
from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.paths import local_path

fsspec = pytest.importorskip("fsspec", reason="the extras gs and s3 bring fsspec")

ADDRESS = "gs://bucket/run"
MARKER = "_CHECKPOINT_METADATA"


class Lost(Exception):
    """The process was killed, or the connection lost."""


class Bucket:
    """A folder as a file system of fsspec, which may fail after so many changes.

    Attributes:
      root: where the objects of ADDRESS are.
      left: changes until it fails; None for never.
      puts: names of uploaded objects, in their order.
    """

    def __init__(self, folder):
        (folder / "bucket").mkdir(parents=True)
        self.root, self.left, self.puts = folder / "bucket/run", None, []
        local = fsspec.filesystem("file", auto_mkdir=True, skip_instance_cache=True)
        self._files = fsspec.filesystem("dir", path=str(folder), fs=local, skip_instance_cache=True)

    def __getattr__(self, name):
        return getattr(self._files, name)

    def _change(self):
        if self.left == 0:
            raise Lost("no route to host")
        if self.left is not None:
            self.left -= 1

    def pipe_file(self, path, value, mode="overwrite"):
        """In one piece, as a bucket does: nobody reads half of it."""
        if mode == "create":
            self._files.pipe_file(path, value, mode=mode)
            return
        self._files.pipe_file(path + ".part", value)
        os.replace(self.root.parent.parent / (path + ".part"), self.root.parent.parent / path)

    def put(self, sources, targets):
        for source, target in zip(sources, targets, strict=True):
            self._change()
            self.puts.append(target.removeprefix("bucket/run/"))
            self._files.put_file(source, target)

    def rm(self, paths):  # those of buckets take patterns, that of folders does not
        for path in self._files.expand_path(paths):
            self.rm_file(path)

    def rm_file(self, path):
        self._change()
        self._files.rm_file(path)

    def names(self):
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    made = Bucket(tmp_path / "store")
    monkeypatch.setattr(fsspec, "filesystem", lambda *args, **options: made)
    monkeypatch.setattr(mirrors, "_POLL", 0.01)
    monkeypatch.setattr(leases, "RENEWED", 0.05)
    monkeypatch.setattr(leases, "EXPIRES", 0.5)
    return made


def write(folder, **files):
    """Files by name, with __ for /."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_checkpoint(folder, step):
    """As orbax does: elsewhere, and renamed when it is complete."""
    partial = folder / f"checkpoints/{step}.orbax-checkpoint-tmp"
    write(partial, default__manifest=f"m{step}", default__d__numbers=f"n{step}", **{MARKER: "{}"})
    os.replace(partial, folder / f"checkpoints/{step}")


def read(address=ADDRESS):
    with buckets.reading_copy(address, "--workdir") as folder:
        return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_can_be_read_and_changed(bucket):
    with buckets.working_copy(ADDRESS + "/", "--workdir") as folder:
        assert folder.name == "run"
        write(folder, **{"config.json": "{}", "a__b": "1", "gone": "x", ".lock": "local", "a__b.tmp": "half"})
        write(folder, **{"checkpoints__7.orbax-checkpoint-tmp__default__d": "half"})
        write_checkpoint(folder, 4)
    assert bucket.puts[0] == "config.json"
    assert not folder.exists()
    expected = {"config.json", "a/b", "gone", *(f"checkpoints/4/{name}" for name in (
        MARKER, "default/manifest", "default/d/numbers"))}  # fmt: skip
    assert set(read()) == set(bucket.names()) == expected
    write(bucket.root, mine="a note of the user")
    bucket.puts.clear()
    with buckets.working_copy(pathlib.Path(ADDRESS), "--workdir") as folder:  # pathlib makes one slash of two
        assert (folder / "mine").exists()
        write(folder, a__b="22")
        (folder / "gone").unlink()
        write(bucket.root, later="put by somebody else meanwhile")
    assert bucket.puts == ["a/b"]
    assert set(bucket.names()) == expected - {"gone"} | {"mine", "later"}
    assert read()["a/b"] == "22"


def test_checkpoints_are_uploaded_while_the_command_works(bucket):
    with buckets.working_copy(ADDRESS, "--workdir") as folder:
        for step in range(2, 8):
            write(folder, **{"config.json": "{}", "metrics.jsonl": str(step)})
            write_checkpoint(folder, step)
            shutil.rmtree(folder / f"checkpoints/{step - 2}", ignore_errors=True)
            deadline = time.monotonic() + 30
            while not (bucket.root / f"checkpoints/{step}/{MARKER}").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert read()["metrics.jsonl"] == str(step)
    assert {name.split("/")[1] for name in bucket.names() if name.startswith("checkpoints")} == {"6", "7"}


def test_any_moment_leaves_whole_checkpoints_and_records_up_to_them(bucket, monkeypatch):
    """Killed after each number of changes, from a first upload over a second to a rewritten checkpoint."""
    monkeypatch.setattr(mirrors.Mirror, "_watch", lambda self: None)
    is_whole, changes = False, -1
    while not is_whole:
        changes += 1
        shutil.rmtree(bucket.root, ignore_errors=True)
        bucket.left = None
        with buckets.working_copy(ADDRESS, "--workdir") as folder:
            write(folder, **{"config.json": "{}", "metrics.jsonl": "4"})
            write_checkpoint(folder, 4)
        bucket.left = changes
        try:
            with buckets.working_copy(ADDRESS, "--workdir") as folder:
                write(folder, **{"metrics.jsonl": "8"})
                write_checkpoint(folder, 8)
                shutil.rmtree(folder / "checkpoints/4")
            is_whole = True
        except CannotWrite as error:
            message = str(error)
            assert (folder / f"checkpoints/8/{MARKER}").exists(), "what could not be uploaded is lost"
            shutil.rmtree(folder.parent)
        assert is_whole or str(folder) in message
        bucket.left = None
        found = read()
        steps = {int(name.split("/")[1]) for name in found if name.startswith("checkpoints/")}
        assert steps, "no checkpoint is left"
        for step in steps:
            assert found[f"checkpoints/{step}/{MARKER}"] == "{}"
            assert found[f"checkpoints/{step}/default/manifest"] == f"m{step}"
            assert found[f"checkpoints/{step}/default/d/numbers"] == f"n{step}"
        assert int(found["metrics.jsonl"]) >= max(steps)
        with buckets.working_copy(ADDRESS, "--workdir"):  # what is incomplete is removed by the next writer
            pass
        assert set(bucket.names()) == set(found)
    assert changes == 7  # the records, three files of a checkpoint, and three that are removed


def test_upload_that_fails_meanwhile_is_tried_again(bucket, monkeypatch, capsys):
    monkeypatch.setattr(mirrors, "_RETRY", 0.01)
    with buckets.working_copy(ADDRESS, "--workdir") as folder:
        bucket.left = 0
        write(folder, **{"config.json": "{}"})
        write_checkpoint(folder, 1)
        deadline = time.monotonic() + 30
        while "no route to host" not in (err := capsys.readouterr().err):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert ADDRESS in err
        bucket.left = None
    assert f"checkpoints/1/{MARKER}" in bucket.names()
    bucket.left = 0
    with pytest.raises(ZeroDivisionError), buckets.working_copy(ADDRESS, "--workdir") as folder:  # noqa: PT012
        write(folder, new="1")
        raise ZeroDivisionError
    assert (folder / "new").exists()
    assert str(folder) in capsys.readouterr().err
    shutil.rmtree(folder.parent)


def test_errors_name_the_address(bucket):
    with refused(rf"^{ADDRESS}/x is odd$"), buckets.working_copy(ADDRESS, "--workdir") as folder:
        raise ValueError(f"{folder / 'x'} is odd")


def test_characters_of_patterns_stand_for_themselves(bucket):
    """Of fsspec, some functions take a path for a pattern; that of a run must not reach into the next run."""
    names = ("run1", "run*", "run?", "run[1]", "run#%25 ü")
    for name in names:
        with buckets.working_copy(f"gs://bucket/{name}", "--workdir") as folder:
            write(folder, **{"config.json": "{}", "name": name, "gone": "x"})
    for name in names[1:]:
        with buckets.working_copy(f"gs://bucket/{name}", "--workdir") as folder:
            assert (folder / "name").read_text() == name
            (folder / "gone").unlink()
            write(folder, name=name + "!")
    found = [set(read(f"gs://bucket/{name}").items()) for name in names]
    assert found[0] == {("config.json", "{}"), ("name", "run1"), ("gone", "x")}
    assert found[1:] == [{("config.json", "{}"), ("name", name + "!")} for name in names[1:]]


WRONG = ["gs://", "gs://bucket", "gs://bucket/", "s3://b/../c", "gs://b/a\nb", "s3:///"]


@pytest.mark.parametrize("address", WRONG)
def test_wrong_addresses_are_refused(bucket, address):
    for copy in (buckets.working_copy, buckets.reading_copy):
        with refused("^--workdir must be gs://BUCKET/FOLDER"), copy(address, "--workdir"):
            pass
    assert not list(bucket.root.parent.iterdir())


def test_other_schemes_missing_libraries_and_places_without_a_run_are_refused(bucket, monkeypatch):
    with refused("^--workdir must be a path on a local"), buckets.working_copy("hdfs://a/b", "--workdir"):
        pass
    write(bucket.root, notes="mine")
    with refused("no config.json"), buckets.working_copy(ADDRESS, "--workdir"):
        pass
    with refused("is a file"), buckets.working_copy(ADDRESS + "/notes", "--workdir"):
        pass
    assert bucket.names() == ["notes"]

    def absent(*args, **options):
        raise ImportError("Please install")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with refused("^--workdir s3://b/c needs s3fs: pip install"), buckets.working_copy("s3://b/c", "--workdir"):
        pass


def test_local_folders_are_used_as_they_are(tmp_path):
    for copy in (buckets.working_copy, buckets.reading_copy, buckets.output_file):
        with copy(tmp_path / "run", "--workdir") as folder:
            assert folder == local_path(tmp_path / "run", "--workdir")


def test_page_in_a_bucket_is_read_before_it_is_replaced(bucket):
    with buckets.output_file(ADDRESS + "/report.html", "--out") as page:
        assert not page.exists()
        page.write_text("first")
    with buckets.output_file(ADDRESS + "/report.html", "--out") as page:
        assert page.read_text() == "first"
        page.write_text("second")
    assert buckets.read_text(ADDRESS + "/report.html", "--out") == "second"
    with pytest.raises(OSError, match="no such bucket or object"):
        buckets.read_text(ADDRESS + "/other", "--out")


def test_place_for_a_page_is_looked_at_before_the_page_is_made(bucket):
    shutil.rmtree(bucket.root.parent)
    with refused("^--out gs://bucket/run/report.html: there is no such bucket"):
        with buckets.output_file(ADDRESS + "/report.html", "--out"):
            pytest.fail("the page is made")


def test_what_was_saved_is_listed(bucket):
    with buckets.working_copy(ADDRESS, "--workdir") as folder:
        write(folder, **{"config.json": "{}", "a__run.json": "{}", "a__run__log.txt": "x"})
        write_checkpoint(folder, 4)
    assert buckets.saved_names(ADDRESS, "WORKDIR") == ["a/run.json", f"checkpoints/4/{MARKER}"]


# ---- leases ----


def holder(bucket, **changes):
    """Writes a lease of a process of another machine."""
    content = {"host": "far", "process": 1, "machine": "far 1", "token": "t", "renewals": 0} | changes
    write(bucket.root, **{leases.NAME: json.dumps(content)})


def test_second_writer_is_refused_while_the_first_renews(bucket):
    with buckets.working_copy(ADDRESS, "--workdir"):
        with refused(f"in use by process {os.getpid()} on"), buckets.working_copy(ADDRESS, "--workdir"):
            pass
        with buckets.reading_copy(ADDRESS, "--workdir"):
            pass
        assert (bucket.root / leases.NAME).exists()
    assert not (bucket.root / leases.NAME).exists()


def test_lease_that_is_no_longer_renewed_is_taken_over(bucket):
    begin = time.monotonic()
    holder(bucket)
    with buckets.working_copy(ADDRESS, "--workdir"):
        assert time.monotonic() - begin > leases.EXPIRES
    write(bucket.root, **{leases.NAME: "not JSON"})
    with buckets.working_copy(ADDRESS, "--workdir"):
        pass


def test_lease_whose_holder_could_not_reach_the_bucket_either_is_not_taken_over(bucket, monkeypatch):
    read, reads = bucket.cat_file, []

    def after_an_outage(path):
        reads.append(path)
        if len(reads) == 3:
            time.sleep(2 * leases.EXPIRES)
        elif len(reads) == 4 and (bucket.root / leases.NAME).exists():
            holder(bucket, renewals=1)
        return read(path)

    holder(bucket)
    monkeypatch.setattr(bucket, "cat_file", after_an_outage, raising=False)
    with refused("in use by process 1 on far"), buckets.working_copy(ADDRESS, "--workdir"):
        pass


def test_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(bucket, monkeypatch):
    if leases._machine() is None:
        pytest.skip("this system does not say which processes this one can see")
    monkeypatch.setattr(leases, "EXPIRES", 1e9)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holder(bucket, machine=leases._machine(), process=ended.pid)
    with buckets.working_copy(ADDRESS, "--workdir"):
        pass


def test_writer_that_has_lost_its_lease_writes_no_more(bucket):
    with pytest.raises(ValueError, match="taken over by process 1 on far") as error:  # noqa: PT012
        with buckets.working_copy(ADDRESS, "--workdir") as folder:
            holder(bucket)
            write(folder, **{"config.json": "{}"})
    assert bucket.names() == [leases.NAME]
    assert json.loads((bucket.root / leases.NAME).read_text())["token"] == "t"
    assert str(folder) in str(error.value)
    assert (folder / "config.json").exists(), "what is in no bucket is lost"
    shutil.rmtree(folder.parent)


def test_writer_that_was_suspended_while_it_uploaded_and_has_lost_its_lease_writes_no_more(bucket, monkeypatch):
    monkeypatch.setattr(leases, "RENEWED", 1e9)
    put = bucket.put

    def suspended(sources, targets):
        put(sources, targets)
        holder(bucket)

    monkeypatch.setattr(bucket, "put", suspended)
    with pytest.raises(ValueError, match="taken over"), buckets.working_copy(ADDRESS, "--workdir") as folder:  # noqa: PT012
        write(folder, **{"config.json": "{}", "results.json": "old"})
        write_checkpoint(folder, 4)
    assert bucket.names() == [leases.NAME, "config.json"]
    shutil.rmtree(folder.parent)
