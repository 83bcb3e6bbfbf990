"""Addresses of pages: which is which, and what of one may be written down."""

import hashlib
import re
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from w3lib.url import canonicalize_url, safe_url_string

LONGEST = 2_000
"""Characters of an address; longer ones are mostly made by a page that links to itself."""
# Parameters that identify a visitor or let somebody in, rather than name a page.
_SECRET = re.compile(
    r"(?:^|[_.-])(?:(?:access|auth|id|refresh|csrf|xsrf)?_?token|api_?key|key|secret|client_?secret|pass|passw(?:or)?d|pwd|auth"
    r"|authorization|credentials?|sig|signature|session|session_?id|sid|php_?sess_?id|jsessionid|jwt)$",
    re.IGNORECASE,
)
_SESSION_IN_PATH = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/;?]*", re.IGNORECASE)


def absolute(base: str, link: str) -> str | None:
    """Return a link of a page as an address that can be asked for, or None if it is none of HTTP.

    Users, passwords and fragments are dropped: no page is named by them.
    """
    try:
        parts = urlsplit(safe_url_string(urljoin(base, link.strip())))
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    host = host.rstrip(".")
    place = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, f"{place}:{port}" if port else place, parts.path or "/", parts.query, ""))


def without_secrets(url: str) -> str:
    """Return an address as it may be written down: no user, no password, no parameter that is a secret or a session.

    Two addresses of which this is the same are one page: a site that gives each visit a number does not go on for ever.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    named = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in named if not _SECRET.search(name)]
    query = parts.query if len(kept) == len(named) else urlencode(kept, quote_via=quote)
    path = _SESSION_IN_PATH.sub("", parts.path)
    return str(canonicalize_url(urlunsplit((parts.scheme, host, path, query, ""))))


def page_id(source: str) -> str:
    """Return the id of a row: the SHA-256 of its address without secrets, 32 hexadecimal digits of it."""
    return hashlib.sha256(source.encode()).hexdigest()[:32]
