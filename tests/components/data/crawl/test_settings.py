"""The settings of a crawl: what is refused, and in which words."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.data.crawl.settings import CrawlSettings, load_settings
from predictor.errors import InputError
from tests.conftest import ROOT

GOOD: dict[str, Any] = {"start": ["https://news.example/a"], "contact": "data@example.org"}


def loaded(folder: Path, **changes: Any) -> CrawlSettings:
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump({name: value for name, value in {**GOOD, **changes}.items() if value is not ...}))
    return load_settings(file)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"start": ...}, "look at start: Field required"),
        ({"start": []}, "look at start: Tuple should have at least 1 item"),
        ({"start": "https://news.example"}, "look at start: Input should be a valid array"),
        ({"start": ["news.example"]}, r"look at start.0: 'news.example' is no address: begin it with https://"),
        ({"start": ["file:///etc/passwd"]}, "is no address"),
        ({"start": ["http://[broken"]}, "look at start.0"),
        ({"start": ["https://me:pw@news.example"]}, r"look at start.0: a start URL holds a user or password"),
        ({"domains": ["other.example"]}, "the start URL https://news.example/a is in none of the domains"),
        ({"domains": ["https://news.example"]}, "is no host name: write it as in example.org"),
        ({"contact": ...}, "look at contact: Field required"),
        ({"contact": "me, at home"}, "look at contact"),
        ({"contact": "a@b.org\r\nX-Header: 1"}, "look at contact"),
        ({"delay": -1}, "look at delay: Input should be greater than or equal to 0"),
        ({"delay": float("nan")}, "look at delay"),
        ({"pages": 0}, "look at pages"),
        ({"page_bytes": 10**12}, "look at page_bytes"),
        ({"robots": False}, "look at robots: Extra inputs are not permitted"),
        ({"follow": {"allow": ["("]}}, r"look at follow.allow.0: '\(' is no regular expression"),
        ({"labels": [{"label": "A"}]}, "look at labels.0: a label rule has exactly one of url, css, xpath and meta"),
        ({"labels": [{"url": "/a", "css": "b"}]}, "exactly one of"),
        ({"labels": [{"url": "/a"}]}, "a rule by url has either a label, or a group"),
        ({"labels": [{"css": "b", "label": "A"}]}, "a rule by css takes the label from the page"),
        ({"labels": [{"css": "b", "names": {"x": 1}}]}, r"look at labels.0.names.x: Input should be a valid string"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_in_one_sentence(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=reason) as error:
        loaded(tmp_path, **changes)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{tmp_path / 'settings.yaml'} ")


@pytest.mark.parametrize(
    "content", [b"", b"- a\n", b"a: [", b"\xff\xfe", b"a: !!python/object/apply:os.system ['true']"]
)
def test_a_file_that_holds_no_settings_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"settings.yaml (cannot be read|is no list of settings)"):
        load_settings(tmp_path / "settings.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")


def test_without_domains_the_hosts_of_the_start_pages_are_meant_and_no_others(tmp_path: Path) -> None:
    own = loaded(tmp_path)
    assert own.allows("news.example") and not own.allows("www.news.example") and not own.allows("news.example.evil.org")
    named = loaded(tmp_path, domains=["Example", "news.example"])
    assert named.allows("news.example") and named.allows("a.b.example") and not named.allows("badexample")


def test_caps_may_change_between_two_starts_and_rules_may_not(tmp_path: Path) -> None:
    before = loaded(tmp_path).model_dump_json()
    assert loaded(tmp_path, pages=5, delay=0.5, total_bytes=2048, timeout=3, contact="b@c.org").changed(before) == []
    assert loaded(tmp_path, labels=[{"meta": "a"}], keep=["/b"]).changed(before) == ["keep", "labels"]


def test_the_documents_list_each_setting_with_its_default() -> None:
    table = re.findall(r"^\| `(\w+)` \| (.*?) \|", (ROOT / "docs/collecting.md").read_text(), re.MULTILINE)
    written = {name: cell for name, cell in table if name in CrawlSettings.model_fields}

    assert set(written) == set(CrawlSettings.model_fields)
    for name, field in CrawlSettings.model_fields.items():
        if isinstance(field.default, int | float):
            assert float(written[name].replace(",", "")) == field.default, name
