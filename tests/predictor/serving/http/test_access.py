"""Who may ask: callers with a token, and pages of named origins."""

from pathlib import Path
from typing import Any

import pytest

from predictor.errors import InputError
from predictor.serving.http.access import Access
from predictor.tokens import TokenFile
from tests.predictor.serving.http.doors import V1, V2, asked, called, doored, scope_of


def test_without_a_token_nothing_is_read_or_answered(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("one\ntwo\n")
    door, model = doored(access=Access(TokenFile(tmp_path / "tokens")))
    paths = [V1, V2, "/v1/models/m:explain", "/v1/models/m:feedback", "/v1/classify", "/v1/classify/batch"]
    refused = asked(door, *(("POST", path, {"content": b"x" * 5000}) for path in paths))
    refused += asked(door, ("GET", "/v1/classify/status/a", {}), ("GET", "/v1/classify/results/a", {}))
    for got in refused:
        assert got.status_code == 401 and got.headers["www-authenticate"] == "Bearer"
        assert "bearer token is missing" in got.json()["error"] and got.headers["x-request-id"]
    assert model.counted.count(("v1", 401)) == 1 and model.counted.count(("rest", 401)) == 4 and not model.deadlines
    first, second, health, wrong = asked(
        door,
        ("POST", V1, {"content": b"abc", "headers": {"authorization": "Bearer one"}}),
        ("POST", V1, {"content": b"abc", "headers": {"authorization": "bearer two"}}),
        ("GET", "/v2/health/live", {}),
        ("GET", V1, {}),
    )
    assert first.json() == second.json() == {"length": 3}
    assert (health.status_code, wrong.status_code) == (418, 405)
    (tmp_path / "tokens").write_text("")
    (got,) = asked(door, ("POST", V1, {"content": b"abc", "headers": {"authorization": "Bearer one"}}))
    assert got.status_code == 503 and "no token to compare with" in got.json()["error"]


def test_a_caller_without_a_token_gets_no_leave_to_send(tmp_path: Path) -> None:
    door, _ = doored(access=Access(TokenFile(tmp_path / "none")))
    start, _ = called(door, scope_of(content_length="5", expect="100-continue"))
    assert start["status"] == 503


HERE, THERE = "https://app.example.com", "https://evil.example"


def preflight(origin: str) -> tuple[str, str, dict[str, Any]]:
    return "OPTIONS", V1, {"headers": {"origin": origin, "access-control-request-method": "POST"}}


def test_other_sites_are_told_nothing_unless_they_are_named() -> None:
    door, _ = doored()
    before, post = asked(door, preflight(HERE), ("POST", V1, {"content": b"x", "headers": {"origin": HERE}}))
    assert (before.status_code, before.headers["allow"]) == (405, "POST")
    for got in (before, post):
        assert not [name for name in got.headers if name.startswith("access-control") or name == "vary"]


def test_pages_of_named_origins_may_ask_and_no_others() -> None:
    door, model = doored(access=Access.of(None, [HERE, "http://localhost:3000"], False))
    allowed, refused, post, other, bare, kserves = asked(
        door,
        preflight(HERE),
        preflight(THERE),
        ("POST", V1, {"content": b"x", "headers": {"origin": HERE}}),
        ("POST", V1, {"content": b"x", "headers": {"origin": THERE}}),
        ("GET", V1, {}),
        ("GET", "/v2/health/live", {"headers": {"origin": HERE}}),
    )
    assert (allowed.status_code, allowed.content) == (204, b"")
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert refused.status_code == 403 and "--cors-origin" in refused.json()["error"]
    assert (post.status_code, other.status_code, kserves.status_code) == (200, 200, 418)
    for got in (allowed, post, kserves):
        assert got.headers["access-control-allow-origin"] == HERE
    for got in (refused, other, bare):
        assert "access-control-allow-origin" not in got.headers
    assert all(got.headers["vary"] == "Origin" for got in (allowed, refused, post, other, bare, kserves))
    assert "x-request-id" in post.headers["access-control-expose-headers"]
    assert len(model.deadlines) == 2


def test_all_origins_have_to_be_named_by_a_star() -> None:
    door, _ = doored(access=Access.of(None, ["*"], False))
    for got in asked(door, preflight(THERE), ("POST", V1, {"content": b"x", "headers": {"origin": "null"}})):
        assert got.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in got.headers


@pytest.mark.parametrize(
    "origin", ["", "app.example.com", "https://a.example/", "https://A.example", "https://*", "null"]
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(InputError, match="--cors-origin"):
        Access.of(None, [origin], False)
