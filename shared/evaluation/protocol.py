"""The protocol of evaluators, which compute figures from ground truths and predictions, and their registry.

An evaluator turns what is there (the *truth*) and what was found (the *prediction*) into named figures, in two steps:

1. :meth:`Evaluator.update` looks at one item and returns its *sample*: whatever the evaluator wants to remember of it,
   such as two counts or a table of matches. It keeps no state, so items may come in any order and from any process.
2. :meth:`Evaluator.compute` makes the figures of any number of samples.

As every figure is computed from samples, its confidence interval comes for free: items are drawn anew, with
replacement, and the figure is taken of each draw (:mod:`featlink.shared.evaluation.confidence_intervals`). Of a data
set with sequences, whole clips are drawn, with all their frames.

What depends on the order of frames, such as tracking, is a :class:`ClipEvaluator`: its sample is a whole clip's, and it
is asked only about data sets with sequences.

A figure is called ``group.name``: ``segm.AP`` is the AP of masks, ``bbox.AP50`` a figure of boxes. ``results.json``
has a group's figures side by side, ``results.csv`` a column ``group_name`` for each, and the report a column for each
group's first figure, with its interval.

An evaluator of your own is a class with a decorator::

    @fl.register_evaluator
    class ObjectsFound(fl.Evaluator[int]):
        figures = (fl.Figure("objects.mean", "objects an image"),)
        primary = "objects.mean"

        def update(self, item, truth, prediction):
            return sum(one["score"] >= 0.5 for one in prediction)

        def compute(self, samples):
            return {"objects.mean": sum(samples) / len(samples) if samples else None}

From then on every sweep of that process has it beside COCO's figures. In a package, name the module as an entry point,
and every sweep on that machine has it::

    [project.entry-points."featlink.evaluators"]
    mine = "my_package.objects_found"
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from featlink.shared.evaluation.coco import Clip, ItemTruth
    from featlink.shared.evaluation.streaming import AnswerTimes
    from featlink.shared.result import Detection, ItemId

GROUP = "featlink.evaluators"

Scores = dict[str, float | None]
"""Figures by name; None where one is not defined, such as AP without objects."""


@dataclass(frozen=True)
class Figure:
    """What a figure is called.

    Attributes:
        name: ``group.name``.
        label: as a table's head has it.
        unit: as text, empty for a plain number.
        scale: what its value is multiplied with where it is shown, such as 100 for a share in percent.
    """

    name: str
    label: str
    unit: str = ""
    scale: float = 1.0

    @property
    def group(self) -> str:
        """Whose figure it is: the name up to the dot."""
        return self.name.partition(".")[0]


class Resampler(Protocol):
    """A group's first figure of items that have weights."""

    def draws(self, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The figure of each draw.

        Args:
            weights: (B, N), how often each draw has each item, in the order of the samples.

        Returns:
            (B,), NaN where the figure is not defined.
        """


S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


class Judge(Protocol[S_contra]):
    """What evaluators of items and of clips have in common: figures, made of samples.

    Attributes:
        figures: what :meth:`compute` gives, a group's first figure first. Where the figures of a group do not apply,
            such as masks of a box-only model, it may leave out the whole group.
        primary: name of the figure that ranks conditions; where it is left out, the first of ``figures`` that is not.
    """

    figures: Sequence[Figure]
    primary: str

    def compute(self, samples: Sequence[S_contra]) -> Mapping[str, float | None]:
        """The figures of some items or clips, by name; None or NaN where a figure is not defined for them.

        Args:
            samples: of items or clips; in a draw, one may be there several times.
        """

    def resamplers(self, samples: Sequence[S_contra]) -> Mapping[str, Resampler]:
        """What draws each group's first figure anew, by group; by default :meth:`compute` of each draw's samples."""
        firsts = {figure.group: figure.name for figure in reversed(self.figures)}
        return {group: Recomputed(self, samples, name) for group, name in firsts.items()}


class Evaluator(Judge[S], Protocol[S]):
    """Measures predictions against the truth; this module's text is its manual. Subclass it, or do as it does."""

    def update(self, item: ItemId, truth: ItemTruth, prediction: Sequence[Detection]) -> S:
        """The sample of one item.

        Args:
            item: its id.
            truth: what is there.
            prediction: what was found, in COCO's results format, with the data set's category ids.
        """

    def against_clean(self) -> Evaluator[Any]:
        """The evaluator where the clean run's detections are the truth; by default the same."""
        return self


@dataclass(frozen=True)
class FrameResult:
    """A frame of a clip: its id, what is there, and what was found."""

    item: ItemId
    truth: ItemTruth
    prediction: Sequence[Detection]


@dataclass(frozen=True)
class ClipResult:
    """A sequence, as a :class:`ClipEvaluator` sees it.

    Attributes:
        frames: in the order of time; at least one.
        fps: frames a second; None where the data set does not say.
        times: when frames were taken and answered; None where no link or clock says.
    """

    frames: Sequence[FrameResult]
    fps: float | None = None
    times: AnswerTimes | None = None


def clip_results(
    clips: Iterable[Clip], there: Mapping[int, ItemTruth], predictions: Mapping[int, Sequence[Detection]]
) -> list[ClipResult]:
    """Videos as evaluators of clips see them; stills, and videos without predictions, are left out.

    Args:
        clips: of a data set (:func:`featlink.shared.evaluation.coco.clips`).
        there: what is there, by image id.
        predictions: what was found, by image id; frames that are not in it are left out.
    """
    found = [(clip.video, [one for one in clip.images if one.id in predictions]) for clip in clips]
    return [
        ClipResult([FrameResult(one.item, there[one.id], predictions[one.id]) for one in images], video.fps)
        for video, images in found
        if video is not None and images
    ]


@runtime_checkable
class ClipEvaluator(Judge[S], Protocol[S]):
    """Measures predictions of whole clips: what depends on the order of frames, or on when answers come."""

    def update_clip(self, clip: ClipResult) -> S:
        """The sample of one clip."""

    def against_clean(self) -> ClipEvaluator[Any]:
        """As of an :class:`Evaluator`."""
        return self


@dataclass(frozen=True, eq=False)
class OfClips:
    """A :class:`Resampler` of clips that takes the weights of images, which are the same for all frames of a clip.

    Attributes:
        resampler: takes weights of clips.
        first: (C,), place of one frame of each clip among the images.
    """

    resampler: Resampler
    first: npt.NDArray[np.int64]

    def draws(self, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """See :class:`Resampler`."""
        return self.resampler.draws(weights[:, self.first])


@dataclass(frozen=True, eq=False)
class Recomputed:
    """A :class:`Resampler` for any evaluator: it computes the figure of each draw from its samples."""

    evaluator: Judge[Any]
    samples: Sequence[Any]
    figure: str

    def draws(self, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """See :class:`Resampler`."""
        drawn = ([one for one, times in zip(self.samples, row, strict=True) for _ in range(times)] for row in weights)
        values = [self.evaluator.compute(samples)[self.figure] for samples in drawn]
        return np.array([np.nan if value is None else value for value in values], np.float64)


def grouped(figures: Mapping[str, float | None]) -> dict[str, Scores]:
    """Figures by group and the rest of their name, as plain floats: of NumPy's numbers too; NaN is None.

    Example:
        >>> grouped({"bbox.AP": 0.4, "bbox.AP50": 0.6})
        {'bbox': {'AP': 0.4, 'AP50': 0.6}}
    """
    groups: dict[str, Scores] = {}
    for name, value in figures.items():
        group, _, rest = name.partition(".")
        number = None if value is None else float(value)
        groups.setdefault(group, {})[rest] = None if number is None or math.isnan(number) else number
    return groups


_log = logging.getLogger(__name__)
_registered: dict[str, type[Judge[Any]]] = {}
E = TypeVar("E", bound=type[Judge[Any]])


def register_evaluator(evaluator: E) -> E:
    """Class decorator: make an evaluator, of items or of clips, known under the group of its primary figure.

    Registering a class again, as a notebook's cell does when it is run twice, replaces it.

    Raises:
        TypeError: its primary figure is not one of its figures, or a figure is not called ``group.name``.
        ValueError: another class has one of its groups.
    """
    names = [figure.name for figure in evaluator.figures]
    if evaluator.primary not in names or not all(all(name.partition(".")) for name in names):
        raise TypeError(f"{evaluator.__name__} needs figures called group.name, and its primary one among them")
    groups = {figure.group for figure in evaluator.figures}
    for known in _registered.values():
        same = (known.__module__, known.__qualname__) == (evaluator.__module__, evaluator.__qualname__)
        if not same and (twice := groups & {figure.group for figure in known.figures}):
            raise ValueError(f"two evaluators have figures of {min(twice)!r}: {known.__name__}, {evaluator.__name__}")
    _registered[f"{evaluator.__module__}.{evaluator.__qualname__}"] = evaluator
    return evaluator


def evaluators() -> list[Evaluator[Any]]:
    """Every registered one of items, Featlink's own first: it leads, and its primary figure ranks a sweep's rows."""
    return [one for one in _every() if not isinstance(one, ClipEvaluator)]


def clip_evaluators() -> list[ClipEvaluator[Any]]:
    """Every registered one of clips, Featlink's own first."""
    return [one for one in _every() if isinstance(one, ClipEvaluator)]


def _every() -> list[Any]:
    _load()
    return [made() for made in sorted(_registered.values(), key=lambda one: not one.__module__.startswith("featlink."))]


@functools.cache
def _load() -> None:
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # another package's fault must not stop a sweep
            _log.warning("evaluator %s is left out: %s: %s", entry.name, type(error).__name__, error)
