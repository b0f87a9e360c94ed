"""Loss in the kernel against simulated loss: packets of coded pictures, by UDP between two network namespaces.

    python -m benchmarks.loss_over_udp --coded loss.jsonl

Needs root, `ip` and `iptables` with the statistic match, and Linux with network namespaces. The file is of
`benchmarks.loss_curves measure`: its pictures' units, of their sizes, are cut and protected by Featlink, each packet
crosses a pair of virtual devices as one datagram, and the receiver's firewall drops each with the same probability,
independently. Featlink puts together what arrived. Compared with `PacketPath` are packets lost, units missing, and AP
of what the detector found with those missing, for pictures whose sets of missing units are in the file.
docs/measurements.md has the result.
"""

from __future__ import annotations

import argparse
import ctypes
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.loss_curves import MTU, SOURCES, Coded, read
from featlink.channel.codecs.base import AccessUnit
from featlink.channel.distortions.packet_loss import PACKET_HEADER, PacketLoss
from featlink.channel.packets import PacketPath, assemble, cut, protect
from featlink.dataset import ground_truth, open_dataset
from featlink.shared.evaluation.coco import items
from featlink.shared.evaluation.coco_metrics import CocoEvaluator

SENDER, RECEIVER = "featlink-sends", "featlink-receives"
ADDRESS, PORT = "10.78.0.2", 7710
HEADER = 40
AT_ONCE, PAUSE_S = 32, 0.02
"""Packets that are sent before those that came are read, and how long after: no buffer is ever full."""


@contextmanager
def namespaces(loss: float) -> Iterator[None]:
    """Two namespaces, the second of which drops packets that come in."""

    def run(line: str) -> None:
        subprocess.run(line.split(), check=True)

    try:
        run(f"ip netns add {SENDER}")
        run(f"ip netns add {RECEIVER}")
        run(f"ip link add fl-s netns {SENDER} type veth peer name fl-r netns {RECEIVER}")
        for name, device, last in ((SENDER, "fl-s", 1), (RECEIVER, "fl-r", 2)):
            run(f"ip -n {name} addr add 10.78.0.{last}/24 dev {device}")
            run(f"ip -n {name} link set {device} up")
        match = f"-p udp --dport {PORT} -m statistic --mode random --probability {loss}"
        run(f"ip netns exec {RECEIVER} iptables -A INPUT {match} -j DROP")
        yield
    finally:
        for name in (SENDER, RECEIVER):
            subprocess.run(["ip", "netns", "del", name], check=False)


def socket_in(name: str) -> socket.socket:
    """A datagram socket that belongs to a namespace, whoever uses it."""

    def make() -> socket.socket:
        with Path(f"/run/netns/{name}").open() as entered:
            if ctypes.CDLL(None, use_errno=True).setns(entered.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"cannot enter {name}")
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    with ThreadPoolExecutor(1) as entering:  # a thread has a namespace of its own
        return entering.submit(make).result()


def crossed(packets: Sequence[bytes], loss: float) -> list[bytes]:
    """What arrives of packets."""
    with namespaces(loss), socket_in(SENDER) as sending, socket_in(RECEIVER) as arriving:
        arriving.bind((ADDRESS, PORT))
        arriving.setblocking(False)
        came = []
        for number, packet in enumerate(packets):
            sending.sendto(packet, (ADDRESS, PORT))
            if number % AT_ONCE == 0 or number == len(packets) - 1:
                time.sleep(PAUSE_S)
                with suppress(BlockingIOError):
                    while True:
                        came.append(arriving.recv(65535))
        return came


def by_kernel(coded: Sequence[Coded], loss: float, parity: float, times: int) -> tuple[float, list[str]]:
    """The share of packets lost, and which units of each picture are missing, the pictures being sent so many times."""
    room = MTU - HEADER - PACKET_HEADER - (2 if parity else 0)
    rng = np.random.default_rng(0)
    units = [[rng.bytes(size) for size in one.sizes] for one in coded] * times
    packets = [
        [packet.data for packet in protect(cut(of_picture, room), parity, number)]
        for number, of_picture in enumerate(units)
    ]
    arrived: list[list[bytes]] = [[] for _ in units]
    for data in crossed([data for of_picture in packets for data in of_picture], loss):
        arrived[int.from_bytes(data[:2], "little")].append(data)
    missing = []
    for sent, came in zip(units, arrived, strict=True):
        whole = assemble(came, len(sent))
        if any(unit and unit != was for unit, was in zip(whole, sent, strict=True)):
            raise SystemExit("a unit arrived as another")
        missing.append(",".join(str(number) for number, unit in enumerate(whole) if not unit))
    total = sum(map(len, packets))
    return 1 - sum(map(len, arrived)) / total, missing


def by_path(coded: Sequence[Coded], loss: float, parity: float, times: int) -> tuple[float, list[str]]:
    """The same as the channel simulates it."""
    missing, sent, lost = [], 0, 0
    for seed in range(times):
        path = PacketPath(PacketLoss(rate=loss, parity=parity, mtu=MTU), seed, place=2)
        for one in coded:
            _, report = path.carry(one.image, {"x": AccessUnit(tuple(map(bytes, one.sizes)))})
            missing.append(",".join(str(number) for _, number in report.missing))
            sent, lost = sent + report.packets, lost + report.lost
    return lost / sent, missing


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coded", type=Path, default=Path("loss.jsonl"))
    parser.add_argument("--losses", type=float, nargs="+", default=(0.03, 0.1, 0.3))
    parser.add_argument("--parities", type=float, nargs="+", default=(0, 0.5))
    parser.add_argument("--times", type=int, default=20, help="how often each picture is sent")
    args = parser.parse_args()
    truth, judge = items(ground_truth(open_dataset("starter"))[0]), CocoEvaluator()
    by_picture = {(one.source, one.image): one for one in read(args.coded, Coded)}
    source = SOURCES["features"][1]
    coded = [one for (text, _), one in by_picture.items() if text == source]
    print(f"{len(coded)} pictures, {args.times} times, {source.format('')}")
    print("| loss % | parity | | packets lost % | units missing % | pictures whole % | AP | of pictures % |")
    print("|--:|--:|---|--:|--:|--:|--:|--:|")
    for loss, parity in [(loss, parity) for loss in args.losses for parity in args.parities]:
        for name, way in (("kernel", by_kernel), ("simulated", by_path)):
            share, missing = way(coded, loss, parity, args.times)
            drawn = list(zip(coded * args.times, missing, strict=True))
            units = sum(len([n for n in which.split(",") if n]) for _, which in drawn)
            known = [(one, which) for one, which in drawn if which in one.found]
            samples = [judge.update(truth[one.image].image.item, truth[one.image], one.found[w]) for one, w in known]
            ap = judge.resamplers(samples)["segm"].average_precision(np.ones(len(samples), np.int64))
            of_all, whole = sum(len(one.sizes) for one, _ in drawn), sum(not which for _, which in drawn)
            figures = (share, units / of_all, whole / len(drawn), ap or 0, len(known) / len(drawn))
            cells = " | ".join(f"{100 * figure:.1f}" for figure in figures)
            print(f"| {100 * loss:g} | {parity:g} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
