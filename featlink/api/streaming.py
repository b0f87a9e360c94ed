"""Send the pictures of a sequence one after the other, coded from picture to picture."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from featlink.api.transmission import Delivery, delivery, domain_of, frame_of, resolved
from featlink.channel import transmit
from featlink.channel.codecs.base import Tools
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import Step
from featlink.shared.features import FeatureMaps, Image
from featlink.shared.result import Telemetry

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.api.model import Model


class Stream:
    """A condition opened for the pictures of one sequence: what :func:`open_stream` returns, for a ``with`` statement.

    Args:
        condition: its text or name, the condition itself, or one registered step.
        model: as for :func:`featlink.transmit`.
        seed: of random steps; default: the condition's.
        fidelity: measure it.
        tools: the codecs' programs.
    """

    def __init__(
        self,
        condition: Condition | str | Step,
        model: Model | None,
        seed: int | None,
        fidelity: bool,
        tools: Tools | None,
    ) -> None:
        self._given, self._model, self._seed, self._fidelity, self._tools = condition, model, seed, fidelity, tools
        self._opened: tuple[Condition, transmit.Stream] | None = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened[1].__exit__(kind, error, traceback)

    def push(self, signal: FeatureMaps | Image, image_id: int | None = None) -> list[Delivery]:
        """Send the next picture; those come out that have arrived: that one, unless the coder holds pictures back.

        Args:
            signal: a pyramid, or an image, uint8 RGB (H, W, 3); always the same kind and size.
            image_id: the picture's id in its data set.

        Raises:
            ConditionError: as for :func:`featlink.transmit`.
            FeatlinkError: the picture is of another size than those before, or the stream has ended, or a codec failed.
        """
        frame = frame_of(signal, None if self._model is None else self._model.split, image_id)
        if self._opened is None:
            condition = resolved(self._given, domain_of(signal), self._seed, self._model)
            self._opened = condition, transmit.Stream(condition, self._fidelity, self._tools)
        condition, stream = self._opened
        return [delivery(sent, condition, self._fidelity) for sent in stream.push(frame, Telemetry())]

    def close(self) -> list[Delivery]:
        """Give the pictures that are left; none can be sent any more."""
        if self._opened is None:
            return []
        condition, stream = self._opened
        return [delivery(sent, condition, self._fidelity) for sent in stream.close()]


def open_stream(
    condition: Condition | str | Step,
    *,
    model: Model | None = None,
    seed: int | None = None,
    fidelity: bool = True,
    tools: Tools | None = None,
) -> Stream:
    """Open a condition for a sequence: the same bits and samples as through the services and in a sweep.

    Args:
        condition: its text or name, the condition itself, or one registered step. Without a domain it takes that of
            the first picture.
        model: as for :func:`featlink.transmit`.
        seed: of random steps; default: the condition's.
        fidelity: measure it.
        tools: the codecs' programs; default: the bundled ones.

    Example:
        >>> import featlink as fl
        >>> image = fl.read_image(fl.open_dataset("starter").images[1])
        >>> with fl.open_stream("jpeg(quality=50) @ at=original") as stream:
        ...     sent = [one for _ in range(2) for one in stream.push(image)] + stream.close()
        >>> len(sent), sent[1].bits < sent[0].bits
        (2, True)
    """
    return Stream(condition, model, seed, fidelity, tools)
