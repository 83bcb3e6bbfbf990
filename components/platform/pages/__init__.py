"""HTML pages for people: one style, no script, nothing fetched from elsewhere, all text escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape


def page_environment(folder: Path) -> Environment:
    """Return the environment of templates in a folder, whose pages extend `page.html` and import `tables.html`."""
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment
