import io
from pathlib import Path

from pipelines.running.console import Console

RAW = (
    "12:00:00.000 - INFO - Executing task \x1b[96m'fine-tune'\x1b[0m\n"
    "12:00:00.000 - INFO - Streamed logs:\n"
    "    [KFP Executor 1 INFO]: noise\n"
    "    ▸ 10 texts\n"
    "    ▸… fine-tune  50%\n"
    "    ▸… fine-tune  100%\n"
    "    ▸ epoch 1\n"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _show(screen: io.StringIO, log: Path, size: int) -> str:
    with Console(log, screen) as console:
        for start in range(0, len(RAW), size):
            console.write(RAW[start : start + size])
    return screen.getvalue()


def test_only_what_is_meant_for_people_is_shown_and_everything_kept(tmp_path: Path) -> None:
    for size in (1, 7, 10_000):
        shown = _show(io.StringIO(), tmp_path / "log", size)
        assert shown == "fine-tune\n  10 texts\n  fine-tune  50%\n  fine-tune  100%\n  epoch 1\n"
        assert (tmp_path / "log").read_text() == RAW


def test_on_a_terminal_progress_replaces_itself(tmp_path: Path) -> None:
    shown = _show(Terminal(), tmp_path / "log", 3)
    assert shown.endswith("\r\x1b[2K  fine-tune  50%\r\x1b[2K  fine-tune  100%\n  epoch 1\n")
