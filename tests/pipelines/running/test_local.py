"""What a local run says of a step that broke."""

from pipelines.running.local import _LOG_TAIL, _end_of_failed_step

FAILED = "12:00:00.000 - ERROR - Task \x1b[96m'register'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m"
"""As kfp's runner writes it."""


def test_the_log_shown_ends_where_the_step_failed_not_where_the_exit_handler_did() -> None:
    after = ["Task 'end-rollout' finished with status \x1b[92mSUCCESS\x1b[0m"] * _LOG_TAIL
    shown = _end_of_failed_step("\n".join(["earlier"] * 50 + ["the reason", FAILED, *after])).splitlines()
    assert shown[-2:] == ["the reason", FAILED] and len(shown) == _LOG_TAIL


def test_a_short_log_without_a_failed_step_is_shown_whole() -> None:
    assert _end_of_failed_step("one\ntwo\n") == "one\ntwo"
