from __future__ import annotations

import asyncio
from functools import partial

from app.server.admission import HEALTH, PER_TURN, Admission, Entry


def run(ask: int, waiting: int) -> tuple[list[Entry], list[list[int]]]:
    """What becomes of so many visitors that come in one turn, and who enters in each of the next turns."""

    async def scenario() -> tuple[list[Entry], list[list[int]]]:
        admission, entered, turns = Admission(waiting), [], []
        loop = asyncio.get_running_loop()
        entries = [admission.ask(partial(entered.append, number), b"POST /predict ", loop) for number in range(ask)]
        assert admission.ask(partial(entered.append, -1), HEALTH[0] + b"HTTP/1.1", loop) is Entry.NOW
        for _ in range(4):
            seen = len(entered)
            await asyncio.sleep(0)
            turns.append(entered[seen:])
        return entries, turns

    return asyncio.run(scenario())


def test_a_turn_takes_in_a_few_and_the_rest_enter_in_the_order_of_their_coming() -> None:
    entries, turns = run(ask=2 * PER_TURN + 5, waiting=1_000)
    assert entries == [Entry.NOW] * PER_TURN + [Entry.LATER] * (PER_TURN + 5)
    assert turns == [[*range(PER_TURN, 2 * PER_TURN)], [*range(2 * PER_TURN, 2 * PER_TURN + 5)], [], []]


def test_beyond_the_bound_visitors_are_refused() -> None:
    entries, turns = run(ask=PER_TURN + 5, waiting=3)
    assert entries == [Entry.NOW] * PER_TURN + [Entry.LATER] * 3 + [Entry.REFUSED] * 2
    assert turns[0] == [PER_TURN, PER_TURN + 1, PER_TURN + 2]


def test_a_new_turn_takes_in_as_many_again() -> None:
    async def scenario() -> list[Entry]:
        admission, loop, entries = Admission(0), asyncio.get_running_loop(), []
        for _ in range(3):
            entries += [admission.ask(list, b"", loop) for _ in range(PER_TURN)]
            await asyncio.sleep(0)
        return entries

    assert asyncio.run(scenario()) == [Entry.NOW] * 3 * PER_TURN
