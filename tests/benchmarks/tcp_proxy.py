"""A connection that a benchmark can cut: a small proxy of TCP on a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ports import free_port


class Proxy:
    """Passes bytes on to a port of this machine, unless it is cut.

    Args:
        target: the port.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._cut = False
        self.port = free_port()

    def cut(self, cut: bool) -> None:
        """Cut all connections and take no more, or take them again."""
        asyncio.run_coroutine_threadsafe(self._set(cut), self._loop).result()

    async def _set(self, cut: bool) -> None:
        self._cut = cut
        for writer in list(self._open) if cut else ():
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, back}
        self._open |= ends
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        self._open -= ends

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(1 << 16):
                writer.write(part)
                await writer.drain()
        writer.close()

    def run(self) -> None:
        """Serve until the loop is stopped."""
        self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._loop.run_forever()

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def proxy_to(target: int) -> Iterator[Proxy]:
    """Start a proxy and end it with the block."""
    proxy = Proxy(target)
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()
