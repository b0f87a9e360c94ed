"""Evaluate what was received: COCO metrics of detections, fidelity of feature maps and images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from featlink.api.pictures import checked
from featlink.dataset import ground_truth, open_dataset
from featlink.shared.errors import DatasetError, FeatlinkError, FrameError
from featlink.shared.features import FeatureMaps, Image

if TYPE_CHECKING:
    from featlink.shared.evaluation.coco import GroundTruth
    from featlink.shared.evaluation.coco_metrics import Metrics
    from featlink.shared.metrics.fidelity import Fidelity
    from featlink.shared.models.detections import Detections


def evaluate(truth: str | Path | Mapping[str, object], found: Mapping[int, Detections]) -> Metrics:
    """COCO's 12 box, 12 mask and 10 keypoint numbers, equal to pycocotools'.

    Args:
        truth: a COCO instances file, what it decodes to, a data set's folder, or ``starter``.
        found: detections by image id. Only these images count, so an image without detections needs an entry too.

    Returns:
        ``bbox``, ``segm`` and ``keypoints``: values in 0..1 by name (``AP``, ``AP50``, ``APs``, ``AR100``, …); None
        where there is no object to find. ``segm`` and ``keypoints`` are None for a model without, or a truth without.

    Raises:
        FeatlinkError: the ground truth cannot be read, or does not have one of the images.
    """
    from featlink.shared.evaluation.coco_metrics import evaluate as score
    from featlink.shared.evaluation.coco_results import to_coco

    results = [result for image_id, of_image in found.items() for result in to_coco(of_image, image_id)]
    try:
        return score(_ground_truth(truth), results, found)
    except ValueError as error:
        raise DatasetError(str(error)) from None


def compare(reference: FeatureMaps | Image, received: FeatureMaps | Image) -> Fidelity:
    """PSNR, SSIM and rank correlation of two pyramids, or of two images.

    Args:
        reference: the clean one. A pyramid's levels are judged in its range, mapped to 0..255.
        received: the other, of the same shapes.

    Raises:
        FeatlinkError: one is a pyramid and the other an image, their shapes differ, or a value is not finite.
    """
    from featlink.shared.metrics.fidelity import compare_images, compare_pyramids

    try:
        if isinstance(reference, FeatureMaps) and isinstance(received, FeatureMaps):
            return compare_pyramids(reference.levels, received.levels)
        planes = [checked(image).transpose(2, 0, 1) for image in (reference, received)]
        return compare_images(*planes)
    except ValueError as error:
        raise FrameError(str(error)) from None


def _ground_truth(given: str | Path | Mapping[str, object]) -> GroundTruth:
    from featlink.shared.evaluation import coco

    if isinstance(given, Mapping):
        name, (truth, repairs) = "the ground truth", coco.read(given)
    else:
        path = Path(given)
        data = None if path.suffix == ".json" else open_dataset(path)
        file = path if data is None else data.annotations
        try:
            if data is not None and data.document is not None:
                name, (truth, repairs) = data.name, ground_truth(data)
            elif file is None:
                raise FeatlinkError(f"{path} has no annotations")
            else:
                name, (truth, repairs) = file.name, coco.read(file.read_bytes())
        except OSError as error:
            raise FeatlinkError(f"cannot read {file}: {error.strerror}") from None
    if repairs:
        warnings.warn(f"{name} was mended: {repairs}", stacklevel=3)
    return truth
