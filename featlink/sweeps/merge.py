"""Merge shards into one sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from featlink import results
from featlink.errors import CommandError
from featlink.results import load_manifest
from featlink.shared.store import Store, sqlite_url
from featlink.sweeps import manifest as manifests
from featlink.sweeps.contents import load_contents, save_contents
from featlink.sweeps.engine import Identity, Outcome
from featlink.sweeps.failures import ENTRY
from featlink.sweeps.plan import jobs
from featlink.sweeps.records import DATABASE, Records, runs_by_name
from featlink.sweeps.run import finish, locked


def merge(shards: Sequence[Path], out: Path, console: Console) -> list[results.Row]:
    """Copy the shards' results into a new folder and evaluate them together.

    Args:
        shards: output folders of sweeps that differ in their images only.
        out: the merged sweep's folder.
        console: shows what is going on.

    Raises:
        CommandError: a folder holds no sweep, or another one than the first, or none holds results.
    """
    found = [load_manifest(folder) for folder in shards]
    for folder, manifest in zip(shards, found, strict=True):
        manifests.refuse_other(found[0], manifest, str(shards[0]))
        if not (folder / DATABASE).is_file():
            raise CommandError(f"{folder} has no {DATABASE}")
    manifest = {**found[0], "engine": {"name": "merge", "shards": [str(folder) for folder in shards]}}
    rows = manifests.rows_of(manifest)
    planned = jobs(rows)
    identity = Identity(manifest["model"]["name"], manifest["model"]["identity"])
    stores = [Store(sqlite_url((folder / DATABASE).resolve())) for folder in shards]
    begun = [(store, runs) for store in stores if (runs := runs_by_name(store))]
    if not begun:
        raise CommandError("the shards hold no results yet")
    first, [run, *_] = begun[0][0], begun[0][1].values()
    dataset = first.run(run).dataset
    truth = first.ground_truth(dataset)
    with locked(out):
        manifest = manifests.begin(out, manifest)
        with Records(out, dataset, truth, identity, planned) as records:
            for folder in shards:
                save_contents(out, load_contents(folder), records.evaluated())
            for store, runs in begun:
                for index, job in enumerate(planned):
                    for result in store.results(runs[job.name]) if job.name in runs else ():
                        records.add(Outcome(index, result))
            for store in stores:
                store.close()
            finished = manifests.now() if all(one["finished"] for one in found) else None
            manifest = {
                **manifest,
                "finished": finished,
                ENTRY: [entry for one in found for entry in one.get(ENTRY, [])],
            }
            return finish(out, records, rows, truth, manifest, console)
