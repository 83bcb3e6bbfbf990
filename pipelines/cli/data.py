"""The commands that get data and add to it: `pigeonhole data ...`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.base.commands import Commands
from pipelines.cli.base.options import FormatOption
from pipelines.cli.base.output import show
from pipelines.cli.data_append import append

app = Commands(
    help="Get texts to train on: crawl sites, add rows to a dataset, make more rows of classes that have few."
)
app.command()(append)
synthesize = Commands(help="Make rows of classes that have few, of the train rows of a prepared dataset.")
app.add_typer(synthesize, name="synthesize")

Prepared = Annotated[Path, typer.Argument(help="The prepared dataset, such as the folder data of a run.")]
Out = Annotated[Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for train.jsonl and synthetic.json.")]
Target = Annotated[
    int, typer.Option(min=0, help="Rows that each class is raised to.  [default: the median of the classes]")
]
Seed = Annotated[int, typer.Option(envvar="PIGEONHOLE_SEED", help="Fixes everything drawn at random.")]


@app.command()
def crawl(
    settings: Annotated[Path, typer.Argument(help="What is crawled and how, a YAML or JSON file.")],
    out: Annotated[Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for the rows, which --data reads.")],
    format_: FormatOption = None,
) -> None:
    """Collect the articles of web sites, politely.

    SETTINGS names start pages, domains, limits and how a page's label is told; docs/collecting.md lists all. Rows with
    a label go to train.jsonl, others to unlabelled.jsonl. A crawl that was stopped goes on with the same --out.

    Examples:
      pigeonhole data crawl crawl.yaml --out out/crawl
      pigeonhole run --data out/crawl --out out/news
    """
    from components.data.crawl.crawl import crawl as crawl_into

    show(crawl_into(settings, out, sys.stderr), format_)


@synthesize.command("rules")
def by_rules(
    dataset: Prepared,
    out: Out,
    target: Target = 0,
    rules: Annotated[
        str,
        typer.Option(help="Which, by commas: delete, swap, typo, drop, transpose, case, punctuation.  [default: all]"),
    ] = "",
    most: Annotated[int, typer.Option(min=1, help="Most rows that are made of one row.")] = 10,
    seed: Seed = 42,
    format_: FormatOption = None,
) -> None:
    """Change real rows a little: typing errors, words left out or moved, case, punctuation.

    Only train rows are read. Made rows are marked as synthetic, and no text of any split is among them.

    Examples:
      pigeonhole data synthesize rules out/news/data --target 500 --out out/more
      pigeonhole data synthesize rules out/news/data --rules typo,transpose,case --out out/more
    """
    from components.data.dataset import Dataset
    from components.data.synthesis.augment import augment
    from components.data.synthesis.rules import RULES

    names = tuple(name.strip() for name in rules.split(",")) if rules else tuple(RULES)
    show(augment(Dataset.load(dataset), out, target, names, most, seed), format_)


@synthesize.command("model")
def by_model(
    dataset: Prepared,
    out: Out,
    url: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_URL", help="Of an OpenAI-compatible API, up to and with /v1.")
    ],
    model: Annotated[str, typer.Option(envvar="PIGEONHOLE_MODEL", help="The model's name there.")],
    key: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_KEY", help="The API's key; better in the variable than on the line.")
    ] = "",
    key_file: Annotated[
        Path | None, typer.Option(envvar="PIGEONHOLE_MODEL_KEY_FILE", help="File with the key, in place of --key.")
    ] = None,
    target: Target = 0,
    examples: Annotated[
        int,
        typer.Option(min=0, help="Real texts that a question shows; with 0 no text of the data leaves this machine."),
    ] = 3,
    rows: Annotated[int, typer.Option(min=1, help="Rows that a question asks for.")] = 10,
    requests: Annotated[int, typer.Option(min=1, help="Most questions, over all starts with this --out.")] = 100,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens, as for --requests.")] = 200_000,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 4_000,
    timeout: Annotated[
        float, typer.Option(envvar="PIGEONHOLE_TIMEOUT", min=0.001, help="Seconds that an answer may take.")
    ] = 120.0,
    seed: Seed = 42,
    format_: FormatOption = None,
) -> None:
    r"""Let a language model write rows.

    Asks any server with OpenAI's chat completions (vLLM, Ollama, llama.cpp, a cloud) for texts of each class, drops
    copies and echoes of the examples, and stops at a budget. Answers are kept: a command that was stopped asks for
    none of them again.

    Examples:
      pigeonhole data synthesize model out/news/data --url http://localhost:11434/v1 --model qwen3 --out out/more
      pigeonhole data synthesize model out/news/data --url https://api.openai.com/v1 --model gpt-4.1-mini \
        --key-file key.txt --examples 0 --requests 50 --out out/more
    """
    from components.data.dataset import Dataset
    from components.data.synthesis.endpoint import Endpoint, read_key
    from components.data.synthesis.generate import Wish, generate

    endpoint = Endpoint(url, model, read_key(key_file) if key_file else key.strip(), timeout)
    wish = Wish(target, examples, rows, requests, tokens, answer_tokens, seed)
    show(generate(Dataset.load(dataset), out, endpoint, wish, lambda line: print(line, file=sys.stderr)), format_)
