"""Of many questions, one at a time and the newest last."""

from __future__ import annotations

import asyncio

from featlink.page.latest import Latest


def test_only_the_newest_of_those_waiting_is_done() -> None:
    async def main() -> list[int]:
        done: list[int] = []
        started, go_on = asyncio.Event(), asyncio.Event()

        async def work(job: int) -> None:
            started.set()
            await go_on.wait()
            done.append(job)

        latest = Latest(work)
        latest.ask(1)
        await started.wait()
        for job in (2, 3, 4):
            latest.ask(job)
        assert latest.waiting
        go_on.set()
        await latest.idle()
        assert not latest.waiting
        latest.ask(5)
        await latest.idle()
        return done

    assert asyncio.run(main()) == [1, 4, 5]


def test_a_slow_old_answer_never_follows_a_quick_new_one() -> None:
    async def main() -> list[float]:
        shown: list[float] = []

        async def work(seconds: float) -> None:
            await asyncio.sleep(seconds)
            shown.append(seconds)

        latest = Latest(work)
        latest.ask(0.05)
        await asyncio.sleep(0)
        latest.ask(0.0)
        await latest.idle()
        return shown

    assert asyncio.run(main()) == [0.05, 0.0]
