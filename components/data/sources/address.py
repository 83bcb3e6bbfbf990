"""Addresses without what is secret in them."""

import re
from urllib.parse import unquote

_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_QUERY = re.compile(r"(?<=://)([^\s?#'\"]*)[?#][^\s'\"]*")


def safe(address: str) -> str:
    """Return an address without user, password, query and fragment: signed URLs have their signature in the query."""
    return _QUERY.sub(r"\1", _USER.sub("", address))


def masked(text: object, address: str) -> str:
    """Return the text of an error without what is secret in the address, whether the address is quoted in it or not."""
    user = _USER.search(address)
    _, _, password = user[0][:-1].partition(":") if user else ("", "", "")
    query = address.partition("?")[2] if "://" in address else ""
    words = str(text)
    for secret in filter(None, (password, unquote(password), query, unquote(query))):
        words = words.replace(secret, "***")
    return safe(words)
