"""Data sets, runs and results in an SQL database; what is acknowledged is on disk."""

from featlink.shared.store.database import Store, open_finished, sqlite_url
from featlink.shared.store.tables import Dataset, Result, Run

__all__ = ["Dataset", "Result", "Run", "Store", "open_finished", "sqlite_url"]
