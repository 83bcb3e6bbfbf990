"""Bytes of a file to lines of text, whatever the encoding; what is not in that encoding stays recognisable."""

import codecs
import io
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import charset_normalizer

from predictor.errors import InputError

BLOCK = 1 << 20
"""Bytes that are read at once."""
MOST_LINE = 1 << 25
"""Characters of a line, and of a field over several lines: more means that a line end or a quote is missing."""
UNDECODABLE = re.compile("[\ud800-\udfff]")
"""What stands for bytes that are not in the encoding."""
# Several encodings may fit the bytes. The first of those that fit about equally well is taken: Windows-1252 and
# Windows-1250, say, have most letters in common.
_ENCODINGS = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "gb18030", "big5", "shift_jis",
    "euc_jp", "euc_kr",
)  # fmt: skip
_EQUALLY_WELL = 0.1
_MULTI_BYTE = {"gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"}
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


class Text:
    """The lines of a text file.

    Args:
        stream: its bytes.
        where: what messages call it.
    """

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self._stream, self._where = stream, where
        self.encoding = "utf-8"
        """Known for sure after the first line that is not ASCII."""
        self.damaged = False
        """Whether a line so far has `UNDECODABLE` characters."""

    def lines(self, newline: str) -> Iterator[str]:
        r"""Yield the lines with their ends.

        The encoding is that of a byte order mark; or UTF-16 if every other byte is NUL; or UTF-8; or, if most lines
        that are not ASCII are not UTF-8, the one that charset-normalizer finds. A byte that is not in it, and each byte
        over 127 of a line in UTF-8 in a file of a one-byte encoding, becomes one of `UNDECODABLE`, as in PEP 383.

        Args:
            newline: as for `open`: what ends a line is `"\n"` alone, or with `""` also `"\r"` and `"\r\n"`.

        Raises:
            InputError: a line is longer than `MOST_LINE`, or no encoding fits.
        """
        rest = ""
        for text in self._texts():
            lines = list(io.StringIO(rest + text, newline=newline))
            # The last line may go on, and a \r may be half of a \r\n.
            rest = "" if not lines or lines[-1].endswith("\n") else lines.pop()
            if len(rest) > MOST_LINE:
                raise InputError(
                    f"{self._where} has a line of over {MOST_LINE:,} characters, starting with '{rest[:20]}': "
                    "give a row a line"
                )
            yield from lines
        yield from io.StringIO(rest, newline=newline)

    def _texts(self) -> Iterator[str]:
        block = self._block()
        mark = next((mark for mark in _MARKS if block.startswith(mark)), b"")
        encoding = _MARKS.get(mark) or _utf_16_without_mark(block)
        block = block[len(mark) :]
        decoder = None
        while block:
            if not decoder and (encoding or not block.isascii()):
                self.encoding = encoding or self._found(block)
                errors = "surrogatepass" if self.encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
                decoder = codecs.getincrementaldecoder(self.encoding)(errors)
            yield self._checked(decoder.decode(block)) if decoder else block.decode("ascii")
            block = self._block()
        if decoder:
            try:
                yield self._checked(decoder.decode(b"", final=True))
            except UnicodeDecodeError as error:
                raise InputError(f"{self._where} ends inside a character: get the whole file") from error

    def _block(self) -> bytes:
        """Return the next `BLOCK` bytes, fewer only at the end: a stream from the web gives what has arrived."""
        block = bytearray()
        while len(block) < BLOCK and (part := self._stream.read(BLOCK - len(block))):
            block += part
        return bytes(block)

    def _checked(self, text: str) -> str:
        if text.isascii():
            return text
        if not self.encoding.startswith("utf") and self.encoding not in _MULTI_BYTE:
            text = "".join(map(self._utf_8_marked, io.StringIO(text, newline="")))
        self.damaged = self.damaged or not _is_encodable(text)
        return text

    def _utf_8_marked(self, line: str) -> str:
        raw = line.encode(self.encoding, "surrogateescape")
        return line if line.isascii() or not _is_utf_8(raw) else raw.decode("ascii", "surrogateescape")

    def _found(self, block: bytes) -> str:
        lines = block.splitlines()
        if len(lines) > 1 and len(block) == BLOCK:
            lines.pop()  # it may be cut inside a character
        lines = [line for line in lines if not line.isascii()]
        others = [line for line in lines if not _is_utf_8(line)]
        if 2 * len(others) <= len(lines):
            return "utf-8"
        return _most_likely(others, self._where)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()  # a tenth of the time of looking for UNDECODABLE
    except UnicodeEncodeError:
        return False
    return True


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _utf_16_without_mark(block: bytes) -> str | None:
    """Return the encoding if ASCII characters, line ends among them, are beside NUL bytes at one side only."""
    for encoding, own, other in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        nuls, wrong = block[own::2].count(0), block[other::2].count(0)
        if nuls > len(block) / 200 and nuls > 10 * wrong:
            text = block[: len(block) // 2 * 2].decode(encoding, "replace")
            if "\n" in text or "\r" in text:
                return encoding
    return None


def _most_likely(lines: Sequence[bytes], where: str) -> str:
    sample = b"\n".join(lines)[: BLOCK // 16]
    found = list(charset_normalizer.from_bytes(sample, cp_isolation=list(_ENCODINGS)))
    if not found:
        raise InputError(f"{where} is in no encoding that is known: save it as UTF-8")
    least, most = min(match.chaos for match in found), max(match.coherence for match in found)
    fitting = {
        name
        for match in found
        if match.chaos <= least + _EQUALLY_WELL / 2 and match.coherence >= most - _EQUALLY_WELL
        for name in (match.encoding, *match.could_be_from_charset)
    }
    return next((name for name in _ENCODINGS if name in fitting), found[0].encoding)
