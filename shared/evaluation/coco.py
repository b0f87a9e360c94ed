"""COCO's "instances" ground truth and "results" detections: types, validation, canonical bytes.

The format is the one of https://cocodataset.org/#format-data; only the fields that evaluation needs
are kept. Masks end in C code that trusts its input, so everything it relies on is checked here.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import sub
from typing import Annotated, Literal

import msgspec

from featlink.shared.errors import DatasetError
from featlink.shared.evaluation.mending import SizeOf, decode, repaired, told, twins
from featlink.shared.models.rle import run_lengths
from featlink.shared.result import Detection as Detection
from featlink.shared.result import DetectionMask as DetectionMask
from featlink.shared.result import ItemId

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Side = Annotated[int, msgspec.Meta(ge=1, le=65535)]
RunLength = Annotated[int, msgspec.Meta(ge=0)]
KEYPOINTS = 17
"""Of a person in COCO; no others are evaluated."""


class Image(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image of the data set, or a frame of a video; sizes in pixels.

    Attributes:
        video_id: which video it is a frame of; None for a still.
        frame_id: its number in the video, counted as the file does; frames come in the order of their numbers.
        verified: categories that somebody looked for, as Open Images says it; None where all were.
    """

    id: Id
    width: Side
    height: Side
    video_id: Id | None = None
    frame_id: Id | None = None
    verified: list[Id] | None = None

    @property
    def item(self) -> ItemId:
        """What it is in its sequence; its frame number counts as the file does."""
        return ItemId(self.id) if self.video_id is None else ItemId(self.video_id, self.frame_id or 0)


class Video(msgspec.Struct, frozen=True, omit_defaults=True):
    """A video of the data set, as CocoVID files list them.

    Attributes:
        fps: frames a second; None where the file does not say.
    """

    id: Id
    name: str = ""
    fps: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None


class Category(msgspec.Struct, frozen=True, omit_defaults=True):
    """A category of the data set; nameless where the file does not say.

    Attributes:
        parents: those that its objects are of, too, as in Open Images.
    """

    id: Id
    name: str = ""
    parents: tuple[Id, ...] = ()


class Rle(msgspec.Struct, frozen=True):
    """A run-length encoded mask.

    Attributes:
        size: (height, width) of the image.
        counts: lengths of runs of 0 and 1 in turn, column by column; a list, or COCO's compressed text.
    """

    size: tuple[Side, Side]
    counts: str | list[RunLength]


class Annotation(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object of an image.

    Attributes:
        bbox: x, y, width, height in pixels.
        area: of the mask, in pixels²: decides small, medium or large.
        iscrowd: 1 for a region of many objects, which is never missed and may be matched repeatedly.
        segmentation: polygons [x0, y0, x1, y1, ...] or an RLE; absent or empty in a box-only data set.
        instance_id: the same in all frames of a video that show the object; None where that is not known.
        keypoints: COCO's 17 as x, y in pixels and visibility: 0 not marked, 1 hidden, 2 visible; None where there are
            none, or others.
    """

    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: Literal[0, 1]
    segmentation: list[list[float]] | Rle | None = None
    instance_id: Id | None = None
    keypoints: list[float] | None = None

    @property
    def marked_keypoints(self) -> int:
        """How many are marked; COCO's ``num_keypoints``."""
        return sum(visibility > 0 for visibility in (self.keypoints or ())[2::3])


class GroundTruth(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ground truth; valid when it comes from :func:`parse` or :func:`load`.

    Of images without video, of their annotations and of unused videos nothing is kept that only sequences have.
    """

    images: list[Image]
    categories: list[Category]
    annotations: list[Annotation]
    videos: list[Video] = []

    @property
    def has_masks(self) -> bool:
        """Whether there is a mask for every annotation (else there is one for none)."""
        return all(annotation.segmentation for annotation in self.annotations)

    @property
    def has_keypoints(self) -> bool:
        """Whether any object has keypoints; others then have none that are marked."""
        return any(annotation.keypoints for annotation in self.annotations)


@dataclass(frozen=True)
class Clip:
    """A sequence of images: what is coded together, and what intervals draw. A still is a clip of one.

    Attributes:
        id: of the video; of a still, its image id.
        images: its frames in order.
        video: what the data set says of it; None for a still.
    """

    id: int
    images: tuple[Image, ...]
    video: Video | None = None

    @property
    def ids(self) -> list[int]:
        """Its images'."""
        return [image.id for image in self.images]

    @property
    def name(self) -> str | None:
        """The video's, or its id where it has none; None for a still."""
        return None if self.video is None else self.video.name or str(self.id)


def clips(truth: GroundTruth) -> list[Clip]:
    """The sequences of a data set, in the order of their first images in the file.

    Example:
        >>> frames = [Image(7, 8, 6, video_id=2, frame_id=1), Image(5, 8, 6, video_id=2, frame_id=0), Image(1, 8, 6)]
        >>> [(clip.id, [image.id for image in clip.images]) for clip in clips(GroundTruth(frames, [], []))]
        [(2, [5, 7]), (1, [1])]
    """
    known = {video.id: video for video in truth.videos}
    grouped: dict[tuple[bool, int], list[Image]] = {}
    for image in truth.images:
        is_still = image.video_id is None
        grouped.setdefault((is_still, image.id if image.video_id is None else image.video_id), []).append(image)
    return [
        Clip(id, tuple(images))
        if is_still
        else Clip(id, tuple(sorted(images, key=lambda image: image.frame_id or 0)), known.get(id, Video(id)))
        for (is_still, id), images in grouped.items()
    ]


@dataclass(frozen=True)
class ItemTruth:
    """What is there in one image.

    Attributes:
        image: its id and size.
        annotations: its objects.
        categories: name by id, of the whole data set; empty where the file does not say.
        has_masks: whether the data set's objects have masks.
        has_keypoints: whether any of them has keypoints.
        parents: of categories, by id.
    """

    image: Image
    annotations: Sequence[Annotation]
    categories: Mapping[int, str]
    has_masks: bool
    has_keypoints: bool = False
    parents: Mapping[int, Sequence[int]] = field(default_factory=dict)


def items(truth: GroundTruth) -> dict[int, ItemTruth]:
    """A ground truth by image id."""
    annotations: dict[int, list[Annotation]] = {image.id: [] for image in truth.images}
    for annotation in truth.annotations:
        annotations[annotation.image_id].append(annotation)
    categories = {category.id: category.name for category in truth.categories}
    whole = truth.has_masks, truth.has_keypoints, {one.id: one.parents for one in truth.categories if one.parents}
    return {image.id: ItemTruth(image, annotations[image.id], categories, *whole) for image in truth.images}


_decoder = msgspec.json.Decoder(GroundTruth)


def parse(data: bytes | Mapping[str, object]) -> GroundTruth:
    """Read and check a ground truth.

    Args:
        data: the JSON file's bytes, or what they decode to.

    Raises:
        DatasetError: with one line that says what is wrong where.

    Example:
        >>> truth = parse(b'{"images": [{"id": 1, "width": 8, "height": 6}], "categories": [], "annotations": []}')
        >>> truth.images[0].width
        8
        >>> parse(b'{"images": [{"id": 1, "width": 0, "height": 6}], "categories": [], "annotations": []}')
        Traceback (most recent call last):
        ...
        featlink.shared.errors.DatasetError: Expected `int` >= 1 - at `$.images[0].width`
    """
    return read(data)[0]


def read(data: bytes | Mapping[str, object], size_of: SizeOf | None = None) -> tuple[GroundTruth, str]:
    """Read and check a ground truth as :func:`parse` does, and say what had to be mended in it.

    Args:
        data: as :func:`parse` takes it.
        size_of: says how large a picture is, where the file does not.

    Returns:
        The ground truth, and the repairs with their numbers in words; empty if there were none.

    Raises:
        DatasetError: as :func:`parse`.

    Example:
        >>> file = b'{"images": [{"id": 1.0, "width": 8, "height": 6}], "categories": [], "annotations": []}'
        >>> read(file)[1]
        'id that is no integer (1)'
    """
    why = ""
    try:
        truth = _decoder.decode(data) if isinstance(data, bytes) else msgspec.convert(data, GroundTruth)
        truth, without_order = _sequenced(truth)
        _check(truth)
        used = {annotation.category_id for annotation in truth.annotations}
        if not twins([(category.id, category.name) for category in truth.categories], used):
            return truth, told(without_order)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, DatasetError) as error:
        why = str(error)
    count: Counter[str] = Counter()
    try:
        found, count = decode(data) if isinstance(data, bytes) else (data, count)
        if isinstance(found, Mapping):
            found, repairs = repaired(found, size_of)
            count += repairs
        if not count:  # there is nothing to mend
            raise DatasetError(why)
        truth, without_order = _sequenced(msgspec.convert(found, GroundTruth))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(str(error)) from None
    _check(truth)
    return truth, told(count + without_order)


def _sequenced(truth: GroundTruth) -> tuple[GroundTruth, Counter[str]]:
    """The same without what only sequences have where there are none, and how many images of videos have no order.

    And without keypoints that are not COCO's. So a file of stills is the same data set with and without such fields.
    """
    lost = sum(image.video_id is not None and image.frame_id is None for image in truth.images)
    framed = {image.id for image in truth.images if image.video_id is not None and image.frame_id is not None}
    videos = {image.video_id for image in truth.images if image.id in framed}

    def still(image: Image) -> Image:
        return image if image.id in framed else msgspec.structs.replace(image, video_id=None, frame_id=None)

    def plain(one: Annotation) -> Annotation:
        if one.instance_id is not None and one.image_id not in framed:
            one = msgspec.structs.replace(one, instance_id=None)
        if one.keypoints is not None and len(one.keypoints) != 3 * KEYPOINTS:
            one = msgspec.structs.replace(one, keypoints=None)
        return one

    images, annotations = list(map(still, truth.images)), list(map(plain, truth.annotations))
    kept = [video for video in truth.videos if video.id in videos]
    count = Counter({"image of a video without a frame number, taken for a still": lost}) if lost else Counter()
    return msgspec.structs.replace(truth, images=images, annotations=annotations, videos=kept), count


def dump(truth: GroundTruth) -> bytes:
    """The canonical JSON of a ground truth: itself a COCO file, with exact numbers."""
    return msgspec.json.encode(truth)


def load(canonical: bytes) -> GroundTruth:
    """Read back what :func:`dump` wrote, without checking it again."""
    return _decoder.decode(canonical)


def without_names(truth: GroundTruth) -> GroundTruth:
    """A ground truth as it was kept before categories had names."""
    nameless = [Category(category.id) for category in truth.categories]
    return msgspec.structs.replace(truth, categories=nameless)


def digest(canonical: bytes) -> str:
    """SHA-256 of a ground truth's canonical JSON, in hexadecimal: its identity."""
    return hashlib.sha256(canonical).hexdigest()


def _check(truth: GroundTruth) -> None:
    if not truth.images:
        raise DatasetError("the data set has no images")
    images = {image.id: image for image in truth.images}
    categories = {category.id for category in truth.categories}
    _check_unique("image", (image.id for image in truth.images))
    _check_unique("category", (category.id for category in truth.categories))
    _check_unique("annotation", (annotation.id for annotation in truth.annotations))
    _check_unique("video", (video.id for video in truth.videos))
    _check_videos(truth)
    masks = bool(truth.annotations) and bool(truth.annotations[0].segmentation)
    for annotation in truth.annotations:
        try:
            if annotation.image_id not in images:
                raise ValueError(f"there is no image {annotation.image_id}")
            if annotation.category_id not in categories:
                raise ValueError(f"there is no category {annotation.category_id}")
            if bool(annotation.segmentation) != masks:
                raise ValueError("either every annotation has a segmentation or none has")
            _check_shape(annotation, images[annotation.image_id])
        except ValueError as error:
            raise DatasetError(f"annotation {annotation.id}: {error}") from None


def _check_unique(what: str, ids: Iterable[int]) -> None:
    seen: set[int] = set()
    for one in ids:
        if one in seen:
            raise DatasetError(f"two {what} entries have id {one}")
        seen.add(one)


def _check_videos(truth: GroundTruth) -> None:
    for clip in clips(truth):
        if clip.video is None:
            continue
        sizes = {(image.width, image.height) for image in clip.images}
        if len(sizes) > 1:
            (width, height), (wide, high) = sorted(sizes)[:2]
            raise DatasetError(f"video {clip.id} has frames of {width}×{height} and of {wide}×{high} pixels")
        for first, second in pairwise(clip.images):
            if first.frame_id == second.frame_id:
                raise DatasetError(
                    f"images {first.id} and {second.id} are both frame {first.frame_id} of video {clip.id}"
                )
    seen: set[tuple[int, int]] = set()
    for one in truth.annotations:
        if one.instance_id is not None and not one.iscrowd:
            if (one.image_id, one.instance_id) in seen:
                raise DatasetError(f"image {one.image_id} shows instance {one.instance_id} twice")
            seen.add((one.image_id, one.instance_id))


def _check_shape(annotation: Annotation, image: Image) -> None:
    if not all(map(math.isfinite, annotation.bbox)) or min(annotation.bbox[2:]) < 0:
        raise ValueError(f"bbox {list(annotation.bbox)} is not a finite x, y and a width and height of at least 0")
    if not (math.isfinite(annotation.area) and annotation.area >= 0):
        raise ValueError(f"area {annotation.area} is not finite and at least 0")
    if not all(map(math.isfinite, annotation.keypoints or ())):
        raise ValueError("a keypoint is not finite")
    segmentation = annotation.segmentation
    if isinstance(segmentation, Rle):
        _check_rle(segmentation, image)
    elif segmentation:
        for polygon in segmentation:
            _check_polygon(polygon, image)


def _check_polygon(polygon: list[float], image: Image) -> None:
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon has {len(polygon)} numbers, not x, y of three or more points")
    xs, ys = polygon[::2], polygon[1::2]
    if not (
        math.isfinite(sum(polygon))
        and -image.width <= min(xs) <= max(xs) <= 2 * image.width
        and -image.height <= min(ys) <= max(ys) <= 2 * image.height
    ):
        raise ValueError("a polygon lies further outside the image than the image is large")
    # Rasterising takes time and memory by the length of the outline, whatever the size of the file.
    length = sum(map(abs, map(sub, xs, xs[1:]))) + sum(map(abs, map(sub, ys, ys[1:])))
    if length > 4 * (image.width + 1) * (image.height + 1):
        raise ValueError("a polygon's outline is longer than its image has room for")


def _check_rle(rle: Rle, image: Image) -> None:
    if rle.size != (image.height, image.width):
        raise ValueError(f"RLE size {list(rle.size)} is not the image's {[image.height, image.width]}")
    runs = rle.counts if isinstance(rle.counts, list) else run_lengths(rle.counts)
    if min(runs, default=0) < 0 or sum(runs) != image.height * image.width:
        raise ValueError(f"RLE counts do not add up to the image's {image.height * image.width} pixels")
