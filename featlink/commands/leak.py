"""``featlink fit attacker`` and ``featlink leak``: what an eavesdropper on the link recovers of the pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from featlink.dataset import open_dataset
from featlink.errors import CommandError
from featlink.leaks import write_leaks
from featlink.options import DatasetOption, LimitOption, PicturesOption, takes_network
from featlink.shared.files import replace
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.plan import CLEAN, make_plan


@takes_network("model", "weights", "min_size", "max_size", "threads", "split")
def attacker(
    conditions: Annotated[
        list[str],
        typer.Option(
            "--condition",
            help="What crosses the link: a condition, or a name of several; repeatable, one attacker each.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write CONDITION.safetensors files to.")],
    levels: Annotated[
        list[str] | None, typer.Option("--level", help="Look at these levels alone; repeatable.", show_default="all")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Pictures to learn from.", show_default="scenes with marks, drawn")
    ] = None,
    pictures_in: PicturesOption = None,
    *,
    config: ModelConfig,
    scenes: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 200,
    scenes_seed: Annotated[
        int, typer.Option(min=0, max=999, help="Of the drawn ones: not that of those judged.")
    ] = 700,
    rounds: Annotated[
        int, typer.Option(min=0, help="Steps of the optimiser, of four crops each; 0: the ridge regression alone.")
    ] = 600,
    seed: Annotated[int, typer.Option(min=0, max=999, help="Of the network's first weights and of its crops.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Train what an eavesdropper would: to rebuild the picture from what the receiver gets. `featlink leak` judges it.

    Stop it at any time and run the same command again: a network goes on from the checkpoint beside its file.
    """
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    chosen = {run.id: run.condition for run in make_plan(conditions, (0,))[len(CLEAN) :]}
    console = Console()
    given = None if dataset is None else open_dataset(dataset, "clean", pictures_in)
    files = [] if given is None else list(given.images.values())[:scenes]

    from featlink.attacking.attacker import Origin, encode
    from featlink.attacking.observing import drawn_pictures
    from featlink.fitting.attacker import Training, listen
    from featlink.shared.models.registry import build
    from featlink.sweeps.figures import file_names

    names = file_names([*chosen])
    split = build(config.but(profile="exact"), heads=False)
    pictures = drawn_pictures(scenes_seed, scenes) if given is None else (path.read_bytes() for path in files)
    data = f"scenes of seed {scenes_seed}" if given is None else given.name
    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=console) as progress:
        looked_at = progress.add_task("pictures", total=scenes if given is None else len(files))
        lessons = listen(
            split, pictures, [*chosen.values()], levels or [], rounds > 0, lambda: progress.advance(looked_at)
        )
        for (name, condition), lesson in zip(chosen.items(), lessons, strict=True):
            target = out / f"{names[name]}.safetensors"
            training = Training(lesson, rounds, seed, target.with_name(f"{target.name}.checkpoint"), device)
            learning = progress.add_task(name, total=rounds, completed=training.round, visible=rounds > 0)
            trained = training.run(partial(_completed, progress, learning))
            origin = Origin(str(condition), split.name, split.weights, seed, lesson.pictures, rounds, data)
            content = encode(trained, origin)
            replace(target, content)
            console.print(f"{target}: {len(content):,} bytes", soft_wrap=True)


def _completed(progress: Any, task: Any, count: int) -> None:
    progress.update(task, completed=count)


@takes_network("model", "weights", "min_size", "max_size", "threads", "split")
def leak(
    attackers: Annotated[
        list[Path], typer.Option("--attacker", help="File of `featlink fit attacker`, or a folder of them; repeatable.")
    ],
    dataset: DatasetOption = Path("starter"),
    out: Annotated[
        Path, typer.Option(help="Folder for leak.json and pictures; a sweep's, to have them in its report.")
    ] = (Path("leak")),
    pictures_in: PicturesOption = None,
    limit: LimitOption = None,
    shown: Annotated[int, typer.Option(min=0, help="Keep so many pictures with what was recovered of them.")] = 2,
    invert: Annotated[
        int,
        typer.Option(min=0, help="Go on with so many steps of gradient descent through the edge's half; 0: without."),
    ] = 0,
    *,
    config: ModelConfig,
) -> None:
    """Measure what attackers recover of pictures: PSNR, SSIM, MS-SSIM, and the written marks that can still be read.

    Give pictures that the attackers were not trained on. Figures are added to those that the folder has.
    """
    from rich.console import Console
    from rich.progress import Progress

    data = open_dataset(dataset, "clean", pictures_in)
    files = [file for path in attackers for file in (sorted(path.glob("*.safetensors")) if path.is_dir() else [path])]

    from featlink.attacking.attacker import read
    from featlink.attacking.inverting import Inverter
    from featlink.attacking.judging import Suspect, judge
    from featlink.attacking.reading import marks_of
    from featlink.report.leak import leak_table
    from featlink.report.table import show
    from featlink.shared.models.registry import build

    suspects = [Suspect(file.stem, *read(file)) for file in files]
    if not suspects:
        raise CommandError("there is no attacker in these folders: `featlink fit attacker` makes one")
    marks = marks_of(data)
    images = dict(list(data.images.items())[:limit])
    split = build(config.but(profile="exact"), heads=False)
    inverter = Inverter(split, invert) if invert else None
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("pictures", total=len(images))
        found = judge(split, suspects, images, marks, data.name, out, shown, lambda: progress.advance(task), inverter)
    show(leak_table(write_leaks(out, found)))
