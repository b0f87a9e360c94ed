"""Requests are bounded, in order, and cancelled when nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from waiting import LONG

from featlink.shared import cancelling
from featlink.shared.service.admission import RequestQueue
from featlink.shared.service.problems import BusyError


def test_beyond_its_queue_a_service_is_busy(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app, worker, gate = make_service(), RequestQueue(2), threading.Event()

    @app.get("/job")
    async def work() -> str:
        async with worker.admit():
            await worker.run(gate.wait)
            return "done"

    async def scenario(client: httpx.AsyncClient) -> list[httpx.Response]:
        accepted = [asyncio.create_task(client.get("/job")) for _ in range(2)]
        await asyncio.sleep(0.05)
        refused = [await client.get("/job") for _ in range(3)]
        alive = await client.get("/livez")
        gate.set()
        return [*await asyncio.gather(*accepted), *refused, alive, await client.get("/job")]

    answers = visit(app, scenario)
    worker.close()
    assert [answer.status_code for answer in answers] == [200, 200, 503, 503, 503, 200, 200]
    for answer in answers[2:5]:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"] == "Busy"
        assert answer.json()["detail"] == "2 requests are in work or waiting already; try again"
    assert [int(answer.headers["retry-after"]) for answer in answers[2:5]] == [1, 2, 2], "each after the one before"


def test_jobs_run_one_at_a_time_in_order_beside_the_event_loop() -> None:
    worker = RequestQueue(10)
    order: list[tuple[str, int]] = []
    beside = threading.Event()

    def job(number: int) -> int:
        order.append(("begins", number))
        assert beside.wait(60), "the event loop goes on meanwhile"
        order.append(("ends", number))
        return number

    async def main() -> list[int]:
        jobs = asyncio.gather(*(worker.run(lambda number=number: job(number)) for number in range(5)))
        asyncio.get_running_loop().call_later(0.02, beside.set)
        return await jobs

    results = asyncio.run(main())
    worker.close()
    assert results == [0, 1, 2, 3, 4]
    assert order == [(event, number) for number in range(5) for event in ("begins", "ends")]


def test_a_place_is_given_back_whatever_happens() -> None:
    worker = RequestQueue(1)

    def fail() -> None:
        raise KeyError("lost")

    async def failing() -> None:
        async with worker.admit():
            await worker.run(fail)

    async def main() -> str:
        for _ in range(3):
            with pytest.raises(KeyError, match="lost"):
                await failing()
        async with worker.admit():
            with pytest.raises(BusyError):
                await failing()
        async with worker.admit():
            return await worker.run(lambda: "works")

    assert asyncio.run(main()) == "works"
    worker.close()


def test_closing_finishes_the_job_in_work() -> None:
    worker, finished = RequestQueue(1), threading.Event()

    async def main() -> None:
        job = asyncio.create_task(worker.run(lambda: (time.sleep(0.05), finished.set())))
        await asyncio.sleep(0.01)
        worker.close()
        assert finished.is_set()
        await job

    asyncio.run(main())


def test_waiting_requests_get_their_places_in_the_order_they_came() -> None:
    worker, served = RequestQueue(1, waiting=8), []

    async def main() -> None:
        async def client(name: str, times: int) -> None:
            for _ in range(times):
                async with worker.admit():
                    await asyncio.sleep(0.001)
                    served.append(name)

        async with asyncio.timeout(LONG):
            await asyncio.gather(*(client(name, 5) for name in "abcdefgh"))

    asyncio.run(main())
    worker.close()
    assert served == list("abcdefgh") * 5


def test_a_slow_upload_holds_no_place() -> None:
    worker = RequestQueue(1, waiting=4)

    async def main() -> str:
        async with asyncio.timeout(LONG), worker.enter(), worker.admit():  # the first uploads, for as long as it likes
            return await worker.run(lambda: "served")

    assert asyncio.run(main()) == "served"
    worker.close()


def test_cancelled_work_that_waits_never_runs_and_work_in_progress_is_told() -> None:
    worker, begun, ran = RequestQueue(4), threading.Event(), []

    def job() -> None:
        stopped = threading.Event()
        with cancelling.current().stopping(stopped.set):
            begun.set()
            assert stopped.wait(LONG)
            ran.append("told")

    async def main() -> None:
        first = asyncio.create_task(worker.run(job))
        second = asyncio.create_task(worker.run(lambda: ran.append("second")))
        await asyncio.to_thread(begun.wait, LONG)
        for task in (second, first):
            task.cancel()
        for task in (second, first):
            with pytest.raises(asyncio.CancelledError):
                await task
        await worker.run(lambda: ran.append("next"))

    asyncio.run(main())
    worker.close()
    assert ran == ["told", "next"]
