import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.errors import InputError, Unauthorised, Unsupported
from predictor.tokens import TokenFile, token_of


def accepted(tokens: TokenFile, header: str) -> bool:
    try:
        return bool(tokens.caller(header))
    except Unauthorised:
        return False


def test_each_token_of_the_file_is_a_caller_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("old\r\n\n  new  \n")
    tokens = TokenFile(file)
    old, new = tokens.caller("Bearer old"), tokens.caller("bearer  new ")
    assert old != new and old == TokenFile(file).caller("Bearer old") and "old" not in old
    for header in (
        "",
        "Bearer",
        "Bearer ",
        "old",
        "Basic old",
        "Bearer olds",
        "Bearer ol",
        "Bearer old new",
        "Bearer ö",
    ):
        assert not accepted(tokens, header), header


@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=4), st.text("abc", max_size=3))
def test_a_token_is_accepted_if_it_is_a_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], sent: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "drawn"
    file.write_text("\n".join(lines))
    if lines:
        assert accepted(TokenFile(file), f"Bearer {sent}") == (sent in lines)
    else:
        assert not TokenFile(file).ready()


def test_a_token_that_is_replaced_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("aa")
    tokens = TokenFile(file)
    assert accepted(tokens, "Bearer aa")
    for token in ("bb", "cc", "dd"):  # as long, and within one tick of the file system's clock
        file.write_text(token)
        assert accepted(tokens, f"Bearer {token}") and not accepted(tokens, "Bearer aa")


def test_a_file_is_not_read_again_until_it_changes(tmp_path: Path) -> None:
    file, other = tmp_path / "tokens", tmp_path / "other"
    file.write_text("aa")
    os.utime(file, (1, 1))
    tokens = TokenFile(file)
    assert accepted(tokens, "Bearer aa")
    file.write_text("xx")
    os.utime(file, (1, 1))  # nobody but a test does that
    assert accepted(tokens, "Bearer aa")
    other.write_text("bb")
    os.utime(other, (1, 1))
    other.replace(file)  # as long and as old, but another file
    assert accepted(tokens, "Bearer bb") and not accepted(tokens, "Bearer aa")


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"two words", b"good\ntwo words\n", b"x" * 70_000])
def test_without_tokens_nobody_is_let_in(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    tokens = TokenFile(file)
    assert not tokens.ready()
    for header in ("", "Bearer", "Bearer ", "Bearer good", "Bearer two words"):
        with pytest.raises(Unsupported, match="no token to compare with"):
            tokens.caller(header)
    file.write_text("late")
    assert tokens.ready() and accepted(tokens, "Bearer late")
    file.unlink()
    assert not tokens.ready()


def test_a_caller_sends_the_first_token(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("\none\ntwo\n")
    assert token_of(file) == "one"
    for content in (b"", b"\n \n", "ö".encode()):
        file.write_bytes(content)
        with pytest.raises(InputError, match="the token file"):
            token_of(file)
    with pytest.raises(InputError, match="cannot be read"):
        token_of(tmp_path / "none")
