"""What Alertmanager sends: groups of alerts, of which some ask for a response."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from predictor.errors import BadRequest, one_line

RETRAIN, LABEL = "retrain", "label"
ACTED_ON = (RETRAIN, LABEL)
"""Responses that start a round; batch scoring pauses by itself."""
_RESPONSE, _MODEL = "response", "model_name"
_MOST_ALERTS = 1000
_MOST_NAMED = 10


def _with_zone(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a time without a zone")
    return time.astimezone(UTC)


class _Alert(BaseModel):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: Annotated[datetime, AfterValidator(_with_zone)] = Field(alias="startsAt")


class _Webhook(BaseModel):
    """Version 4 of Alertmanager's webhook, as far as it matters here."""

    version: Literal["4"]
    group_key: str = Field(alias="groupKey", min_length=1, max_length=10_000)
    alerts: list[_Alert] = Field(max_length=_MOST_ALERTS)


@dataclass(frozen=True)
class Alert:
    """A firing alert that asks for a response."""

    key: str
    """The same each time that Alertmanager, or the other of a pair, sends it."""
    name: str
    response: str
    started: datetime
    summary: str

    @property
    def sentence(self) -> str:
        """The alert in words, as a cause to act."""
        said = f": {self.summary}" if self.summary else ""
        sentence = f"the alert {self.name} fires since {self.started:%Y-%m-%d %H:%M} UTC{said}"
        # It becomes a parameter of a pipeline, where kfp would take doubled braces for a placeholder, and rewrite
        # the interpreter's name; and an argument of a process, which cannot hold a zero.
        return sentence.replace("{{", "{ {").replace("python3", "python 3").replace("\0", " ")


def cause_of(alerts: Sequence[Alert]) -> str:
    """Return alerts in words, as one cause: of a storm the first ones alone, since an argument is of bounded length."""
    more = len(alerts) - _MOST_NAMED
    return "; ".join(
        [*(alert.sentence for alert in alerts[:_MOST_NAMED]), *([f"and {more:,} more alerts"] if more > 0 else [])]
    )


def alerts_in(body: bytes, model: str = "") -> list[Alert]:
    """Return the firing alerts of a webhook that ask for a response, one for each time at which some began.

    Args:
        body: as it was sent.
        model: alerts on other models are left out; empty for all.

    Raises:
        BadRequest: it is no webhook of Alertmanager.
    """
    try:
        webhook = _Webhook.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        what = one_line(f"{'.'.join(map(str, first['loc']))} {first['msg']}")
        raise BadRequest(f"the body is no webhook of Alertmanager ({what}): send version 4") from None
    found: dict[str, Alert] = {}
    for alert in webhook.alerts:
        response = _response(alert.labels, alert.annotations)
        if model and alert.labels.get(_MODEL, model) != model:
            continue
        if alert.status == "firing" and response:
            key = hashlib.sha256(f"{webhook.group_key}\n{alert.starts_at.isoformat()}".encode()).hexdigest()
            summary = one_line(alert.annotations.get("summary", ""))
            made = Alert(key, one_line(alert.labels.get("alertname", "")), response, alert.starts_at, summary)
            # Of alerts that began together, one that starts a round comes before one that does not.
            if key not in found or found[key].response not in ACTED_ON:
                found[key] = made
    return list(found.values())


def _response(labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    response = labels.get(_RESPONSE) or annotations.get(_RESPONSE) or ""
    return "" if response == "none" else response
