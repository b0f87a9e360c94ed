"""From results in the database to rows and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from featlink import results, samples
from featlink.errors import CommandError
from featlink.report.conditions import summary_table
from featlink.report.sweep import open_sweep
from featlink.shared.conditions.language import parse
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import Detection, ItemTruth
from featlink.shared.evaluation.coco_metrics import CocoEvaluator, evaluate
from featlink.shared.evaluation.protocol import Evaluator, Figure
from featlink.shared.result import ItemId
from featlink.shared.store import Result
from featlink.sweeps.engine import ItemResult, ModelInfo
from featlink.sweeps.figures import equal_bits, write_figures
from featlink.sweeps.folder import Records
from featlink.sweeps.plan import make_plan


def detection(image: int, score: float, width: float) -> Detection:
    return {"image_id": image, "category_id": 1, "bbox": [5, 5, width, 25], "score": score}


def test_rows_are_means_over_images_and_medians_over_seeds_of_what_is_complete(tiny: Path, tmp_path: Path) -> None:
    truth = coco.parse((tiny / "annotations" / "instances_val.json").read_bytes())
    planned = make_plan(["gaussian_noise(sigma=5)"], [4, 7, 1])
    with Records(tmp_path, "tiny", truth, ModelInfo("m", "w"), planned) as records:
        for image in (5, 2, 9):
            for index, job in enumerate(planned):
                if (image, job.condition.seed) == (9, 7):
                    continue  # so image 9 is not complete, and counts nowhere
                bits = 1000 * image + job.condition.seed
                fidelity = {"psnr_f": None if index < 2 else float(job.condition.seed), "ssim_f": 0.5}
                found = [detection(image, 0.9, 30 - job.condition.seed)]
                records.add(ItemResult(index, Result(image, found, bits, fidelity, {"heads": float(image)})))
        assert records.missing(9) == (3,)
        assert records.complete() == {5, 2}
        found_rows = write_figures(tmp_path, records, truth)
        noise = found_rows[-1]
        stored = {run: [r.detections for r in records.store.results(run)] for run in records.runs}
    assert results.load(tmp_path) == found_rows
    assert [(row.id, row.images, len(row.seeds)) for row in found_rows] == [
        ("clean.feature", 2, 1),
        ("clean.image", 2, 1),
        ("feature: gaussian_noise(sigma=5)", 2, 3),
    ]
    assert [one.seed for one in noise.seeds] == [4, 7, 1]
    assert [one.bits_per_image for one in noise.seeds] == [3504, 3507, 3501]
    assert noise.bits_per_image == 3504
    assert noise.bpp == 3504 / (64 * 48)
    assert noise.fidelity == {"psnr_f": 4.0, "ssim_f": 0.5}
    assert found_rows[0].fidelity["psnr_f"] is None
    assert noise.timings == {"heads": 3.5}
    one = evaluate(truth, [detection(image, 0.9, 26) for image in (5, 2)], [5, 2]).bbox
    assert noise.seeds[0].bbox == one
    assert sorted([seed.bbox["AP"] or 0 for seed in noise.seeds])[1] == noise.bbox["AP"]
    files = {path.name: json.loads(path.read_text()) for path in (tmp_path / "detections").iterdir()}
    assert files.keys() == {"clean.feature.json", "clean.image.json"} | {
        f"feature-gaussian_noise-sigma-5.seed{seed}.json" for seed in (4, 7, 1)
    }
    [for_seed_7] = [seed.run for seed in noise.seeds if seed.seed == 7]
    flat = [one for of_image in stored[for_seed_7] for one in of_image]
    assert files["feature-gaussian_noise-sigma-5.seed7.json"] == flat


class Found(Evaluator[int]):
    figures = (Figure("count.found", "objects found an image"), Figure("count.most", "most objects"))
    primary = "count.found"

    def update(self, item: ItemId, truth: ItemTruth, prediction: Sequence[Detection]) -> int:
        assert truth.image.id == item.sequence
        return len(prediction)

    def compute(self, samples: Sequence[int]) -> dict[str, float | None]:
        return {"count.found": sum(samples) / len(samples), "count.most": max(samples)}


def test_figures_of_another_evaluator_stand_beside_cocos(tiny: Path, tmp_path: Path) -> None:
    truth = coco.parse((tiny / "annotations" / "instances_val.json").read_bytes())
    images = [coco.Image(image, 64, 48) for image in range(1, 11)]
    truth = coco.GroundTruth(images, truth.categories, [])
    with Records(tmp_path, "tiny", truth, ModelInfo("m", "w"), make_plan([], [0])) as records:
        for image in range(1, 11):
            for run in (0, 1):
                found = [detection(image, 0.9, 20)] * (image % 3 + run)
                records.add(ItemResult(run, Result(image, found, 8, {}, {})))
        alone = write_figures(tmp_path / "alone", records, truth, judges=[CocoEvaluator()])
        rows = write_figures(tmp_path, records, truth, judges=[CocoEvaluator(), Found()])
    assert [row.figures["count"] for row in rows] == [{"found": 1.0, "most": 2}, {"found": 2.0, "most": 3}]
    low, high = rows[0].intervals["count"] or (0, 0)
    assert 0.5 <= low < 1 < high <= 1.5
    assert results.load(tmp_path) == rows
    assert results.flat(rows[0])["count_found_low"] == low
    assert [msgspec.structs.replace(row, figures={}).bbox for row in rows] == [row.bbox for row in alone]
    assert "count" not in (tmp_path / "alone" / "results.json").read_text()
    draws = samples.load(tmp_path)
    assert draws is not None
    assert draws.ap["count"]["clean.image"].mean() == pytest.approx(2, abs=0.1)
    (tmp_path / "manifest.json").write_text("{}")
    table = summary_table(open_sweep(tmp_path))
    at = [column.title for column in table.columns].index("count.found")
    assert [line[at].split()[0] for line in table.rows] == ["1.00", "2.00"]


def test_an_evaluator_may_answer_numpys_numbers(tiny: Path, tmp_path: Path) -> None:
    class Numpys(Found):
        def compute(self, samples: Sequence[int]) -> dict[str, float | None]:
            return {"count.found": np.mean(np.array(samples, np.float32)), "count.most": np.float64("nan")}

    truth = coco.parse((tiny / "annotations" / "instances_val.json").read_bytes())
    with Records(tmp_path, "tiny", truth, ModelInfo("m", "w"), make_plan([], [0])) as records:
        for run in (0, 1):
            records.add(ItemResult(run, Result(5, [], 8, {}, {})))
        rows = write_figures(tmp_path, records, truth, judges=[CocoEvaluator(), Numpys()])
    assert [row.figures["count"] for row in rows] == [{"found": 0.0, "most": None}] * 2
    assert results.load(tmp_path) == rows


def test_an_evaluator_that_fails_is_named(tiny: Path, tmp_path: Path) -> None:
    class Broken(Found):
        def compute(self, samples: Sequence[int]) -> dict[str, float | None]:
            raise KeyError("what")

    truth = coco.parse((tiny / "annotations" / "instances_val.json").read_bytes())
    with Records(tmp_path, "tiny", truth, ModelInfo("m", "w"), make_plan([], [0])) as records:
        for run in (0, 1):
            records.add(ItemResult(run, Result(5, [], 8, {}, {})))
        with pytest.raises(CommandError, match="evaluator Broken: KeyError"):
            write_figures(tmp_path, records, truth, judges=[CocoEvaluator(), Broken()])


def test_nothing_complete_writes_nothing(tiny: Path, tmp_path: Path) -> None:
    truth = coco.parse((tiny / "annotations" / "instances_val.json").read_bytes())
    with Records(tmp_path, "tiny", truth, ModelInfo("m", "w"), make_plan(["quantize:bits=4"], [0])) as records:
        records.add(ItemResult(0, Result(5, [], 8, {}, {})))
        assert write_figures(tmp_path, records, truth) == []
    assert not (tmp_path / "results.json").exists()


def test_a_stored_result_stays(tiny: Path, tmp_path: Path) -> None:
    truth = coco.parse((tiny / "annotations" / "instances_val.json").read_bytes())
    planned = make_plan([], [0])
    for bits in (8, 16):
        with Records(tmp_path, "tiny", truth, ModelInfo("m", "w"), planned) as records:
            records.add(ItemResult(1, Result(5, [], bits, {}, {})))
            assert records.missing(5) == (0,)
            assert records.store.result(records.runs[1], 5).bits == 8


@pytest.mark.parametrize("name", ["a b/c", "x" * 80, "naïve"])
def test_a_data_set_may_have_any_name(tiny: Path, tmp_path: Path, name: str) -> None:
    truth = coco.parse((tiny / "annotations" / "instances_val.json").read_bytes())
    with Records(tmp_path, name, truth, ModelInfo("m", "w"), make_plan([], [0])) as records:
        assert records.missing(2) == (0, 1)


def test_settings_that_change_nothing_are_named() -> None:
    bits = np.array([8000, 9104, 7016, 8888])
    texts = {
        "slow": "hevc(qp=40, preset=slow)",
        "slower": "hevc(qp=40, preset=slower)",  # its header is 8 bytes longer
        "finer": "hevc(qp=39)",
        "pixels": "image: hevc(qp=40)",
        "dense": "quantize(bits=4)",
        "dense too": "quantize(bits=4) @ seed=3",
    }
    counted = {name: bits + 64 * (name == "slower") + 8 * (name == "finer") * np.arange(4) for name in texts}
    conditions = {name: parse(text) for name, text in texts.items()}
    assert equal_bits(conditions, counted) == [("slow", "slower")]
    assert equal_bits(conditions, {name: one[:2] for name, one in counted.items()}) == []
