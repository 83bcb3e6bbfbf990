"""The series of what Redis is for: jobs, and the cache that replicas share. They are there with and without a Redis."""

from functools import partial
from typing import Any, Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from predictor import metric_names as names

JobResult = Literal["submitted", "done", "cancelled"]
Lookup = Literal["hit", "miss", "poisoned", "unavailable"]


class RedisMetrics:
    """The series of one served model.

    Args:
        model_name: name in the endpoints' paths.
        revision: the version of the model.
        registry: where the series are registered.
    """

    def __init__(self, model_name: str, revision: str, registry: CollectorRegistry = REGISTRY) -> None:
        who = (model_name, revision)

        def of(kind: Any, name: str, text: str, *labels: str) -> Any:
            made = kind(name, text, (names.MODEL, names.REVISION, *labels), registry=registry)
            return partial(made.labels, *who) if labels else made.labels(*who)

        self._chunks = of(Gauge, names.JOB_BACKLOG_CHUNKS, "Chunks of jobs that wait or run, over all replicas.")
        self._texts = of(Gauge, names.JOB_BACKLOG_TEXTS, "Texts of jobs that wait or run, over all replicas.")
        jobs = of(Counter, names.JOBS, "Jobs, by what this replica did for them.", names.RESULT)
        self._jobs = {result: jobs(result) for result in ("submitted", "done", "cancelled")}
        texts = of(Counter, names.JOB_TEXTS, "Texts of jobs, by whether they were answered.", names.RESULT)
        self._answered, self._failed = texts("answered"), texts("failed")
        self._dead = of(Counter, names.JOB_DEAD_LETTERS, "Chunks of jobs that were given up.")
        self._damaged = of(Counter, names.JOB_DAMAGED, "Chunks whose results could not be read back.")
        shared = of(Counter, names.SHARED_CACHE, "Texts looked up in the shared cache, by result.", names.RESULT)
        self._shared = {result: shared(result) for result in ("hit", "miss", "poisoned", "unavailable")}
        self._up = partial(of, Gauge, names.REDIS_UP, "1 where Redis can be used, 0 where it is away or refuses.")
        self._redis: Any = None

    def expects_redis(self) -> None:
        """Publish whether Redis can be used: 0 until it was asked. Without a Redis there is no such series."""
        self._redis = self._up()

    def redis_up(self, up: bool) -> None:
        """Publish whether Redis can be used."""
        if self._redis:
            self._redis.set(int(up))

    def backlog(self, chunks: int, texts: int) -> None:
        """Publish what waits or runs, over all replicas."""
        self._chunks.set(chunks)
        self._texts.set(texts)

    def job(self, result: JobResult) -> None:
        """Count a job."""
        self._jobs[result].inc()

    def texts(self, answered: int, failed: int) -> None:
        """Count texts of jobs whose answers, or failures, are stored."""
        self._answered.inc(answered)
        self._failed.inc(failed)

    def dead_letter(self) -> None:
        """Count a chunk that was given up."""
        self._dead.inc()

    def damaged(self) -> None:
        """Count a chunk whose results could not be read back."""
        self._damaged.inc()

    def shared_cache(self, result: Lookup, texts: int) -> None:
        """Count texts looked up in the shared cache; unavailable where Redis was not asked, or did not answer."""
        self._shared[result].inc(texts)
