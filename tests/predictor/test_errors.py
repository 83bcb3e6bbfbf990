"""What an error quotes of another one."""

from predictor.errors import one_line


def test_a_text_of_several_lines_is_quoted_on_one() -> None:
    assert one_line("no such file:\n\t 'a'\r\n") == "no such file: 'a'"
    assert one_line(KeyError("label")) == "'label'"


def test_of_a_long_text_the_beginning_is_quoted() -> None:
    assert one_line("word " * 100) == ("word " * 40)[:200]
    assert len(one_line("x" * 1000, most=300)) == 300
