"""Data sets, runs and results in an SQL database: what is acknowledged is on disk.

SQLite by default: one file in WAL mode, synced at every commit, so neither ``kill -9`` nor a power cut
loses what a method has returned. Any other SQLAlchemy URL works too. Threads and processes may
share one database.
"""

from __future__ import annotations

import re
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Row, Select, create_engine, delete, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from featlink.shared.errors import ConflictError, DatasetError, NotFoundError, StorageError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import Category, GroundTruth
from featlink.shared.store.tables import (
    DATASETS,
    IMAGES,
    RESULTS,
    RUNS,
    Dataset,
    Result,
    Run,
    begin_sqlite,
    configure_sqlite,
    create_tables,
    decompressed,
    result_of,
    result_row,
    same_file,
    select_dataset,
    select_results,
    select_run,
)

_PAGE = 64
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def sqlite_url(path: Path) -> URL:
    """The URL of an SQLite file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path))


def open_finished(path: Path) -> Store:
    """Open the SQLite file of a finished sweep, which may lie where nothing can be written.

    Raises:
        StorageError: there is none, or it cannot be read.
    """
    if not path.is_file():  # SQLite would make it
        raise StorageError(f"there is no {path}, which has the detections")
    path = path.resolve()
    try:
        return Store(sqlite_url(path))
    except StorageError:
        # A reader writes into WAL's index, too, unless it may take the file for one that nobody changes.
        return Store(
            sqlite_url(Path(f"file:{quote(str(path))}")).set(query={"immutable": "1", "uri": "true"}), read_only=True
        )


class Store:
    """The database. Safe to share between threads.

    Args:
        url: SQLAlchemy URL; ``sqlite:///runs.db`` is a file in the working directory, made if missing. An
            absolute path is that of such a file.
        read_only: it has its tables, and nothing is written.

    Raises:
        StorageError: the URL makes no sense, or the database cannot be opened.
    """

    def __init__(self, url: str | URL, read_only: bool = False) -> None:
        self._categories: dict[str, list[Category]] = {}  # by the data set's digest, as the sizes
        self._sizes: dict[str, dict[int, tuple[int, int]]] = {}  # of images, by the data set's digest
        try:
            self._engine = create_engine(sqlite_url(Path(url)) if isinstance(url, str) and url.startswith("/") else url)
        except (SQLAlchemyError, ImportError) as error:
            raise StorageError(f"database URL: {error}") from None
        self._writer = self._engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        if read_only:
            self.check()
            return
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", configure_sqlite)
            event.listen(self._engine, "begin", begin_sqlite)
        try:
            create_tables(self._writer)
        except DBAPIError:  # without SQLite's lock, another process may make the same table: then all are there now
            try:
                create_tables(self._writer)
            except DBAPIError as error:
                shown = self._engine.url.render_as_string(hide_password=True)
                raise StorageError(f"cannot open database {shown}: {error.orig}") from None
        if self._engine.dialect.name == "sqlite" and (path := self._engine.url.database):
            event.listen(self._engine, "begin", same_file(path), insert=True)

    def check(self) -> None:
        """Check that the database answers.

        Raises:
            StorageError: it does not, or its file was deleted or replaced.
        """
        try:
            with self._engine.connect() as connection:
                connection.execute(select(1))
        except DBAPIError as error:
            raise StorageError(f"the database: {error.orig}") from None

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()

    def put_dataset(self, name: str, truth: GroundTruth) -> Dataset:
        """Store a ground truth; the same content again changes nothing.

        Raises:
            DatasetError: the name is not of the form ``[A-Za-z0-9._-]{1,64}``.
            ConflictError: runs use other content of this name.
        """
        if not _NAME.fullmatch(name):
            raise DatasetError(f"data set name {name!r} is not 1 to 64 of A-Z a-z 0-9 . _ -")
        try:
            return self._put_dataset(name, truth)
        except IntegrityError:  # without SQLite's lock, another may put the name first: then it is seen now
            return self._put_dataset(name, truth)

    def _put_dataset(self, name: str, truth: GroundTruth) -> Dataset:
        canonical = coco.dump(truth)
        dataset = Dataset(name, coco.digest(canonical), len(truth.images), _now())
        row = vars(dataset) | {"ground_truth": zlib.compress(canonical, level=1)}
        with self._writer.begin() as connection:
            stored = connection.execute(select_dataset().where(DATASETS.c.name == name).with_for_update()).one_or_none()
            if stored is None:
                connection.execute(insert(DATASETS), row)
            elif stored.digest == dataset.digest:
                return Dataset(**stored._mapping)
            elif stored.digest == coco.digest(coco.dump(coco.without_names(truth))):  # as earlier versions kept it
                connection.execute(update(DATASETS).where(DATASETS.c.name == name), row)
                return dataset
            else:
                if connection.scalar(select(func.count()).where(RUNS.c.dataset == name)):
                    raise ConflictError(f"data set {name!r} has other content, which runs use; choose another name")
                connection.execute(update(DATASETS).where(DATASETS.c.name == name), row)
                connection.execute(delete(IMAGES).where(IMAGES.c.dataset == name))
            connection.execute(insert(IMAGES), [{"dataset": name, "image_id": image.id} for image in truth.images])
        return dataset

    def delete_dataset(self, name: str) -> None:
        """Delete a data set.

        Raises:
            NotFoundError: there is none of this name.
            ConflictError: runs use it.
        """
        with self._writer.begin() as connection:
            if connection.scalar(select(func.count()).where(RUNS.c.dataset == name)):
                raise ConflictError(f"runs use data set {name!r}; delete them first")
            connection.execute(delete(IMAGES).where(IMAGES.c.dataset == name))
            if not connection.execute(delete(DATASETS).where(DATASETS.c.name == name)).rowcount:
                raise _no_dataset(name)

    def dataset(self, name: str) -> Dataset:
        """A data set.

        Raises:
            NotFoundError: there is none of this name.
        """
        with self._engine.connect() as connection:
            row = connection.execute(select_dataset().where(DATASETS.c.name == name)).one_or_none()
        if row is None:
            raise _no_dataset(name)
        return Dataset(**row._mapping)

    def datasets(self) -> list[Dataset]:
        """All data sets, by name."""
        with self._engine.connect() as connection:
            rows = connection.execute(select_dataset().order_by(DATASETS.c.name)).all()
        return [Dataset(**row._mapping) for row in rows]

    def ground_truth(self, name: str) -> GroundTruth:
        """A data set's ground truth.

        Raises:
            NotFoundError: there is no data set of this name.
        """
        return coco.load(b"".join(self.ground_truth_json(name)))

    def ground_truth_json(self, name: str) -> Iterator[bytes]:
        """A data set's ground truth as the bytes that its digest is of, in pieces; held are those of the database.

        Raises:
            NotFoundError: there is no data set of this name.
        """
        with self._engine.connect() as connection:
            blob = connection.scalar(select(DATASETS.c.ground_truth).where(DATASETS.c.name == name))
        if blob is None:
            raise _no_dataset(name)
        return decompressed(blob)

    def image_size(self, dataset: str, image_id: int) -> tuple[int, int]:
        """Height and width in pixels of one of a data set's images.

        Raises:
            NotFoundError: there is no data set of this name, or no such image in it.
        """
        digest = self.dataset(dataset).digest
        if digest not in self._sizes:
            images = self.ground_truth(dataset).images
            self._sizes[digest] = {image.id: (image.height, image.width) for image in images}
        try:
            return self._sizes[digest][image_id]
        except KeyError:
            raise NotFoundError(f"data set {dataset!r} has no image {image_id}") from None

    def categories(self, dataset: str) -> list[Category]:
        """A data set's categories.

        Raises:
            NotFoundError: there is no data set of this name.
        """
        digest = self.dataset(dataset).digest
        if digest not in self._categories:
            self._categories[digest] = self.ground_truth(dataset).categories
        return self._categories[digest]

    def create_run(
        self,
        dataset: str,
        *,
        condition: str,
        domain: str,
        model: str,
        weights: str,
        name: str = "",
        token_digest: str | None = None,
    ) -> Run:
        """Open a run; arguments as in :class:`Run`, and the digest of the token that results need to enter it.

        Raises:
            NotFoundError: there is no such data set.
        """
        run_id = uuid.uuid4().hex
        row = {
            "condition": condition,
            "domain": domain,
            "model": model,
            "weights": weights,
            "name": name,
            "token": token_digest,
        }
        try:
            with self._writer.begin() as connection:
                connection.execute(insert(RUNS), row | {"id": run_id, "dataset": dataset, "created": _now()})
        except IntegrityError:
            raise _no_dataset(dataset) from None
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        """A run.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self._engine.connect() as connection:
            row = connection.execute(select_run().where(RUNS.c.id == run_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"there is no run {run_id!r}")
        return Run(**row._mapping)

    def token_digest(self, run_id: str) -> str | None:
        """The digest of a run's token; None if it has none.

        Raises:
            NotFoundError: there is no such run.
        """
        self.run(run_id)
        with self._engine.connect() as connection:
            return connection.scalar(select(RUNS.c.token).where(RUNS.c.id == run_id))

    def runs(self, limit: int = 100, offset: int = 0) -> list[Run]:
        """Runs, the newest first."""
        query = select_run().order_by(RUNS.c.created.desc(), RUNS.c.id).limit(limit).offset(offset)
        with self._engine.connect() as connection:
            return [Run(**row._mapping) for row in connection.execute(query)]

    def delete_run(self, run_id: str) -> None:
        """Delete a run and its results.

        Raises:
            NotFoundError: there is no such run.
        """
        with self._writer.begin() as connection:
            if not connection.execute(delete(RUNS).where(RUNS.c.id == run_id)).rowcount:
                raise NotFoundError(f"there is no run {run_id!r}")

    def add_result(self, run_id: str, result: Result) -> tuple[Result, bool]:
        """Add an image's result, exactly once: if the run has one for this image, that one stays.

        Returns:
            The result now stored, and whether this call stored it.

        Raises:
            NotFoundError: no such run, or its data set has no such image.
            ValueError: a number is not finite.
        """
        result = replace(result, created=_now())
        row = result_row(run_id, result)
        self._check_images(run_id, [result.image_id])
        try:
            with self._writer.begin() as connection:
                connection.execute(insert(RESULTS), row)
        except IntegrityError:  # the primary key holds between threads and processes, in any database
            return self.result(run_id, result.image_id), False  # (or the run was deleted meanwhile: not found)
        return result, True

    def add_results(self, run_id: str, results: Sequence[Result]) -> None:
        """Add some images' results at once, all or none: the disk is synced once for all of them.

        Raises:
            NotFoundError: no such run, or its data set has no such image.
            ConflictError: the run has a result for one of the images.
            ValueError: a number is not finite.
        """
        rows = [result_row(run_id, replace(result, created=_now())) for result in results]
        self._check_images(run_id, [result.image_id for result in results])
        try:
            with self._writer.begin() as connection:
                connection.execute(insert(RESULTS), rows)
        except IntegrityError:
            raise ConflictError(f"run {run_id!r} has a result for one of the images") from None

    def _check_images(self, run_id: str, image_ids: Sequence[int]) -> None:
        run = self.run(run_id)
        known = select(IMAGES.c.image_id).where(IMAGES.c.dataset == run.dataset, IMAGES.c.image_id.in_(image_ids))
        with self._engine.connect() as connection:
            unknown = set(image_ids).difference(connection.scalars(known))
        if unknown:
            raise NotFoundError(f"data set {run.dataset!r} of run {run_id!r} has no image {min(unknown)}")

    def find_result(self, run_id: str, image_id: int) -> Result | None:
        """A run's result for one image of its data set; None while it is still to come.

        Raises:
            NotFoundError: no such run, or its data set has no such image.
        """
        try:
            return self.result(run_id, image_id)
        except NotFoundError:
            self._check_images(run_id, [image_id])
            return None

    def done(self, run_id: str) -> set[int]:
        """Ids of the images that a run has a result for.

        Raises:
            NotFoundError: there is no such run.
        """
        self.run(run_id)
        with self._engine.connect() as connection:
            return set(connection.scalars(select(RESULTS.c.image_id).where(RESULTS.c.run_id == run_id)))

    def result(self, run_id: str, image_id: int) -> Result:
        """A run's result for one image.

        Raises:
            NotFoundError: it has none, or there is no such run.
        """
        query = select_results(run_id).where(RESULTS.c.image_id == image_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError(f"run {run_id!r} has no result for image {image_id}")
        return result_of(row)

    def results(self, run_id: str) -> Iterator[Result]:
        """A run's results by image id, read as they are asked for.

        Raises:
            NotFoundError: there is no such run.
        """
        self.run(run_id)
        return (result_of(row) for page in self._pages(select_results(run_id)) for row in page)

    def detections(self, run_id: str) -> Iterator[bytes]:
        """A run's detections by image id: the JSON arrays of some images at a time, as they are stored.

        Raises:
            NotFoundError: there is no such run.
        """
        self.run(run_id)
        query = select(RESULTS.c.image_id, RESULTS.c.detections).where(RESULTS.c.run_id == run_id)
        for page in self._pages(query):
            arrays = (zlib.decompress(row.detections)[1:-1] for row in page)
            if joined := b",".join(filter(None, arrays)):
                yield b"[" + joined + b"]"

    def _pages(self, query: Select[Any]) -> Iterator[Sequence[Row[Any]]]:
        """Rows with results by image id, some at a time, without a connection between one page and the next.

        Whoever reads slowly would keep it from everyone else.
        """
        query = query.order_by(RESULTS.c.image_id).limit(_PAGE)
        last = -(2**63)
        while True:
            with self._engine.connect() as connection:
                page = connection.execute(query.where(RESULTS.c.image_id > last)).all()
            if not page:
                return
            yield page
            last = page[-1].image_id


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _no_dataset(name: str) -> NotFoundError:
    return NotFoundError(f"there is no data set {name!r}")
