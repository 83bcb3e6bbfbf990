import os
from collections.abc import Sequence

from components.data.inspection import processes
from components.data.inspection.processes import Processes


def with_process(texts: Sequence[str]) -> list[tuple[str, int]]:
    return [(text.upper(), os.getpid()) for text in texts]


def test_order_is_kept_and_other_processes_do_the_work(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(processes, "_AT_ONCE", 10)
    texts = [f"text {row}" for row in range(95)]
    with Processes(2) as several, Processes(1) as one:
        found = several.map(with_process, texts)
        assert [text for text, _ in found] == [text for text, _ in one.map(with_process, texts)]
        assert [text for text, _ in found] == [text.upper() for text in texts]
        assert os.getpid() not in {process for _, process in found}
        assert {process for _, process in one.map(with_process, texts)} == {os.getpid()}
        assert {process for _, process in several.map(with_process, texts[:10])} == {os.getpid()}
        assert several.map(with_process, []) == []
