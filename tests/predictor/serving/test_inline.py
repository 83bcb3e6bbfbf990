import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from predictor.serving.inline import Inline

MOST = 100


class Stage:
    """Says how long a text is; is broken by a "!"."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        self.calls.append(list(texts))
        if any("!" in text for text in texts):
            raise ValueError("broken")
        rows = np.array([[len(text)] for text in texts], dtype=np.float32)
        return rows, rows[:, 0] > 3


async def iterations(inline: Inline, sizes: Sequence[int], gone: Sequence[int] = ()) -> list[list[int]]:
    """Let requests of these sizes come at once, and return which got their turn in each iteration of the loop."""
    found: list[list[int]] = [[]]
    broken: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))

    async def request(number: int) -> None:
        await inline.turn(sizes[number])
        found[-1].append(number)

    async def clock() -> None:
        while True:
            found.append([])
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(request(number)) for number in range(len(sizes))]
    ticking = asyncio.create_task(clock())
    await asyncio.sleep(0)
    for number in gone:
        tasks[number].cancel()
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks, return_exceptions=True)
    ticking.cancel()
    assert not broken
    return [turns for turns in found if turns]


@given(st.lists(st.integers(1, 250), min_size=1, max_size=40))
@example([40, 60, 10])
def test_each_iteration_prepares_as_many_as_fit_and_all_come_in_order(sizes: list[int]) -> None:
    turns = asyncio.run(iterations(Inline(MOST), sizes))
    assert [number for together in turns for number in together] == list(range(len(sizes)))
    taken = [[sizes[number] for number in together] for together in turns]
    assert all(len(together) == 1 or sum(together) <= MOST for together in taken)
    assert all(sum(now) + following[0] > MOST for now, following in itertools.pairwise(taken))


def test_who_goes_while_it_waits_takes_no_room() -> None:
    assert asyncio.run(iterations(Inline(MOST), [60] * 5, gone=[1, 3])) == [[0], [2], [4]]
    assert asyncio.run(iterations(Inline(MOST), [60, 60, 30, 30], gone=[1])) == [[0], [2, 3]]


def played(script: Callable[[Inline], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(script(Inline(MOST)), 30))


def test_what_is_asked_in_one_iteration_is_one_call_and_each_gets_its_own() -> None:
    async def script(inline: Inline) -> None:
        stage = Stage()
        one, two = await asyncio.gather(inline.ask(stage, ["a", "abcd"]), inline.ask(stage, ["abcde"]))
        assert stage.calls == [["a", "abcd", "abcde"]]
        assert (one[0].tolist(), one[1].tolist()) == ([[1], [4]], [False, True])
        assert (two[0].tolist(), two[1].tolist()) == ([[5]], [True])
        await inline.ask(stage, ["later"])
        assert stage.calls[1:] == [["later"]]

    played(script)


def test_a_text_that_breaks_the_stage_fails_alone() -> None:
    async def script(inline: Inline) -> None:
        stage = Stage()
        good, bad, late = await asyncio.gather(
            inline.ask(stage, ["a"]), inline.ask(stage, ["b!"]), inline.ask(stage, ["cc"]), return_exceptions=True
        )
        assert isinstance(good, tuple) and good[0].tolist() == [[1]]
        assert isinstance(late, tuple) and late[0].tolist() == [[2]]
        assert isinstance(bad, ValueError)

    played(script)


@pytest.mark.parametrize("text", ["fine", "broken!"])
def test_who_goes_before_the_answer_disturbs_nobody(text: str) -> None:
    async def script(inline: Inline) -> None:
        stage = Stage()
        gone = asyncio.ensure_future(inline.ask(stage, [text]))
        stays = asyncio.ensure_future(inline.ask(stage, ["abc"]))
        await asyncio.sleep(0)
        gone.cancel()
        rows, _ = await stays
        assert rows.tolist() == [[3]] and gone.cancelled()

    played(script)
