from pathlib import Path

import pytest

from components.platform.termination import FILE_VARIABLE, one_sentence
from predictor.errors import InputError, PigeonholeError, Unavailable


@pytest.mark.parametrize(("error", "code", "suffix"), [(InputError, 2, ""), (Unavailable, 3, ".unavailable")])
def test_a_step_ends_with_the_sentence_and_the_code_of_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[PigeonholeError], code: int, suffix: str
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "message"))
    with pytest.raises(SystemExit) as ended, one_sentence():
        raise error("what, where, what to do")
    assert ended.value.code == code
    assert (tmp_path / f"message{suffix}").read_text() == "what, where, what to do"
