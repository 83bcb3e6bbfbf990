"""The pages of a running server in a real browser: by keyboard, in two languages, on a phone, and alone."""

import csv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser import PATIENCE, Visit, needs_chromium, visiting
from tests.predictor.conftest import Server, serving
from tests.predictor.serving.prediction_log.test_server_log import read, until_stored

TEXT = "goal <b onclick=alert(1)>cup</b> 😀 <script>alert(1)</script> striker & co"
TOKEN = "secret"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def guarded(bundle: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All that the page can show: tokens, jobs and a prediction log."""
    work = tmp_path_factory.mktemp("server")
    (work / "tokens").write_text(TOKEN)
    log = ("--log-url", str(folder), "--log-interval", "0.1")
    options = ("--ui", "--token-file", str(work / "tokens"), "--timeout", "300", *log)
    with serving(bundle, work / "log", *options, program="tests.fakes.jobs") as server:
        yield server


@pytest.fixture(scope="module")
def plain(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(bundle, tmp_path_factory.mktemp("server") / "log", "--ui") as server:
        yield server


def table(place: Path, rows: list[list[str]]) -> Path:
    with place.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return place


def sound(visit: Visit) -> None:
    assert visit.violations() == []
    assert (visit.foreign, visit.complaints) == ([], [])
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#words b, #words script, #answer b").count() == 0


def classified(visit: Visit, text: str) -> None:
    visit.page.fill("#text", text)
    visit.page.click("#classify")
    visit.page.wait_for_selector("#bars li")


@needs_chromium
@pytest.mark.parametrize(
    ("locale", "width", "dark"),
    [("en-GB", 1200, False), ("en-GB", 390, True), ("zh-CN", 1200, True), ("zh-CN", 390, False)],
)
def test_all_of_the_page_in_both_languages_and_sizes(
    locale: str, width: int, dark: bool, guarded: Server, tmp_path: Path
) -> None:
    chinese = locale == "zh-CN"
    with visiting(f"{guarded.http}/ui", width, locale, dark) as visit:
        page = visit.page
        assert page.get_attribute("html", "lang") == ("zh-Hans" if chinese else "en")
        sound(visit)
        page.fill("#text", TEXT)
        page.click("#classify")
        page.wait_for_selector("#ask-error:not(:empty)")
        assert "bearer token is missing" in page.inner_text("#ask-error")
        page.fill("#token", TOKEN)
        classified(visit, TEXT)
        assert page.inner_text("#ask-error") == "" and "Sports" in page.inner_text("#answer")
        page.wait_for_selector("#words mark")
        assert "cup" in page.inner_text("#words .words") and "😀" in page.inner_text("#words .words")
        page.set_input_files("#file", table(tmp_path / "in.csv", [["id", "text"], ["1", 'goal, "cup"'], ["2", ""]]))
        page.click("#start")
        page.wait_for_selector("#download:not([hidden])")
        assert ("无法分类" if chinese else "1 of them could not be classified") in page.inner_text("#progress-said")
        with page.expect_download() as download:
            page.click("#download")
        with Path(download.value.path()).open(newline="", encoding="utf-8-sig") as stream:
            first, second = csv.DictReader(stream)
        assert (first["id"], first["text"], first["desk"]) == ("1", 'goal, "cup"', "Sports")
        assert second["desk"] == "" and "empty" in second["error"]
        sound(visit)
        page.screenshot(path=tmp_path / f"{locale}-{width}.png", full_page=True)
        page.click("#language")
        assert page.inner_text("#classify") == ("Classify" if chinese else "分类")
        assert "Sports" in page.inner_text("#answer")
        sound(visit)


@needs_chromium
def test_a_correction_is_feedback_on_the_answer(guarded: Server, folder: Path) -> None:
    with visiting(f"{guarded.http}/ui") as visit:
        visit.page.fill("#token", TOKEN)
        classified(visit, "a goal to be corrected")
        visit.page.select_option("#label", "World")
        visit.page.click("#correct button")
        visit.page.wait_for_selector("#correct-said.good")
        visit.page.reload()
        assert visit.page.input_value("#token") == TOKEN
        assert visit.page.evaluate("localStorage.length") == 0
    until_stored(guarded)
    (name,) = (name for name, row in read(folder).items() if row["text"] == "a goal to be corrected")
    assert (read(folder, "feedback")[name]["label"], read(folder, "feedback")[name]["source"]) == ("World", "ui")
    with visiting(f"{guarded.http}/ui") as visit:  # another tab knows no token
        assert visit.page.input_value("#token") == ""


@needs_chromium
def test_the_page_works_by_keyboard_alone(plain: Server) -> None:
    with visiting(f"{plain.http}/ui") as visit:
        keys = visit.page.keyboard
        keys.press("Tab")
        assert visit.page.evaluate("document.activeElement.id") == "language"
        keys.press("Tab")
        keys.type("goal cup striker")
        keys.press("Tab")
        keys.press("Enter")
        visit.page.wait_for_selector("#bars li")
        keys.press("Shift+Tab")
        keys.press("Control+A")
        keys.type("treaty rebels vote")
        keys.press("Control+Enter")
        expect(visit.page.locator("#answer")).to_contain_text("World", timeout=PATIENCE)
        assert visit.page.locator("#correct").is_hidden()  # there is no log to keep it in


@needs_chromium
def test_without_jobs_a_file_is_sent_in_portions(plain: Server, tmp_path: Path) -> None:
    rows = [["text"], *([f"goal cup {number}"] for number in range(150)), ["<p></p>"]]
    with visiting(f"{plain.http}/ui") as visit:
        assert visit.page.locator("#access").is_hidden()
        visit.page.set_input_files("#file", table(tmp_path / "in.csv", rows))
        visit.page.click("#start")
        visit.page.wait_for_selector("#download:not([hidden])")
        assert visit.page.inner_text("#progress-said").startswith("151 rows are done; 1 of")
        sound(visit)


@needs_chromium
def test_a_job_that_is_cancelled_leaves_the_page_as_it_was(guarded: Server, tmp_path: Path) -> None:
    with visiting(f"{guarded.http}/ui") as visit:
        page = visit.page
        page.fill("#token", TOKEN)
        page.set_input_files("#file", table(tmp_path / "in.csv", [["text"], ["goal"], ["hold"]]))
        page.click("#start")
        expect(page.locator("#progress")).not_to_have_js_property("value", 0, timeout=PATIENCE)
        sound(visit)
        page.click("#cancel")
        assert page.inner_text("#progress-said") == "Cancelled." and page.locator("#download").is_hidden()
        assert page.evaluate("document.activeElement.id") == "start"
        page.set_input_files("#file", table(tmp_path / "next.csv", [["text"], ["goal"]]))
        page.click("#start")
        page.wait_for_selector("#download:not([hidden])")


@needs_chromium
def test_files_of_other_encodings_and_separators_are_read(plain: Server, tmp_path: Path) -> None:
    with visiting(f"{plain.http}/ui") as visit:
        page, file = visit.page, tmp_path / "in.csv"
        for content, columns, rows in (
            ("编号;评论\n1;球\n".encode("gb18030"), ["编号", "评论"], 1),
            (b'\xef\xbb\xbftext\r\n"a\r\n""b"""\r\n\r\n""\r\nc', ["text"], 3),
            (b"a\tb\n1\t2\n", ["a", "b"], 1),
        ):
            file.write_bytes(content)
            page.set_input_files("#file", [])
            page.set_input_files("#file", file)
            expect(page.locator("#rows")).to_have_text(f"{rows} rows", timeout=PATIENCE)
            assert page.locator("#column option").all_inner_texts() == columns
        file.write_bytes(b"text\n")
        with page.expect_file_chooser() as chooser:  # as people choose it, the same file again
            page.click("#file")
        chooser.value.set_files(file)
        page.wait_for_selector("#batch-error:not(:empty)")
        assert page.locator("#columns").is_hidden()


@needs_chromium
def test_the_documentation_needs_no_other_server(guarded: Server) -> None:
    with visiting(f"{guarded.http}/docs") as visit:
        visit.page.wait_for_selector(".opblock")
        assert visit.page.get_by_text("/v1/sort/batch").count()
        visit.page.click(".opblock-summary-control >> nth=0")
        visit.page.wait_for_selector("text=Try it out")
        assert (visit.foreign, visit.complaints) == ([], [])


def test_pages_are_sent_with_a_policy_and_only_read(plain: Server, server: Server) -> None:
    for path in ("/ui", "/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"):
        got, head = httpx.get(plain.http + path), httpx.head(plain.http + path)
        assert got.status_code == head.status_code == 200 and got.content and not head.content
        assert got.headers["x-content-type-options"] == "nosniff"
        refused = httpx.post(plain.http + path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    for path in ("/ui", "/docs"):
        policy = httpx.get(plain.http + path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert httpx.get(f"{server.http}/ui").status_code == 404  # it is off by default
