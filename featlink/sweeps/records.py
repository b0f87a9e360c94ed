"""``runs.sqlite``: one run per condition and seed, with each image's result stored exactly once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from featlink.dataset import store_name
from featlink.errors import CommandError
from featlink.shared.evaluation.coco import GroundTruth
from featlink.shared.store import Store, sqlite_url
from featlink.sweeps.engine import Identity, Outcome
from featlink.sweeps.plan import Job

DATABASE = "runs.sqlite"
_MANY = 1_000_000


class Records:
    """The sweep's database: the cloud's store, in a file of its own. A context manager.

    Args:
        folder: the sweep's.
        dataset: name of the data set.
        truth: its ground truth.
        identity: of the network.
        jobs: by index.

    Raises:
        CommandError: the database cannot be opened or written.
        ConflictError: it has other ground truth of that name.
    """

    def __init__(self, folder: Path, dataset: str, truth: GroundTruth, identity: Identity, jobs: Sequence[Job]) -> None:
        self._folder = folder
        with self._failing():
            self.store = Store(sqlite_url(folder.resolve() / DATABASE))
            name = self.store.put_dataset(store_name(dataset), truth).name
            known = runs_by_name(self.store)
            self.runs = [
                known.get(job.name)
                or self.store.create_run(
                    name,
                    condition=str(job.condition),
                    domain=job.condition.domain,
                    model=identity.model,
                    weights=identity.weights,
                    name=job.name,
                ).id
                for job in jobs
            ]
            self._done = [self.store.done(run) for run in self.runs]

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *error: object) -> None:
        self.store.close()

    def missing(self, image_id: int) -> tuple[int, ...]:
        """Indices of the jobs that have no result for an image."""
        return tuple(index for index, done in enumerate(self._done) if image_id not in done)

    def add(self, outcome: Outcome) -> None:
        """Store a result, unless there is one; when this returns, it is on disk.

        Raises:
            CommandError: it cannot be written.
        """
        with self._failing():
            self.store.add_result(self.runs[outcome.index], outcome.result)
        self._done[outcome.index].add(outcome.result.image_id)

    def evaluated(self) -> set[int]:
        """Ids of the images that have a result for any job."""
        return set().union(*self._done)

    def complete(self) -> set[int]:
        """Ids of the images that have a result for every job."""
        return set.intersection(*self._done)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise CommandError(
                f"{self._folder / DATABASE}: {reason}; what was stored is safe, and the same command continues"
            ) from None


def runs_by_name(store: Store) -> dict[str, str]:
    """Ids of a sweep's runs by their jobs' names."""
    return {run.name: run.id for run in store.runs(_MANY)}
