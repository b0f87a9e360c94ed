"""The ``local`` engine where the network runs on a GPU, and the channel's work takes all the time."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from featlink.channel.codecs.base import Tools
from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FeatlinkError
from featlink.shared.models.protocol import SplitModel
from featlink.sweeps.engine import Failure, Identity, Outcome, Task, read_picture
from featlink.sweeps.stages import Prepared, Stages


class GpuEngine:
    """Runs the services' own code without HTTP: a thread a core, each with one condition of one image at a time.

    The next picture is begun while the threads still have conditions of the last one. Results do not depend on the
    number of threads, but timings do.

    Args:
        model: the whole network; several threads use it at a time.
        conditions: by index.
        fidelity: measure it.
        threads: cores to use.
    """

    def __init__(self, model: SplitModel, conditions: Sequence[Condition], fidelity: bool, threads: int) -> None:
        self._threads = threads
        # A codec with few others beside it has cores to spare.
        tools = Tools(threads=max(1, threads // max(1, len(conditions))))
        self._stages = Stages(model, conditions, fidelity, tools)

    @property
    def identity(self) -> Identity:
        """Which network it runs."""
        return self._stages.identity

    def run(self, tasks: Iterable[Task]) -> Generator[Outcome | Failure, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        yield from self._run((task.image_id, read_picture(task), task.wanted) for task in tasks)

    def image(self, image_id: int, data: bytes, wanted: Sequence[int]) -> Iterator[Outcome | Failure]:
        """See :meth:`featlink.sweeps.local.LocalEngine.image`."""
        yield from self._run([(image_id, data, wanted)])

    def _run(self, pictures: Iterable[tuple[int, bytes | Failure, Sequence[int]]]) -> Iterator[Outcome | Failure]:
        working: set[Future[Outcome | Failure]] = set()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="condition")
        try:
            for image_id, data, wanted in pictures:
                prepared = data if isinstance(data, Failure) else self._stages.prepare(image_id, data, wanted)
                if isinstance(prepared, Failure):
                    yield prepared
                    continue
                coded, others = self._stages.coded(wanted)
                working |= {pool.submit(self._one, prepared, index) for index in (*coded, *others)}
                while len(working) > self._threads:
                    yield from _done(working)
            while working:
                yield from _done(working)
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, prepared: Prepared, index: int) -> Outcome | Failure:
        try:
            sent = self._stages.send(prepared, index)
            return sent if isinstance(sent, Failure) else self._stages.detect(prepared, index, sent)()
        except FeatlinkError as error:
            raise CommandError(f"image {prepared.image_id}: {error}") from None


def _done(working: set[Future[Outcome | Failure]]) -> Iterator[Outcome | Failure]:
    """Takes out of ``working`` what is done, waiting for the first."""
    done, _ = wait(working, return_when=FIRST_COMPLETED)
    for future in done:
        working.remove(future)
        yield future.result()
