"""The routes of plain REST: one text, many at once, and jobs that are answered later."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter

from predictor.errors import BadRequest
from predictor.serving.http.messages import JSON, Answer, Asked
from predictor.serving.kserve_model import TextClassifier
from predictor.serving.wire.requests import read_deadline
from predictor.serving.wire.rest import Batch, Writer, in_thread, progress, read_batch, read_text, submitted
from predictor.serving.wire.tables import (
    DEFAULT_ROWS,
    MOST_OFFSET,
    MOST_ROWS,
    page,
    read_csv,
    read_flag,
    read_format,
    read_number,
)

PROTOCOL = "rest"
"""What these routes are counted as."""
_CSV = b"text/csv"
_TYPES = {"jsonl": b"application/jsonl", "csv": b"text/csv; charset=utf-8"}


class Rest:
    """Answers plain REST.

    Args:
        model: the model.
    """

    def __init__(self, model: TextClassifier) -> None:
        self._model = model
        self._writer = Writer(model.names, model.answering)
        self._path = f"/v1/{model.names.verb}"

    async def one(self, asked: Asked) -> Answer:
        """Answer one text."""

        async def answer(started: float) -> Answer:
            request = await self._model.run(in_thread(asked.body), read_text, asked.body)
            return await self._model.classify(
                request, asked.deadline, asked.id, started,
                lambda request, rows: Answer(self._writer.one(request, rows, perf_counter() - started)),
            )  # fmt: skip

        return await self._counted(answer)

    async def batch(self, asked: Asked) -> Answer:
        """Answer many texts, or take them as a job."""

        async def answer(started: float) -> Answer:
            batch: Batch = await self._model.run(in_thread(asked.body), self._read, asked)
            if batch.asynchronous:
                return await self._submit(batch, asked)
            request = await self._model.run(in_thread(asked.body), batch.request)
            return await self._model.classify(
                request, asked.deadline, asked.id, started,
                lambda request, rows: Answer(self._writer.batch(batch.texts, request, rows, perf_counter() - started)),
            )  # fmt: skip

        return await self._counted(answer)

    async def status(self, asked: Asked) -> Answer:
        """Say how far a job is."""

        async def answer(_: float) -> Answer:
            return Answer(progress(await self._model.jobs.status(asked.job, asked.client)))

        return await self._counted(answer, timed=False)

    async def cancel(self, asked: Asked) -> Answer:
        """Cancel a job."""

        async def answer(_: float) -> Answer:
            return Answer(progress(await self._model.jobs.cancel(asked.job, asked.client)))

        return await self._counted(answer, timed=False)

    async def results(self, asked: Asked) -> Answer:
        """Answer with a page of a job's results, and where the next one is."""

        async def answer(_: float) -> Answer:
            form = read_format(asked.parameter("format", "jsonl"))
            limit = read_number("limit", asked.parameter("limit", str(DEFAULT_ROWS)), 1, MOST_ROWS)
            offset = read_number("offset", asked.parameter("offset", "0"), 0, MOST_OFFSET)
            jobs = self._model.jobs
            total = (await jobs.status(asked.job, asked.client)).total
            if offset >= total:
                raise BadRequest(f"parameter offset is {offset}, and the job has {total} texts: send a smaller one")
            rows = await jobs.results(asked.job, asked.client, offset, limit)
            headers = [(b"content-type", _TYPES[form])]
            if (after := offset + limit) < total:
                next_page = f"{self._path}/results/{asked.job}?format={form}&offset={after}&limit={limit}"
                headers.append((b"link", f'<{next_page}>; rel="next"'.encode()))
            many = len(rows) > DEFAULT_ROWS
            return Answer(await self._model.run(many, page, self._writer, offset, rows, form), tuple(headers))

        return await self._counted(answer, timed=False)

    def _read(self, asked: Asked) -> Batch:
        most = self._model.most_texts
        later = read_flag("async", asked.parameter("async", "false"))
        if asked.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _CSV:
            batch = read_batch(asked.body, most)
            return replace(batch, asynchronous=batch.asynchronous or later)
        return read_csv(asked.body, asked.parameter("column", "text"), later, most)

    async def _submit(self, batch: Batch, asked: Asked) -> Answer:
        read_deadline(asked.deadline)  # a malformed one is refused, though a job has none
        job = await self._model.jobs.submit(batch.texts, asked.client)
        place = f"{self._path}/status/{job.id}".encode()
        return Answer(submitted(job), (JSON, (b"location", place)), 202)

    async def _counted(self, answer: Callable[[float], Awaitable[Answer]], timed: bool = True) -> Answer:
        """Answer and count a request; `timed` says whether its seconds are those of an answer to texts."""
        found: Answer | None = None

        async def noted(started: float) -> Answer:
            nonlocal found
            found = await answer(started)
            return found

        def count(code: int, seconds: float) -> None:
            if found and code < 400:
                code = found.status
            self._model.metrics.request(PROTOCOL, code, seconds if timed and code == 200 else None)

        return await self._model.counted(count, PROTOCOL, noted)
