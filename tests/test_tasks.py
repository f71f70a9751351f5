"""Tasks end for certain, whatever they and who ends them go through."""

import asyncio
import contextlib

import pytest

from contract.tasks import end


@pytest.mark.parametrize("again", [False, True])
def test_a_task_that_loses_a_cancellation_has_ended_before_who_ends_it(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    monkeypatch.setattr("contract.tasks.AGAIN_S", 0.01)

    async def loses_one() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def ended() -> None:
        inner = asyncio.ensure_future(loses_one())
        await asyncio.sleep(0)
        outer = asyncio.ensure_future(end([inner]))
        await asyncio.sleep(0)  # it waits for the other now
        if again:
            outer.cancel()
        await asyncio.wait([outer])
        assert inner.done() and outer.cancelled() == again

    asyncio.run(asyncio.wait_for(ended(), 30))
