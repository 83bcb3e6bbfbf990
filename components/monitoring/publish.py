"""The one place that hands figures of steps to Prometheus: by a Pushgateway, or a file of the textfile collector.

Both keep what they were given for ever. So a step publishes the time of its run, too, and a rule looks at its age.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, InvalidURL
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

from components.data.sources.address import masked, safe
from predictor.errors import InputError, Unavailable, one_line

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Value:
    """One gauge with its labels."""

    name: str
    value: float
    help: str
    """The same for all values of a name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """All values of a name have labels of the same names."""


@dataclass(frozen=True)
class Places:
    """Where figures go; nowhere if both are empty."""

    push_url: str = ""
    """Of a Pushgateway."""
    metrics_file: Path | None = None
    """Ends in .prom, in the folder of the textfile collector."""

    def check(self) -> None:
        """Check, before any work is done, that the file can be one of the textfile collector.

        Raises:
            InputError: its name ends otherwise, or its folder is not there.
        """
        file = self.metrics_file
        if file and (file.suffix != ".prom" or not file.parent.is_dir()):
            raise InputError(
                f"{file} is no file of the textfile collector: name one that ends in .prom, in a folder that exists"
            )


def publish(values: Sequence[Value], job: str, group: Mapping[str, str], places: Places) -> None:
    """Publish figures in the place of those that the same job published before for the same group.

    Args:
        values: all figures of the group; one that is missing now is gone.
        job: what computes them.
        group: labels that tell this group from others of the job, such as the model's name.
        places: where to.

    Raises:
        Unavailable: the Pushgateway is away or does not take them.
        InputError: its address is none, or the file cannot be written.
    """
    registry = _registry(values)
    if places.metrics_file:
        try:
            write_to_textfile(str(places.metrics_file), registry)
        except OSError as error:
            raise InputError(
                f"{places.metrics_file} cannot be written ({one_line(error)}): choose another place"
            ) from error
    if places.push_url:
        try:
            push_to_gateway(places.push_url, job, registry, dict(group), _TIMEOUT_SECONDS)
        except (InvalidURL, ValueError) as error:
            raise InputError(
                f"{safe(places.push_url)} is no address ({_why(error, places)}): give one such as "
                "http://pushgateway:9091"
            ) from error
        except (OSError, HTTPException) as error:  # urllib's errors are of the first kind
            raise Unavailable(
                f"the Pushgateway at {safe(places.push_url)} does not take the figures ({_why(error, places)})"
            ) from error


def _why(error: Exception, places: Places) -> str:
    return masked(one_line(error), places.push_url)


def _registry(values: Sequence[Value]) -> CollectorRegistry:
    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for each in values:
        if each.name not in gauges:
            gauges[each.name] = Gauge(each.name, each.help, list(each.labels), registry=registry)
        gauge = gauges[each.name]
        (gauge.labels(**each.labels) if each.labels else gauge).set(each.value)
    return registry
