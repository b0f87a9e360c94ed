"""The database's tables and values: data sets, runs, results; and the configuration of SQLite."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    func,
    inspect,
    select,
    text,
)

from featlink.shared.errors import StorageError
from featlink.shared.result import Detection, ItemId

_PIECE = 1 << 18


@dataclass(frozen=True)
class Dataset:
    """A stored data set, without its ground truth.

    Attributes:
        name: of the form ``[A-Za-z0-9._-]{1,64}``.
        digest: SHA-256 of the canonical ground truth.
        images: how many it has.
        created: when this content was stored; UTC, ISO 8601.
    """

    name: str
    digest: str
    images: int
    created: str


@dataclass(frozen=True)
class Run:
    """A run: a data set × a condition.

    Attributes:
        id: 32 hexadecimal digits.
        dataset: name of the data set.
        condition: the condition's text, as given.
        domain: ``feature`` or ``image``.
        model: architecture.
        weights: identity of the weights.
        name: a free note.
        created: UTC, ISO 8601.
        done: images with a result.
        total: images of the data set.
    """

    id: str
    dataset: str
    condition: str
    domain: str
    model: str
    weights: str
    name: str
    created: str
    done: int
    total: int


@dataclass(frozen=True)
class Result:
    """A run's result for one image; numbers come back exactly as given.

    Attributes:
        image_id: id in the data set.
        detections: COCO results.
        bits: what crossed the link.
        fidelity: value by metric; None where it is not finite (the PSNR of an undistorted image).
        timings: milliseconds by stage.
        link_bits: the same with packets sent again; None where no link was simulated.
        created: UTC, ISO 8601; set by the store.
        key: whether it decodes without the frames before it; None where nobody said.
        held: how many later frames the coder had been given when it came out; None where nobody said.
    """

    image_id: int
    detections: list[Detection]
    bits: int
    fidelity: Mapping[str, float | None]
    timings: Mapping[str, float]
    link_bits: int | None = None
    created: str = ""
    key: bool | None = None
    held: int | None = None

    @property
    def item(self) -> ItemId:
        """What it is the result of: a still, which is a sequence of one frame."""
        return ItemId(self.image_id)


_BLOB = LargeBinary(2**31 - 1)  # without a length, MySQL takes 64 kB

METADATA = MetaData()
DATASETS = Table(
    "datasets",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("ground_truth", _BLOB, nullable=False),
    Column("images", Integer, nullable=False),
    Column("created", String(32), nullable=False),
)
IMAGES = Table(
    "images",
    METADATA,
    Column("dataset", ForeignKey("datasets.name"), primary_key=True),
    Column("image_id", BigInteger, primary_key=True),
)
RUNS = Table(
    "runs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("dataset", ForeignKey("datasets.name"), nullable=False),
    Column("condition", Text, nullable=False),
    Column("domain", String(16), nullable=False),
    Column("model", String(255), nullable=False),
    Column("weights", String(255), nullable=False),
    Column("name", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("token", String(64)),  # its SHA-256; none of runs of earlier versions, and of sweeps
)
RESULTS = Table(
    "results",
    METADATA,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("image_id", BigInteger, primary_key=True),
    Column("detections", _BLOB, nullable=False),
    Column("bits", BigInteger, nullable=False),
    Column("link_bits", BigInteger),
    Column("fidelity", Text, nullable=False),
    Column("timings", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("is_key", Boolean),
    Column("held", Integer),
)
_LATER = (RUNS.c.token, RESULTS.c.is_key, RESULTS.c.held)
"""Columns that tables of earlier versions lack."""


def create_tables(engine: Engine) -> None:
    """Make the tables that are missing, and what those of earlier versions lack."""
    with engine.begin() as connection:
        METADATA.create_all(connection)
        for column in _LATER:
            known = inspect(connection).get_columns(column.table.name)
            if not any(one["name"] == column.name for one in known):
                kind = column.type.compile(connection.dialect)
                connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind}"))


def select_dataset() -> Select[Any]:
    """Data sets without their ground truth."""
    return select(DATASETS.c.name, DATASETS.c.digest, DATASETS.c.images, DATASETS.c.created)


def select_run() -> Select[Any]:
    """Runs with how many images are done, and how many there are."""
    done = select(func.count()).where(RESULTS.c.run_id == RUNS.c.id).scalar_subquery()
    total = select(DATASETS.c.images).where(DATASETS.c.name == RUNS.c.dataset).scalar_subquery()
    shown = [column for column in RUNS.columns if column is not RUNS.c.token]
    return select(*shown, done.label("done"), total.label("total"))


def select_results(run_id: str) -> Select[Any]:
    """All results of a run."""
    return select(RESULTS).where(RESULTS.c.run_id == run_id)


def configure_sqlite(connection: Any, record: object) -> None:
    """Make a new connection wait for others, sync at every commit, and hold to foreign keys."""
    connection.isolation_level = None  # the driver must not begin transactions by itself
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def same_file(path: str) -> Callable[[Connection], None]:
    """Make a check that a database is still the file it was when it was opened.

    An open file outlives its name: what is written into it after that is lost when the process ends.

    Args:
        path: of the open database.

    Returns:
        To be called as a transaction begins; raises StorageError.
    """

    def identity() -> tuple[int, int] | None:
        try:
            found = os.stat(path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    opened = identity()

    def check(_: Connection) -> None:
        if identity() != opened:
            raise StorageError(f"the database file {path} was deleted or replaced; restart the cloud")

    return check


def begin_sqlite(connection: Connection) -> None:
    """Begin a transaction as the execution option ``sqlite_begin`` says."""
    # A writer takes its lock at once: one that reads first could not wait for another writer, only fail.
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def result_row(run_id: str, result: Result) -> dict[str, Any]:
    """A run's result, by column.

    Raises:
        ValueError: a number is not finite.
    """
    return {
        "run_id": run_id,
        "image_id": result.image_id,
        "detections": zlib.compress(_to_json(result.detections).encode()),
        "bits": result.bits,
        "link_bits": result.link_bits,
        "fidelity": _to_json(result.fidelity),
        "timings": _to_json(result.timings),
        "created": result.created,
        "is_key": result.key,
        "held": result.held,
    }


def result_of(row: Row[Any]) -> Result:
    """What :func:`result_row` was made from."""
    return Result(
        image_id=row.image_id,
        detections=msgspec.json.decode(zlib.decompress(row.detections)),
        bits=row.bits,
        fidelity=json.loads(row.fidelity),
        timings=json.loads(row.timings),
        link_bits=row.link_bits,
        created=row.created,
        key=row.is_key,
        held=row.held,
    )


def decompressed(blob: bytes) -> Iterator[bytes]:
    """A compressed column, in pieces."""
    stream = zlib.decompressobj()
    while not stream.eof:
        yield stream.decompress(blob, _PIECE)
        blob = stream.unconsumed_tail


def _to_json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
