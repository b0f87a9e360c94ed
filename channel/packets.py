"""Packets of a coded picture: units are cut, protected by parity, lost on the way, sent again, and put together.

::

    units ─ parts of at most a packet ─ blocks of k packets, and parity for each ─ interleaved ─▶ link
    units ◀ parts ◀ any k of a block's packets give it back ◀ what arrived, at once or when sent again

Parity is a systematic Reed–Solomon code (:mod:`featlink.channel.reed_solomon`): any k packets of a block of n are
enough. Blocks take a picture's packets in turn, so that a burst meets all of them, and have 256 packets at most.
Featlink's header in front of each packet (little-endian)::

    picture u16 | block u16 | place in the block u8 | k u8 | unit u16 | part u16 | parts u16

Of a parity packet, the last three stand for those of the packets that it protects, and are coded with them. Packets of
different size are protected as if each had its size in front (u16) and zeros behind.
"""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from featlink.channel.codecs.base import AccessUnit
from featlink.channel.distortions.packet_loss import PACKET_HEADER, Mask, PacketLoss, lose_packets
from featlink.channel.randomness import Item, stream
from featlink.channel.reed_solomon import MOST_IN_BLOCK, parity_packets, recover

_PLACE = struct.Struct("<HHBB")
_PART = struct.Struct("<HHH")
_SIZE = struct.Struct("<H")
_ROUNDING = 1e-9

Name = tuple[str, int]
"""A unit: its picture's name, and its number in it behind the parameters."""


@dataclass(frozen=True)
class PacketReport:
    """What became of one item's packets.

    Attributes:
        packets: how many were sent at first, parity included.
        lost: how many of those did not arrive.
        resent: how many were sent again.
        rounds: how many round trips that took.
        overhead_bits: what crossed besides the units: headers, parity, and packets that were sent again.
        units: how many there were.
        missing: those that could not be put together.
        rows: where those belong, as parts of the planes' height from 0, the top, to 1; merged, in order.
    """

    packets: int
    lost: int
    resent: int
    rounds: int
    overhead_bits: int
    units: int
    missing: tuple[Name, ...]
    rows: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Packet:
    """One packet without the headers of the network.

    Attributes:
        block: which it belongs to.
        index: its place in that, from 0; from ``k`` on it is parity.
        k: how many packets of the block carry units.
        data: all of it, Featlink's header included.
    """

    block: int
    index: int
    k: int
    data: bytes


def cut(units: Sequence[bytes], most: int) -> list[bytes]:
    """Units in parts of about the same size, each behind a header that says which it is.

    Args:
        units: of one item.
        most: bytes of a part.

    Example:
        >>> [len(part) - 6 for part in cut([bytes(100), bytes(30)], 60)]
        [50, 50, 30]
    """
    parts = []
    for number, unit in enumerate(units):
        count = max(1, -(-len(unit) // most))
        edges = [len(unit) * i // count for i in range(count + 1)]
        parts += [_PART.pack(number, i, count) + unit[at:end] for i, (at, end) in enumerate(pairwise(edges))]
    return parts


def protect(parts: Sequence[bytes], parity: float, picture: int = 0) -> list[Packet]:
    """Packets of parts in blocks, then the parity packets of all blocks.

    Args:
        parts: of one item.
        parity: packets of parity for each that carries units; a block's are rounded up.
        picture: the item's number.
    """
    blocks = max(1, math.ceil(len(parts) * (1 + parity) / (MOST_IN_BLOCK - 2)))
    sources, further = [], []
    for number, part in enumerate(parts):
        block, index = number % blocks, number // blocks
        sources.append(_packet(picture, block, index, len(range(block, len(parts), blocks)), part))
    for block in range(blocks):
        of_block = parts[block::blocks]
        k, more = len(of_block), math.ceil(parity * len(of_block) - _ROUNDING)
        if k and more:
            size = _SIZE.size + max(map(len, of_block))
            coded = parity_packets([_sized(part, size) for part in of_block], more)
            further += [_packet(picture, block, k + i, k, body) for i, body in enumerate(coded)]
    return [*sources, *further]


def assemble(packets: Iterable[bytes], count: int) -> list[bytes]:
    """Put units together from what arrived; damaged packets pass for lost.

    Args:
        packets: of one item, in any order.
        count: how many units it has.

    Returns:
        The units, empty where something is missing.
    """
    blocks: dict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
    for data in packets:
        if len(data) > _PLACE.size:
            _, block, index, k = _PLACE.unpack_from(data)
            blocks[block, k][index] = data[_PLACE.size :]
    found: list[dict[int, bytes]] = [{} for _ in range(count)]
    parts_of: dict[int, int] = {}
    for (_, k), bodies in blocks.items():
        for part in _recovered(bodies, k):
            if len(part) >= _PART.size:
                unit, number, parts = _PART.unpack_from(part)
                if unit < count and number < parts and parts_of.setdefault(unit, parts) == parts:
                    found[unit][number] = part[_PART.size :]
    return [
        b"".join(parts[i] for i in range(len(parts))) if parts and len(parts) == parts_of[unit] else b""
        for unit, parts in enumerate(found)
    ]


def _recovered(bodies: Mapping[int, bytes], k: int) -> list[bytes]:
    """A block's parts: those that came, or all, if parity makes up for what did not."""
    came = [body for index, body in bodies.items() if index < k]
    parity = {index: body for index, body in bodies.items() if index >= k}
    size = max(map(len, parity.values()), default=0)
    fitting = [body for body in parity.values() if len(body) == size]
    if len(came) == k or len(came) + len(fitting) < k or k == 0:
        return came
    if any(len(body) + _SIZE.size > size for body in came) or len(fitting) < len(parity):
        return came  # no parity of these
    whole = recover({index: _sized(body, size) if index < k else body for index, body in bodies.items()}, k)
    return [block[_SIZE.size : _SIZE.size + _SIZE.unpack_from(block)[0]] for block in whole]


def _sized(part: bytes, size: int) -> bytes:
    return (_SIZE.pack(len(part)) + part).ljust(size, b"\0")


def _packet(picture: int, block: int, index: int, k: int, body: bytes) -> Packet:
    return Packet(block, index, k, _PLACE.pack(picture % (1 << 16), block, index, k) + body)


class PacketPath:
    """The packets' way over a lossy link, item after item: a burst may go on from one to the next.

    Args:
        step: says how packets are made, protected and lost.
        seed: of the losses.
        place: of the step in its chain; names its random streams.
    """

    def __init__(self, step: PacketLoss, seed: int, place: int) -> None:
        self.step, self._seed, self._place = step, seed, place
        self._lost_before: bool | None = None
        self._at: int | None = None
        self._picture = 0

    def carry(self, item: Item, sent: Mapping[str, AccessUnit]) -> tuple[dict[str, AccessUnit], PacketReport]:
        """Send the units of an item.

        Args:
            item: names the random stream.
            sent: access units by picture name.

        Returns:
            The same with units that were lost empty, and what became of the packets.
        """
        step, rng = self.step, stream(self._seed, item, "packets", self._place)
        names = [(name, i) for name, unit in sent.items() for i in range(len(unit.units) - unit.parameters)]
        units = [sent[name].units[sent[name].parameters + i] for name, i in names]
        key = all(unit.key for unit in sent.values())
        parity = step.parity if step.key_parity is None or not key else step.key_parity
        room = step.mtu - step.header - PACKET_HEADER - (_SIZE.size if parity else 0)
        packets = protect(cut(units, room), parity, self._picture)
        self._picture += 1
        order = sorted(range(len(packets)), key=lambda i: (i % step.interleave, i // step.interleave))
        lost = np.zeros(len(packets), np.bool_)
        lost[order] = self._lose(len(packets), rng)
        arrived, again, rounds = self._send_again(packets, lost, rng)
        received = assemble([packets[i].data for i in sorted(arrived)], len(units))
        carried = {
            name: replace(unit, units=(*unit.units[: unit.parameters], *self._of(name, names, received)))
            for name, unit in sent.items()
        }
        crossed = sum(len(packet.data) + step.header for packet in [*packets, *again])
        report = PacketReport(
            packets=len(packets),
            lost=int(lost.sum()),
            resent=len(again),
            rounds=rounds,
            overhead_bits=8 * (crossed - sum(map(len, units))),
            units=len(units),
            missing=tuple(name for name, unit in zip(names, received, strict=True) if not unit),
        )
        return carried, report

    @staticmethod
    def _of(picture: str, names: Sequence[Name], units: Sequence[bytes]) -> list[bytes]:
        return [unit for (name, _), unit in zip(names, units, strict=True) if name == picture]

    def _send_again(
        self, packets: Sequence[Packet], lost: Mask, rng: np.random.Generator
    ) -> tuple[set[int], list[Packet], int]:
        """Which packets arrive in the end, those sent again, and in how many rounds: each as many as blocks lack."""
        arrived = {*np.flatnonzero(~lost).tolist()}
        again: list[Packet] = []
        for done in range(self.step.retries):
            needed: list[int] = []
            for block in {packet.block for packet in packets}:
                of_block = [i for i, packet in enumerate(packets) if packet.block == block]
                there = [i for i in of_block if i in arrived]
                lacking = max(0, packets[of_block[0]].k - len(there))
                needed += [i for i in of_block if i not in arrived][:lacking]
            if not needed:
                return arrived, again, done
            again += [packets[i] for i in needed]
            lost_again = self._lose(len(needed), rng, later=True)
            arrived |= {i for i, gone in zip(needed, lost_again, strict=True) if not gone}
        return arrived, again, self.step.retries

    def _lose(self, count: int, rng: np.random.Generator, later: bool = False) -> Mask:
        """Which of so many packets are lost; a round trip later, the link is in another state."""
        step = self.step
        if step.trace:
            self._at = int(rng.integers(len(step.trace))) if self._at is None else self._at
            places = (self._at + np.arange(count)) % len(step.trace)
            self._at += count
            gone: Mask = np.frombuffer(step.trace.encode(), np.uint8)[places] == ord("x")
            return gone
        lost = lose_packets(count, step.rate, step.burst, rng, None if later else self._lost_before)
        if not later:
            self._lost_before = bool(lost[-1]) if count else self._lost_before
        return lost
