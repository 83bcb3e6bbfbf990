"""The program as a whole: its exit codes, its version, its completion, and what it imports for what."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from pipelines.cli.app import exit_after
from pipelines.cli.base.commands import Commands
from pipelines.cli.base.options import assigned
from pipelines.cli.training import _name_of
from predictor.errors import InputError, Overloaded, StepFailed, Unavailable
from tests.conftest import ROOT

_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def called(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> int:
    commands = Commands(add_completion=False)

    @commands.command()
    def only() -> None:
        if error:
            raise error

    monkeypatch.setattr(sys, "argv", ["pigeonhole"])
    with pytest.raises(SystemExit) as ended:
        exit_after(commands)
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (InputError("--out is a file: choose another"), 2, "pigeonhole: --out is a file: choose another\n"),
        (Unavailable("the server is away: try later"), 3, "pigeonhole: the server is away: try later\n"),
        (Overloaded("the queue is full", 1), 3, "pigeonhole: the queue is full\n"),
        (
            StepFailed("line 1\nline 2"), 3,
            "line 1\nline 2\npigeonhole: a step failed unexpectedly; the end of its log is above\n",
        ),
    ],
)  # fmt: skip
def test_an_error_is_a_sentence_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception | None, code: int, said: str
) -> None:
    assert called(monkeypatch, error) == code
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="nobody foresaw"):
        called(monkeypatch, RuntimeError("nobody foresaw"))


def pigeonhole(code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program after some code, and say at its end on stderr which packages it had imported."""
    program = f"""
import atexit, sys
atexit.register(lambda: print(*sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr))
from pipelines.cli.app import main, plugin
{code}
sys.argv[0] = "pigeonhole"
main()
"""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**_ENVIRONMENT, **variables})


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(done.stderr.splitlines()[-1].split())


def test_the_version_is_that_of_the_installed_package() -> None:
    done = pigeonhole("", "--version")
    assert (done.returncode, done.stdout) == (0, f"pigeonhole {metadata.version('pigeonhole')}\n")


def test_a_shell_completes_commands_and_options() -> None:
    for line, completed in (("pigeonhole roll", "rollout"), ("pigeonhole rollout status --wa", "--watch")):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        done = pigeonhole("", _PIGEONHOLE_COMPLETE="complete_bash", **words)
        assert done.returncode == 0 and done.stdout.split() == [completed], done.stderr


def test_help_imports_no_library_but_typer() -> None:
    done = pigeonhole("", "--help")
    assert done.returncode == 0 and "rollout" in done.stdout
    libraries = {"kfp", "torch", "scipy", "mlflow", "pandas", "numpy", "kubernetes", "httpx", "kserve", "rich"}
    assert not imported(done) & libraries


def test_predict_imports_no_library_of_the_pipelines() -> None:
    done = pigeonhole("", "predict", " ")  # a blank text, which is refused before a server is asked
    assert done.returncode == 2 and "text 1 has no words" in done.stderr, done.stderr
    assert not imported(done) & {"kfp", "torch", "scipy", "mlflow", "pandas", "numpy", "kubernetes", "kserve"}


def test_rollout_status_imports_no_library_of_training() -> None:
    code = """
from components.platform import kubernetes
from tests.pipelines.cli.test_rollout_status import rolling_out
kubernetes.connect = lambda namespace: rolling_out()
main = plugin
"""
    done = pigeonhole(code, "status", "news")
    assert done.returncode == 0 and '"phase": "judging"' in done.stdout, done.stderr
    assert not imported(done) & {"kfp", "torch", "scipy", "mlflow", "numpy", "fsspec", "httpx", "kserve"}


def test_assignments_are_read_and_mistakes_in_them_named() -> None:
    assert assigned(["text=body", "label=a=b"], "--column") == {"text": "body", "label": "a=b"}
    assert assigned(None, "--column") == {}
    for wrong, sentence in ((["text"], "is no assignment"), (["a=b", "a=c"], "--column a is given twice")):
        with pytest.raises(InputError, match=sentence):
            assigned(wrong, "--column")


def test_the_default_name_has_no_secret_of_the_address() -> None:
    assert _name_of("https://ann:pw@host/My_News.csv.gz?sig=x") == "my-news"
    assert _name_of("named:ag_news") == "ag-news"
    assert _name_of("sql:postgresql://ann:pw@host/desk") == "desk"
    assert _name_of("data/reviews v1.2") == "reviews-v1-2"
