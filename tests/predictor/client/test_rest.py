"""REST: what is sent, and what each answer means."""

import pytest

from predictor.client import Answers, Server, ask
from predictor.errors import InputError, Unavailable
from tests.fakes.predictor import Fake, serving


@pytest.mark.parametrize(("protocol", "path"), [("v1", "/v1/models/toy:predict"), ("v2", "/v2/models/toy/infer")])
def test_both_versions_of_the_protocol_give_the_same_answers(protocol: str, path: str) -> None:
    made = Fake()
    with serving(made) as url:
        assert list(ask(Server.at(protocol, f"{url}/", "toy"), ["a", "ü"])) == [Answers(["A", "Ü"], [0.5, 0.5], "1")]
    assert made.paths == [path] and made.asked == [["a", "ü"]]


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        ((400, {}, '{"error": "text 3 is bad"}'), InputError, r"400 \(text 3 is bad\): check the URL, the model"),
        ((400, {}, '{"error": "text 7 is empty", "empty": [7]}'), Unavailable, "this is no predictor of ours"),
        ((400, {}, '{"error": "text 7 is empty", "empty": 7}'), InputError, "text 7 is empty"),
        ((404, {}, "<html>\nnone</html>"), InputError, r"404 \(<html> none</html>\)"),
        ((500, {}, '{"error": "broken"}'), Unavailable, r"500 \(broken\): look at the server's log"),
        ((200, {}, "<html>"), Unavailable, "not with predictions"),
        ((200, {}, '{"outputs": []}'), Unavailable, "not with predictions"),
        ((200, {}, '{"outputs": [{"name": "label", "data": []}, {"name": "confidence", "data": []}]}'),
         Unavailable, "1 texts got 0 answers"),
    ],
)  # fmt: skip
def test_other_answers_end_it_at_once(
    fake: tuple[Fake, Server], answer: tuple[int, dict[str, str], str], error: type[Exception], sentence: str
) -> None:
    made, server = fake
    made.answers = [answer]
    with pytest.raises(error, match=sentence):
        list(ask(server, ["a"]))
    assert len(made.asked) == 1
