"""A run's figures: means of what is there, over one set of images."""

from __future__ import annotations

from pathlib import Path

from featlink.shared.evaluation import coco
from featlink.shared.store import Result, Store
from featlink.shared.store.summary import run_metrics


def test_figures_are_means_of_what_is_there(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/runs.db")
    images = [{"id": i, "width": 8, "height": 6} for i in range(3)]
    store.put_dataset("val", coco.parse({"images": images, "categories": [], "annotations": []}))
    run = store.create_run("val", condition="identity", domain="feature", model="m", weights="w").id
    empty = run_metrics(store, run)
    assert (empty["run"]["done"], empty["bits_per_image"], empty["bpp"], empty["fidelity"]) == (0, None, None, {})
    store.add_result(run, Result(0, [], 10, {"psnr": 30.0, "ssim": None}, {"edge": 1.0}))
    store.add_result(run, Result(1, [], 25, {"psnr": None, "ssim": None}, {"edge": 2.0, "cloud": 7.0}))
    figures = run_metrics(store, run)
    assert (figures["run"]["done"], figures["bits_per_image"], figures["bpp"]) == (2, 17.5, 35 / 96)
    assert figures["fidelity"] == {"psnr": 30.0, "ssim": None}
    assert figures["timings"] == {"edge": 1.5, "cloud": 7.0}
    store.close()
