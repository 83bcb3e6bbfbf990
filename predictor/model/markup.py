"""Removes HTML from texts, and keeps other uses of angle brackets: <PERSON>, List<String>, 1 < 2.

Every pattern stops at the next "<", so the time is linear in the length of the text.
"""

import re

# Elements that are often written without attributes, in any case, closed or not, and hardly ever mean anything else.
_USUAL = (
    "a b big blockquote body br center div em font h1 h2 h3 h4 h5 h6 head hr html i img li nobr ol p pre s small span "
    "strike strong sub sup table tbody td tfoot th thead tr tt u ul wbr"
)
# The other elements of the HTML standard, its obsolete ones, and the roots of SVG and MathML. Many are also names of
# placeholders and types ("<TIME>", "List<Object>").
_OTHERS = (
    "abbr acronym address applet area article aside audio base basefont bdi bdo bgsound blink button canvas caption "
    "cite code col colgroup data datalist dd del details dfn dialog dir dl dt embed fieldset figcaption figure footer "
    "form frame frameset header hgroup iframe input ins isindex kbd keygen label legend link listing main map mark "
    "marquee math menu menuitem meta meter nav noembed noframes noscript object optgroup option output param picture "
    "plaintext progress q rb rp rt rtc ruby samp script search section select selectedcontent slot source spacer style "
    "summary svg template textarea time title track var video xmp"
)
_USUAL_NAMES, _OTHER_NAMES = frozenset(_USUAL.split()), frozenset(_OTHERS.split())
# Attributes without a value. Other words after a name are not attributes unless there is an "=": "a <b and c> d".
_FLAGS = frozenset(("", "compact", "noshade", "nowrap", "reversed"))
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)((?:[\s/][^<>]*)?)>|<(?:!doctype|!DOCTYPE|\?xml)[^<>]*>")
_CLOSED = re.compile(r"</([a-zA-Z]+)\s*>")
# Starts of what a browser does not show.
_HIDDEN = re.compile(r"<(!--|(?:script|style|svg)(?=[\s/>]))", re.IGNORECASE)
_END = {
    "!--": re.compile("-->"),
    **{name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style", "svg")},
}


def without_markup(text: str) -> str:
    """Return the text with a space for each tag, comment, script, style sheet and drawing.

    A tag is one of the usual elements, or another HTML element that has an attribute, closes itself, or is closed
    somewhere in the text. Everything else in angle brackets is kept.
    """
    text = _without_hidden(text)
    closed = {name.lower() for name in _CLOSED.findall(text)}

    def replacement(tag: re.Match[str]) -> str:
        end, name, rest = tag.groups()
        if name is None:
            return " "
        name = name.lower()
        if "=" in rest or end:
            markup = name in _USUAL_NAMES or name in _OTHER_NAMES
        elif name in _USUAL_NAMES:
            markup = rest.strip("/ \t\r\n").lower() in _FLAGS
        else:
            markup = name in _OTHER_NAMES and (name in closed or rest.endswith("/"))
        return " " if markup else tag[0]

    return _TAG.sub(replacement, text)


def _without_hidden(text: str) -> str:
    """Drop what a browser does not show, unless it is never closed: then it may be text."""
    kept: list[str] = []
    unclosed: set[str] = set()
    at = 0
    for found in _HIDDEN.finditer(text):
        kind = found[1].lower()
        if found.start() < at or kind in unclosed:
            continue
        if end := _END[kind].search(text, found.end()):
            kept.append(text[at : found.start()])
            at = end.end()
        else:
            unclosed.add(kind)
    return " ".join([*kept, text[at:]])
