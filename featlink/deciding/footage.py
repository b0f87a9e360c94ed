"""The frames of a sweep in a camera's order, and the AP of those answers to them that are there in time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from featlink.deciding.pipeline import Timeline
from featlink.deciding.query import Query
from featlink.deciding.ranking import ap_in_time
from featlink.errors import CommandError
from featlink.report.sequences import delay
from featlink.report.sweep import Sweep
from featlink.results import DATABASE, Row
from featlink.samples import Samples
from featlink.shared.evaluation.coco import Clip, Detection, GroundTruth, clips, items
from featlink.shared.evaluation.coco_metrics import Floats, Ints, pools
from featlink.shared.evaluation.coco_results import clean_truth
from featlink.shared.evaluation.protocol import ClipResult, FrameResult
from featlink.shared.evaluation.streaming import AnswerTimes, StreamingEvaluator
from featlink.shared.store import Store, open_finished

_FOREVER_S = 1e12
"""A deadline that every answer meets, and that of a dropped frame does not."""


@dataclass(frozen=True, eq=False)
class Footage:
    """A sweep's frames, clip behind clip; a still is a clip of one.

    Attributes:
        sweep: theirs.
        samples: its figures by image.
        order: (N,), places of the frames in ``samples.images``.
        starts: (C + 1,), where each clip begins among the frames, and their number.
        truth: what is there; None of stills.
        store: the sweep's database; None of stills.
        fps: of the clips, in frames a second, if the data set says so and it is the same for all.
    """

    sweep: Sweep
    samples: Samples
    order: Ints
    starts: Ints
    truth: GroundTruth | None = None
    store: Store | None = None
    fps: float | None = None

    @property
    def stills(self) -> bool:
        """Whether they are single pictures."""
        return self.truth is None

    @property
    def images(self) -> Ints:
        """(N,) ids."""
        return self.samples.images[self.order]

    def coded_after(self, row: Row) -> Ints:
        """(N,), place of the picture that the row's coder waits for before it gives a frame."""
        ends = self.starts[1:].repeat(np.diff(self.starts))
        return np.minimum(np.arange(len(self.order)) + delay(row), ends - 1)

    def in_time(self, row: Row, query: Query, timelines: Sequence[Timeline]) -> tuple[float, Floats]:
        """AP of the answers that are there in time, and its bootstrap draws: medians over seeds.

        Args:
            row: with AP.
            query: says by when, and whose AP.
            timelines: of the frames sent again and again; each clip is judged by one of them, spread evenly.
        """
        count = len(self.starts) - 1
        taken = (np.arange(count) + 0.5) * len(timelines) / count
        of_clips = [timelines[int(one)] for one in taken]
        deadline_s = _FOREVER_S if query.deadline_ms is None else query.deadline_ms / 1e3
        spans = [slice(*span) for span in zip(self.starts[:-1], self.starts[1:], strict=True)]
        of_clips = [one[span] for one, span in zip(of_clips, spans, strict=True)]
        own = np.concatenate([one.in_time(1e3 * deadline_s) for one in of_clips])
        if self.truth is None or self.store is None or own.all():
            kept = np.empty(len(own), bool)
            kept[self.order] = own
            return ap_in_time(self.sweep, row, query, kept, self.samples.draws)
        kind = query.kind or self.sweep.kind
        judge, there = StreamingEvaluator(deadline_s), items(self.truth)
        values, draws = [], []
        for seed, run in zip(row.seeds, self.samples.runs[row.id], strict=True):
            found = {one.image_id: one.detections for one in self.store.results(seed.run)}
            matches = []
            for one, span in zip(of_clips, spans, strict=True):
                frames = [
                    FrameResult(there[image].image.item, there[image], found[image])
                    for image in self.images[span].tolist()
                ]
                times = AnswerTimes(one.captured_s, np.where(one.sent, one.answer_s, np.inf))
                matches.append(judge.update_clip(ClipResult(frames, times=times)))
            pool = pools(chain(*matches), run.pools[kind].importance)[kind]
            values.append(pool.average_precision(np.ones(len(self.order), np.int64)) or 0.0)
            draws.append(pool.draws(self.samples.draws))
        return float(np.median(values)), np.median(draws, axis=0)


@contextlib.contextmanager
def open_footage(sweep: Sweep) -> Iterator[Footage]:
    """A sweep's frames.

    Args:
        sweep: with samples; of clips, its folder also has the database.

    Raises:
        CommandError: something is missing.
        StorageError: the database cannot be read.
    """
    samples = sweep.samples
    if samples is None:
        raise CommandError(f"{sweep.folder} has no samples.npz: run the same `featlink bench` again to write it")
    if samples.clips is None:
        count = len(samples.images)
        yield Footage(sweep, samples, np.arange(count), np.arange(count + 1))
        return
    with contextlib.closing(open_finished(sweep.folder / DATABASE)) as store:
        truth = store.ground_truth(store.run(sweep.rows[0].seeds[0].run).dataset)
        found = [one for clip in clips(truth) if (one := _within(clip, samples)).images]
        images = [image.id for clip in found for image in clip.images]
        rates = {None if clip.video is None else clip.video.fps for clip in found}
        if sweep.truth == "clean":
            truth = clean_truth(truth, _clean_detections(sweep, store))
        yield Footage(
            sweep,
            samples,
            np.searchsorted(samples.images, images),
            np.cumsum([0, *(len(clip.images) for clip in found)]),
            truth,
            store,
            rates.pop() if len(rates) == 1 else None,
        )


def _within(clip: Clip, samples: Samples) -> Clip:
    """A clip without the frames that the sweep has no results for."""
    known = set(samples.images.tolist())
    return Clip(clip.id, tuple(image for image in clip.images if image.id in known), clip.video)


def _clean_detections(sweep: Sweep, store: Store) -> list[Detection]:
    row = sweep.clean("feature")
    if row is None:
        raise CommandError(f"{sweep.folder} has no clean features, which are its truth")
    return [detection for result in store.results(row.seeds[0].run) for detection in result.detections]
