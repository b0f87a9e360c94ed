"""A sweep over clips in which every frame is coded and every fifth is detected: most of the figures at half the time.

Frames of a clip look alike, so AP of some says nearly what AP of all does; bits are those of all. The frames that are
detected are the third, the eighth, the thirteenth, …, which fall on all places of a group of eight, and each is said to
have the clip's mean bits. The folder is a sweep's: ``featlink report`` reads it, and the same command goes on. ::

    featlink scenes --clips 12 --frames 32 --motion static --motion pan --motion handheld --seed 28 --out clips
    python -m benchmarks.sampled_clips clips --conditions seq.pixels.live --conditions seq.features.bottleneck --out out
    featlink report out
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from featlink.channel.codecs.base import Tools
from featlink.dataset import ground_truth, open_dataset
from featlink.shared.conditions.language import Condition
from featlink.shared.evaluation import coco
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.registry import build
from featlink.sweeps.engine import ItemError, ItemResult, ModelInfo, WorkItem
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import run_sweep
from featlink.sweeps.stages import Stages

EVERY, FIRST = 5, 2


def sample(folder: Path, out: Path) -> dict[str, list[tuple[int, Path]]]:
    """Write a data set of the frames that are detected.

    Args:
        folder: of clips, as ``featlink scenes`` writes them.
        out: the new data set's, whose pictures are a link to the old one's.

    Returns:
        Of each clip, by name, all its frames' ids and files in order.
    """
    data = open_dataset(folder)
    truth, _ = ground_truth(data, "annotations")
    clips = coco.clips(truth)
    kept = {id for clip in clips for id in clip.ids[FIRST::EVERY]}
    if data.annotations is None:
        raise SystemExit(f"{folder} has no annotations")
    content = json.loads(data.annotations.read_bytes())
    content["images"] = [image for image in content["images"] if image["id"] in kept]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    (out / "annotations" / "instances_val.json").write_text(json.dumps(content))
    with contextlib.suppress(FileExistsError):
        (out / "val").symlink_to((folder / "val").resolve())
    return {clip.name or "": [(id, data.images[id]) for id in clip.ids] for clip in clips}


@dataclass(frozen=True)
class SampledEngine:
    """Runs a sweep's stages, the cloud's on some frames alone.

    Attributes:
        stages: of the sweep.
        frames: of each clip, by name.
    """

    stages: Stages
    frames: dict[str, list[tuple[int, Path]]]

    @property
    def identity(self) -> ModelInfo:
        """See :class:`featlink.sweeps.engine.Engine`."""
        return self.stages.identity

    def run(self, items: Iterable[WorkItem]) -> Generator[ItemResult | ItemError, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        for item in items:
            wanted = {frame.image_id for frame in item.frames}
            senders = [self.stages.open(run, still=False) for run in item.runs]
            bits = dict.fromkeys(item.runs, 0)
            found: list[ItemResult] = []
            frames = self.frames[item.clip or ""]
            for number, (id, path) in enumerate(frames):
                prepared = self.stages.prepare(id, path.read_bytes(), item.runs)
                for sender in senders:
                    for one in sender.push(number, prepared, last=number == len(frames) - 1):
                        if isinstance(one, ItemError):
                            raise SystemExit(f"{item.name}: {one.why}")
                        before, sent = one
                        bits[sender.run] += sent.telemetry.bits or 0
                        if before.image_id in wanted:
                            found.append(self.stages.detect(before, sender.run, sent)())
            for computed in found:
                mean = round(bits[computed.run] / len(frames))
                yield replace(computed, result=replace(computed.result, bits=mean))


def main() -> None:
    """Run the sweep, or go on with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--conditions", action="append", required=True)
    parser.add_argument("--profile", default="fast", choices=("fast", "exact", "bf16"))
    parser.add_argument("--limit", type=int, help="clips")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    config = ModelConfig(profile=options.profile, threads=1)
    frames = sample(options.clips, options.out / "sampled")

    @contextlib.contextmanager
    def engine(sweep: SweepOptions, conditions: Sequence[Condition]) -> Iterator[SampledEngine]:
        yield SampledEngine(Stages(build(sweep.config), conditions, sweep.fidelity, Tools(threads=1)), frames)

    conditions, sampled = tuple(options.conditions), options.out / "sampled"
    sweep = SweepOptions(sampled, config, conditions, options.out, fidelity=False, limit=options.limit)
    run_sweep(sweep, Console(stderr=True), engine)


if __name__ == "__main__":
    main()
