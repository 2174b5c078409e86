"""MLflow as a tracker of runs: https://mlflow.org.

MLFLOW_TRACKING_URI names the server, MLFLOW_EXPERIMENT_NAME the experiment. Without the first, runs are in a database
mlflow.db in the workdir, which those of a study, or of several seeds, share.
"""

import contextlib
import logging
import os
import pathlib
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import filelock

from deft_jax.training.tracking import Status, TrackedRun

EXPERIMENT = "deft_jax"  # of runs without a group, where MLFLOW_EXPERIMENT_NAME is not set

_DATABASE, _ARTIFACTS = "mlflow.db", "mlflow_artifacts"
_NEEDED_BY_DATABASE = ("sqlalchemy", "alembic")
_KEY = "deft_jax.run"
_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_MOST_METRICS, _MOST_PARAMS, _LONGEST = 1000, 100, 6000  # of one request; characters of a parameter


def check(in_bucket: bool) -> None:
    """Checks that there is a place for runs.

    Args:
      in_bucket: whether a workdir is the copy of one in a bucket.

    Raises:
      ValueError: the workdir is in a bucket, where no database can be, and no server is named; or what a database
        needs is not installed.
    """
    import importlib.util

    import mlflow

    if mlflow.is_tracking_uri_set():
        return
    if in_bucket:
        raise ValueError("tracking = 'mlflow' with a workdir in a bucket needs a server, because a database cannot be "
                         "in a bucket: set MLFLOW_TRACKING_URI")  # fmt: skip
    missing = [name for name in _NEEDED_BY_DATABASE if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"tracking = 'mlflow' without MLFLOW_TRACKING_URI needs {', '.join(missing)} for its "
                         "database: pip install 'deft_jax[mlflow]'")  # fmt: skip


class MlflowTracker:
    """A run of MLflow."""

    def open(self, run: TrackedRun, sent: int) -> int:
        """See tracking.Tracker."""
        import mlflow
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # the steps of creating a database are no news
            logging.getLogger(name).setLevel(logging.WARNING)
        is_local = not mlflow.is_tracking_uri_set()
        store = run.store.absolute()
        with _one_at_a_time(store) if is_local else contextlib.nullcontext():
            uri = f"sqlite:///{store / _DATABASE}" if is_local else mlflow.get_tracking_uri()
            self._client: Any = MlflowClient(uri)
            artifacts = (store / _ARTIFACTS).as_uri() if is_local else None
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.group or EXPERIMENT
            experiment = self._experiment(name, artifacts)
        found = self._client.search_runs([experiment], f"tags.`{_KEY}` = '{run.key}'")
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, "RUNNING")
        else:
            self._id = self._client.create_run(experiment, tags={_KEY: run.key}, run_name=run.name).info.run_id
        self._takes_files = self._has_place_for_files(is_local, store)
        self._log_config(run.config)
        # The store knows what it has, each metric to its last step, whoever has noted what elsewhere.
        metrics = self._client.get_run(self._id).data.to_proto().metrics
        self._last = {metric.key: metric.step for metric in metrics}
        return -1

    def _experiment(self, name: str, artifacts: str | None) -> str:
        """The id of the experiment of a name, which is created where there is none."""
        from mlflow.exceptions import MlflowException

        if (found := self._client.get_experiment_by_name(name)) is None:
            try:
                return self._client.create_experiment(name, artifact_location=artifacts)
            except MlflowException:  # another run has created it meanwhile
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        return found.experiment_id

    def _has_place_for_files(self, is_local: bool, store: pathlib.Path) -> bool:
        """Whether files go where the database is: a store that was moved names the folder where it was."""
        if not is_local:
            return True
        uri = self._client.get_run(self._id).info.artifact_uri
        return pathlib.Path(urllib.request.url2pathname(uri.removeprefix("file://"))).is_relative_to(store)

    def _log_config(self, config: Mapping[str, Any]) -> None:
        """Logs the configuration as parameters, which never change, and whole as it is now."""
        from mlflow.entities import Param

        known = self._client.get_run(self._id).data.params
        values = {_name(name): str(value)[:_LONGEST] for name, value in _flat(config)}
        params = [Param(name, value) for name, value in values.items() if name not in known]
        for start in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _MOST_PARAMS])
        if self._takes_files:
            self._client.log_dict(self._id, dict(config), "config.json")

    def log(self, step: int, scalars: Mapping[str, float], figures: Sequence[pathlib.Path]) -> None:
        """See tracking.Tracker."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        names = {_name(name): value for name, value in scalars.items()}
        metrics = [Metric(name, value, now, step) for name, value in names.items() if step > self._last.get(name, -1)]
        for start in range(0, len(metrics), _MOST_METRICS):
            batch = metrics[start : start + _MOST_METRICS]
            self._client.log_batch(self._id, metrics=batch)
            self._last |= {metric.key: step for metric in batch}
        for path in figures if self._takes_files else ():
            self._client.log_artifact(self._id, str(path), "figures")

    def summarise(self, step: int, scores: Mapping[str, float]) -> None:
        """See tracking.Tracker."""
        self.log(step, scores, ())

    def close(self, status: Status) -> None:
        """See tracking.Tracker."""
        self._client.set_terminated(self._id, _STATUS[status])


@contextlib.contextmanager
def _one_at_a_time(store: pathlib.Path) -> Iterator[None]:
    """Two runs that create the tables of one database at once would fail."""
    with filelock.FileLock(store / f".{_DATABASE}.lock", timeout=300):
        yield


def _name(name: str) -> str:
    """A name with only the characters that MLflow allows everywhere."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:250]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of the fields of a configuration."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + str(name), value
