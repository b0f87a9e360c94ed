"""An engine without a network: what it finds depends on the picture and the condition alone."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence

import numpy as np
from torchvision.models import get_model_weights

from featlink.dataset import MAX_PIXELS
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import ImageError
from featlink.shared.pictures import decode
from featlink.shared.store import Result
from featlink.sweeps.engine import ItemError, ItemResult, ModelInfo, WorkItem
from featlink.sweeps.plan import SweepOptions


class FakeEngine:
    """Decodes pictures as the other engines do, and makes the rest up."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._conditions = conditions
        categories = get_model_weights("maskrcnn_resnet50_fpn")["COCO_V1"].meta["categories"]
        self.identity = ModelInfo("maskrcnn_resnet50_fpn", "0" * 16, tuple(categories))

    def run(self, items: Iterable[WorkItem]) -> Generator[ItemResult | ItemError, None, None]:
        for item, frame in ((one, frame) for one in items for frame in one.frames):
            data, image_id = frame.read(), frame.image_id
            try:
                mean = float(decode(data, MAX_PIXELS).mean()) if isinstance(data, bytes) else 0.0
            except ImageError as error:
                data = str(error)
            if isinstance(data, str):
                yield ItemError(image_id, item.runs, data)
                continue
            for run in item.runs:
                condition = self._conditions[run]
                rng = np.random.default_rng([*str(condition).encode(), condition.seed, round(mean)])
                x, y, width, height = (float(value) for value in np.array([5, 5, 30, 25]) + rng.integers(-3, 4, 4))
                box = {"image_id": image_id, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9}
                outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
                detections = [{**box, "segmentation": rle(outline)}]
                fidelity = {"psnr_f": None if not condition.steps else float(rng.integers(20, 40))}
                yield ItemResult(run, Result(image_id, detections, 1000 + run, fidelity, {"heads": 1.0}))


def rle(outline: list[list[float]]) -> dict[str, object]:
    """A mask of 64×48 pixels in COCO's results format."""
    from pycocotools import mask

    [one] = mask.frPyObjects(outline, 48, 64)
    return {"size": [48, 64], "counts": one["counts"].decode()}


@contextlib.contextmanager
def open_fake(options: SweepOptions, conditions: Sequence[Condition]) -> Iterator[FakeEngine]:
    """In place of :func:`featlink.sweeps.run.open_engine`."""
    yield FakeEngine(conditions)
