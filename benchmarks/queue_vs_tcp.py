"""How near the simulated queue before a link comes to TCP over a link that the kernel slows down.

    python -m benchmarks.queue_vs_tcp

Needs root, `ip` and `tc`, and Linux with network namespaces and the token bucket filter (tbf). Frames of a stream, a
tenth of which are key frames, go from one namespace to the other over one TCP connection at `--fps`, whether those
before have arrived or not. When each has arrived is compared with `LinkQueue` at the same rate, less the share that the
headers of Ethernet, IP and TCP take of it. A token bucket lets the first packet after a pause through at once, so TCP
is ahead by the time of one packet, which is in the table. With netem in the kernel, `--delay-ms` delays both ways.
docs/measurements.md has the result.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from featlink.channel.link import Link, LinkQueue

SENDER, RECEIVER = "featlink-sends", "featlink-receives"
ADDRESS, PORT = "10.77.0.2", 7700
PAYLOAD, FRAME = 1448, 1514
"""Bytes of a full TCP segment with time stamps, and of the Ethernet frame that carries it."""
BURST = 1600
"""Bytes that the bucket lets through at once: a packet and a bit, the least that lets any through."""
KEY_BYTES, OTHER_BYTES, PERIOD = 20_000, 3_000, 10


@contextmanager
def namespaces(mbps: float, delay_ms: float) -> Iterator[None]:
    """Two namespaces with a link between them that is slow in one direction."""

    def run(line: str) -> None:
        subprocess.run(line.split(), check=True)

    inside = f"ip netns exec {SENDER}"
    try:
        run(f"ip netns add {SENDER}")
        run(f"ip netns add {RECEIVER}")
        run(f"ip link add fl-s netns {SENDER} type veth peer name fl-r netns {RECEIVER}")
        for name, device, last in ((SENDER, "fl-s", 1), (RECEIVER, "fl-r", 2)):
            run(f"ip -n {name} addr add 10.77.0.{last}/24 dev {device}")
            run(f"ip -n {name} link set {device} up")
        run(
            f"{inside} tc qdisc add dev fl-s root handle 1: tbf rate {mbps * 1000:.0f}kbit burst {BURST} limit 10000000"
        )
        if delay_ms:
            run(f"{inside} tc qdisc add dev fl-s parent 1: netem delay {delay_ms}ms limit 100000")
            run(f"ip netns exec {RECEIVER} tc qdisc add dev fl-r root netem delay {delay_ms}ms limit 100000")
        yield
    finally:
        for name in (SENDER, RECEIVER):
            subprocess.run(["ip", "netns", "del", name], check=False)


def receive(count: int) -> None:
    """Print when each frame's last byte is there, on the monotonic clock."""
    with socket.create_server((ADDRESS, PORT)) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as stream:
            moments = []
            for _ in range(count):
                stream.read(struct.unpack("!I", stream.read(4))[0])
                moments.append(time.monotonic())
    print(json.dumps(moments))


def send(sizes: list[int], fps: float) -> None:
    """Send frames when they are due, and print when that was."""
    with socket.create_connection((ADDRESS, PORT)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.monotonic() + 0.2
        due = [begun + number / fps for number in range(len(sizes))]
        for moment, size in zip(due, sizes, strict=True):
            time.sleep(max(0.0, moment - time.monotonic()))
            connection.sendall(struct.pack("!I", size) + bytes(size))
    print(json.dumps(due))


def sent(sizes: list[int], fps: float, mbps: float, delay_ms: float) -> np.ndarray:
    """Latency of each frame over the kernel's link, in ms."""
    with namespaces(mbps, delay_ms):

        def begin(name: str, what: str) -> subprocess.Popen[str]:
            mine = [sys.executable, "-m", "benchmarks.queue_vs_tcp", f"--{what}", json.dumps(sizes), "--fps", str(fps)]
            return subprocess.Popen(["ip", "netns", "exec", name, *mine], stdout=subprocess.PIPE, text=True)

        receiver = begin(RECEIVER, "receive")
        assert receiver.stdout is not None
        receiver.stdout.readline()
        due = json.loads(begin(SENDER, "send").communicate()[0])
        arrived = json.loads(receiver.communicate()[0])
    return 1e3 * (np.array(arrived) - np.array(due))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--loads", type=float, nargs="+", default=(0.4, 0.8, 1.5))
    parser.add_argument("--delay-ms", type=float, default=0.0, help="each way; needs netem")
    parser.add_argument("--send", help=argparse.SUPPRESS)
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.receive:
        receive(len(json.loads(args.receive)))
        return
    if args.send:
        send(json.loads(args.send), args.fps)
        return
    sizes = [OTHER_BYTES if number % PERIOD else KEY_BYTES for number in range(args.frames)]
    net = 8 * float(np.mean(sizes)) * args.fps / 1e6
    print("| load | Mbit/s | median: simulated, TCP, ms | 95 % | most | a packet, ms |\n|--:|--:|--:|--:|--:|--:|")
    for load in args.loads:
        mbps = net / load * FRAME / PAYLOAD
        queue, rng = LinkQueue(Link(rate_mbps=net / load, rtt_ms=2 * args.delay_ms)), np.random.default_rng(0)
        simulated = [queue.send(8 * size, number / args.fps, rng).ms for number, size in enumerate(sizes)]
        seen = sent(sizes, args.fps, mbps, args.delay_ms)
        cells = [
            f"{ours:,.0f}, {theirs:,.0f} ({100 * (ours / theirs - 1):+.1f} %)"
            for ours, theirs in zip(*(np.percentile(each, [50, 95, 100]) for each in (simulated, seen)), strict=True)
        ]
        print(f"| {load:g} | {mbps:.3f} | {' | '.join(cells)} | {8 * BURST / mbps / 1e3:.0f} |", flush=True)


if __name__ == "__main__":
    main()
