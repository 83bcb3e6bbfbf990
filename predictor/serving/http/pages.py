"""Pages for people: `/docs`, which shows what the server takes, and `/ui`, on which to try it.

Neither asks another server for anything, and neither runs a script that is not ours: their headers say so to browsers.
"""

import base64
import hashlib
import json
import re
from importlib.resources import files

import fastapi_offline

from predictor.serving.http.messages import Answer, Asked, Handler
from predictor.serving.kserve_model import TextClassifier

DOCS, UI = "/docs", "/ui"
_SCRIPT, _STYLE = f"{DOCS}/swagger-ui-bundle.js", f"{DOCS}/swagger-ui.css"
_HTML = b"text/html; charset=utf-8"
# The files are those of the installed release: a browser that has them asks again after an hour.
_KEPT = (b"cache-control", b"max-age=3600")
_FRESH = (b"cache-control", b"no-cache")
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_DOCS_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pigeonhole: what the server takes and answers</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{_STYLE}">
</head>
<body>
<div id="docs"></div>
<script src="{_SCRIPT}"></script>
<script>SwaggerUIBundle({{url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null}})</script>
</body>
</html>
"""


def docs_pages() -> dict[str, Handler]:
    """Return the pages of the documentation, which is drawn by Swagger UI, by path."""
    swagger = files(fastapi_offline) / "static"
    page = _DOCS_PAGE.encode()
    return {
        DOCS: _page(_HTML, page, _policy(page, "script-src 'self'", "style-src 'self'")),
        _SCRIPT: _page(b"text/javascript; charset=utf-8", (swagger / "swagger-ui-bundle.js").read_bytes(), b""),
        _STYLE: _page(b"text/css; charset=utf-8", (swagger / "swagger-ui.css").read_bytes(), b""),
    }


def ui_page(model: TextClassifier, tokens: bool) -> dict[str, Handler]:
    """Return the page on which people try a model, by path; `tokens` says whether callers need one."""
    settings = {
        "model": model.name,
        "version": model.version,
        "labels": list(model.answering.labels),
        "verb": model.names.verb,
        "field": model.names.field,
        "score": model.names.score if model.answering.ordinal else None,
        "jobs": model.jobs.on,
        "feedback": model.log is not None,
        "tokens": tokens,
    }
    # No text can end the block of data that holds them.
    written = json.dumps(settings, ensure_ascii=True).replace("<", "\\u003c")
    source = (files(__package__) / "ui.html").read_text(encoding="utf-8")
    page = source.replace("{{settings}}", written).encode()
    return {UI: _page(_HTML, page, _policy(page, "script-src", "style-src"))}


def _page(kind: bytes, body: bytes, policy: bytes) -> Handler:
    cached = _FRESH if policy else _KEPT
    headers = ((b"content-type", kind), cached, *_SAFE, *(((b"content-security-policy", policy),) if policy else ()))
    answer = Answer(body, headers)

    async def show(_: Asked) -> Answer:
        return answer

    return show


def _policy(page: bytes, script: str, style: str) -> bytes:
    """Return a Content-Security-Policy: a page's own inline scripts and styles, by their hashes, and no others."""
    scripts = " ".join(_hashes(page, rb"<script>(.*?)</script>"))
    styles = " ".join(_hashes(page, rb"<style>(.*?)</style>"))
    return (
        f"default-src 'none'; connect-src 'self'; img-src 'self' data:; {script} {scripts}; {style} {styles}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ).encode()


def _hashes(page: bytes, element: bytes) -> list[str]:
    found = re.findall(element, page, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'" for content in found]
