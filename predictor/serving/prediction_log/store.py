"""Where parts of the log are put: a local folder, or anything that fsspec has a driver for."""

from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from predictor.errors import InputError, one_line
from predictor.files import whole_and_synced


class Store:
    """The place of the log. Each part appears whole, or not at all.

    Args:
        url: a folder, or an fsspec URI such as s3://bucket/log. Nothing is asked of it here: it may be away.

    Raises:
        InputError: there is no driver for such a URI.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, base = fsspec.core.url_to_fs(url)
        except Exception as error:  # every driver has its own exceptions
            raise InputError(
                f"--log-url {url} cannot be used ({type(error).__name__}: {one_line(error)}): give a folder, or a URI "
                "whose fsspec driver is installed (s3fs, gcsfs, adlfs)"
            ) from None
        self.root = str(base).rstrip("/")

    def put(self, path: str, data: bytes) -> None:
        """Store one part.

        Args:
            path: where to, below `root`.
            data: all of it.

        Raises:
            Exception: whatever the driver raises; nothing is at the path then, or what was there before.
        """
        if isinstance(self._files, LocalFileSystem):
            with whole_and_synced(Path(path)) as stream:
                stream.write(data)
            return
        try:
            self._files.pipe_file(path, data)
        except FileNotFoundError:
            # Not made beforehand: object storage has no folders, and would be asked for rights to the whole bucket.
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, data)
