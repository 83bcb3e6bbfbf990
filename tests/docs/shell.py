"""The command lines of a shell block, as words."""

import re
import shlex
from collections.abc import Iterator
from itertools import groupby

_HEREDOC = re.compile(r"<<'(\w+)'\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(^|\s)# .*$", re.MULTILINE)
_BREAKS = "\n;&|()"


def commands(text: str) -> list[list[str]]:
    """Return each command of the block; of a pipe, of `$(...)` and of `(...)` each part is one."""
    text = _COMMENT.sub("", _HEREDOC.sub("", text)).replace("\\\n", " ")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_BREAKS + "<>")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
    split = groupby(lexer, key=lambda word: bool(word) and set(word) <= set(_BREAKS))
    return [found for breaks, words in split if not breaks and (found := list(_without_redirections(words)))]


def _without_redirections(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        if word and set(word) <= set("<>"):
            next(words, None)
        else:
            yield word


def heredocs(text: str) -> list[str]:
    """Return the texts that the block writes into files."""
    return [body for _, body in _HEREDOC.findall(text)]
