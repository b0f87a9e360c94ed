"""Streaming AP: at any time, what counts is the last answer that is there.

A frame that is answered late is not lost, it is judged by an older answer: the objects have moved on meanwhile. This is
the streaming accuracy of Li, Wang and Ramanan, "Towards Streaming Perception" (ECCV 2020), with a deadline beside it:
each frame is judged that long after it was taken, by the answer to the newest frame up to it that has come by then.
Their measure is a deadline of 0, which no frame's own answer meets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from featlink.shared.evaluation.coco_metrics import (
    CLEAN_IMPORTANCE,
    Floats,
    ImageMatches,
    Ints,
    Pool,
    match_image,
    pools,
    score,
)
from featlink.shared.evaluation.protocol import ClipEvaluator, ClipResult, Figure, register_evaluator

DEADLINE_S = 0.3
"""Default deadline, in seconds."""


@dataclass(frozen=True, eq=False)
class AnswerTimes:
    """When the frames of a clip were taken, and when their answers were there; seconds on one clock.

    Attributes:
        taken: (N,), rising.
        answered: (N,), infinite where no answer came, as of a frame that the camera dropped.

    Raises:
        ValueError: they are not of one length, times of taking do not rise, or an answer comes before its frame.
    """

    taken: Floats
    answered: Floats

    def __post_init__(self) -> None:
        taken, answered = np.asarray(self.taken, np.float64), np.asarray(self.answered, np.float64)
        if taken.ndim != 1 or taken.shape != answered.shape or not np.isfinite(taken).all():
            raise ValueError("one finite time of taking and one of answering for each frame are needed")
        if not ((np.diff(taken) >= 0).all() and (answered >= taken).all()):
            raise ValueError("frames are taken one after the other, and answered after they are taken")
        object.__setattr__(self, "taken", taken)
        object.__setattr__(self, "answered", answered)

    def shown(self, deadline: float = DEADLINE_S) -> Ints:
        """Which frame's answer each frame is judged by.

        Args:
            deadline: seconds after a frame was taken.

        Returns:
            (N,), the newest frame up to each whose answer is there by its deadline; -1 where none is.

        Example:
            >>> times = AnswerTimes([0, 0.1, 0.2, 0.3], [0.15, 0.6, np.inf, 0.35])
            >>> times.shown(0.2).tolist(), times.shown(0).tolist()
            ([0, 0, 0, 3], [-1, -1, 0, 0])
        """
        due = self.taken + deadline
        there = np.tril(self.answered[None, :] <= due[:, None])
        newest: Ints = np.where(there, np.arange(len(due)), -1).max(axis=1, initial=-1)
        return newest


@register_evaluator
class StreamingEvaluator(ClipEvaluator[list[ImageMatches]]):
    """COCO's AP of the answers that are there in time; its figures apply where clips say when answers came.

    Args:
        deadline: seconds after which a frame is judged.
        importance: as in :func:`featlink.shared.evaluation.coco_metrics.evaluate`.
    """

    figures = (
        Figure("streaming_segm.AP", "streaming mask AP", "%", 100),
        Figure("streaming_bbox.AP", "streaming box AP", "%", 100),
    )
    primary = "streaming_segm.AP"

    def __init__(self, deadline: float = DEADLINE_S, importance: Floats | None = None) -> None:
        self._deadline = deadline
        self._importance = importance

    def against_clean(self) -> StreamingEvaluator:
        """See the base class."""
        return StreamingEvaluator(self._deadline, CLEAN_IMPORTANCE)

    def update_clip(self, clip: ClipResult) -> list[ImageMatches]:
        """The matches of each frame's objects with the detections shown at its deadline; none without times."""
        if clip.times is None:
            return []
        return [
            match_image(frame.truth, clip.frames[shown].prediction if shown >= 0 else ())
            for frame, shown in zip(clip.frames, clip.times.shown(self._deadline).tolist(), strict=True)
        ]

    def compute(self, samples: Sequence[list[ImageMatches]]) -> dict[str, float | None]:
        """See the base class."""
        frames = list(chain(*samples))
        if not frames:
            return {}
        metrics = score(frames, self._importance)
        boxes = {"streaming_bbox.AP": metrics.bbox["AP"]}
        return boxes if metrics.segm is None else {"streaming_segm.AP": metrics.segm["AP"], **boxes}

    def resamplers(self, samples: Sequence[list[ImageMatches]]) -> Mapping[str, FramesOfClips]:
        """See the base class."""
        clip = {frame.image: place for place, frames in enumerate(samples) for frame in frames}
        return {
            f"streaming_{kind}": FramesOfClips(pool, np.array([clip[one] for one in pool.images.tolist()], np.int64))
            for kind, pool in pools(chain(*samples), self._importance).items()
        }


@dataclass(frozen=True, eq=False)
class FramesOfClips:
    """AP of draws of clips, each with all its frames.

    Attributes:
        pool: of frames.
        clip: (N,), place of each frame's clip among the samples.
    """

    pool: Pool
    clip: Ints

    def draws(self, weights: npt.NDArray[np.int64]) -> Floats:
        """See :class:`featlink.shared.evaluation.protocol.Resampler`."""
        return self.pool.draws(weights[:, self.clip])
