"""The commands of a served model: serve and predict."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.base.options import FormatOption, Switch
from pipelines.cli.base.output import show
from predictor.errors import InputError
from predictor.serving.prediction_log.redaction import Redaction


def serve(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    http_port: Annotated[
        int, typer.Option(envvar="PIGEONHOLE_HTTP_PORT", min=1, max=65535, help="V1, V2, /metrics.")
    ] = 8080,
    grpc_port: Annotated[int, typer.Option(envvar="PIGEONHOLE_GRPC_PORT", min=1, max=65535, help="V2 gRPC.")] = 8081,
    model_name: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_NAME", help="Name in the endpoints' paths.")
    ] = "classifier",
    revision: Annotated[
        str,
        typer.Option(
            envvar=["PIGEONHOLE_REVISION", "K_REVISION"],
            help="Label on the metrics that tells a canary from the stable version.  [default: the bundle's digest]",
        ),
    ] = "",
    precision: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_PRECISION", help="int8, fp32 or torch.  [default: what the bundle chose]")
    ] = "",
    cascade: Annotated[
        Switch,
        typer.Option(
            envvar="PIGEONHOLE_CASCADE",
            help="Whether the linear model of a bundle that has one answers the texts it is sure of.",
        ),
    ] = Switch.ON,
    queue_tokens: Annotated[
        int,
        typer.Option(
            envvar="PIGEONHOLE_QUEUE_TOKENS",
            min=1024,
            help="Tokens that may wait, some seconds' work; beyond it requests get a 429 and Retry-After.",
        ),
    ] = 131_072,
    timeout: Annotated[
        float,
        typer.Option(
            envvar="PIGEONHOLE_TIMEOUT", min=0.001, help="Seconds after which a request is given up with a 504."
        ),
    ] = 30.0,
    cache_entries: Annotated[
        int,
        typer.Option(
            envvar="PIGEONHOLE_CACHE_ENTRIES", min=0, help="Answers to keep for texts asked again; 0 for none."
        ),
    ] = 10_000,
    body_bytes: Annotated[
        int,
        typer.Option(
            envvar="PIGEONHOLE_BODY_BYTES", min=1024, help="The longest body or gRPC message; beyond it a 413."
        ),
    ] = 8_388_608,
    log_url: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_LOG_URL",
            help="Folder or fsspec URI of the prediction log, which feedback goes to as well.  [default: no log]",
        ),
    ] = "",
    log_sample: Annotated[
        float,
        typer.Option(
            envvar="PIGEONHOLE_LOG_SAMPLE",
            min=0,
            max=1,
            help="Share of the requests that is logged, chosen by their ids.",
        ),
    ] = 1.0,
    log_redact: Annotated[
        Redaction,
        typer.Option(
            envvar="PIGEONHOLE_LOG_REDACT",
            help="mask: without e-mail addresses and numbers of four digits; text: without texts.",
        ),
    ] = Redaction.NONE,
    log_interval: Annotated[
        float,
        typer.Option(
            envvar="PIGEONHOLE_LOG_INTERVAL", min=0.1, help="Seconds between two parts of the log: what a kill loses."
        ),
    ] = 10.0,
    redis_url: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_REDIS_URL",
            help="redis://, rediss:// or unix://, for asynchronous jobs and a cache of all replicas.  [default: none]",
        ),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PIGEONHOLE_TOKEN_FILE",
            help="Bearer tokens, one a line, of which callers with texts or labels need one; read when it changes.",
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PIGEONHOLE_CORS_ORIGINS",
            help="Origin of pages whose scripts may ask, such as https://app.example.com; * for all; repeatable.",
        ),
    ] = None,
    ui: Annotated[
        bool, typer.Option("--ui", envvar="PIGEONHOLE_UI", help="Show a web page at /ui on which people try the model.")
    ] = False,
) -> None:
    """Serve a model bundle.

    Over the KServe protocols V1, V2 REST and V2 gRPC, and plain REST, with /metrics, and /docs for all that HTTP takes.

    Examples:
      pigeonhole serve out/bundles/0123456789ab
      pigeonhole serve out/bundles/0123456789ab --log-url predictions --log-sample 0.1
      pigeonhole serve out/bundles/0123456789ab --ui --token-file tokens
      curl localhost:8080/v1/models/classifier:predict -d '{"instances": ["Stocks fell on Monday."]}'
    """
    from predictor.serving.http.access import Access
    from predictor.serving.prediction_log.log import LogSettings
    from predictor.serving.scheduler import Limits
    from predictor.serving.server import serve as start
    from predictor.tokens import TokenFile

    access = Access.of(TokenFile(token_file) if token_file else None, cors_origin or (), ui)
    limits = Limits(queue_tokens, timeout, cache_entries, body_bytes)
    log = LogSettings(log_url, log_sample, log_redact, log_interval) if log_url else None
    on = cascade is Switch.ON
    start(bundle, model_name, http_port, grpc_port, limits, revision, precision, on, log, redis_url, access)


def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="The texts.", metavar="[TEXT]...")] = None,
    url: Annotated[
        str,
        typer.Option(
            envvar="PIGEONHOLE_URL", help="The server.  [default: http://localhost:8080, :8081 for gRPC, as for serve]"
        ),
    ] = "",
    model_name: Annotated[
        str, typer.Option(envvar="PIGEONHOLE_MODEL_NAME", help="Name in the endpoints' paths.")
    ] = "classifier",
    protocol: Annotated[str, typer.Option(envvar="PIGEONHOLE_PROTOCOL", help="v1, v2 or grpc.")] = "v2",
    input_: Annotated[
        Path | None, typer.Option("--input", help="A file of texts: .csv, .jsonl, .parquet, .txt, gzip too.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Where its rows go with their labels: .csv, .parquet, .jsonl.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="PIGEONHOLE_TOKEN_FILE", help="A file with the bearer token that the server wants."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say, too, which words speak for the label and which against it.")
    ] = False,
    format_: FormatOption = None,
) -> None:
    """Label texts with a model that is served.

    Asks a running predictor over V1, V2 REST or V2 gRPC, waits where it says that it is busy, and prints the labels.
    With --input and --output the rows of a file get the columns predicted_label and confidence. Exit code 3 means
    that the server is away or broken.

    Examples:
      pigeonhole predict "Shares fell 7 percent after the profit warning."
      pigeonhole predict --url http://localhost:8081 --protocol grpc "The keeper saved two penalties."
      pigeonhole predict --explain "Shares fell 7 percent after the profit warning."
      pigeonhole predict --input reviews.csv --output labelled.parquet --model-name sentiment
    """
    if bool(texts) == bool(input_) or bool(input_) != bool(output):
        raise InputError("there is not one source of texts: give texts, or --input FILE with --output FILE")
    from predictor.client import Server

    if explain and (input_ or protocol == "grpc"):
        given = "--input" if input_ else "--protocol grpc"
        raise InputError(f"--explain and {given} do not go together: give texts, which are asked over V1 REST")
    server = Server.at(protocol, url, model_name, token_file)
    if explain:
        from pipelines.running.explain_texts import explain_texts, highlighted

        show(explain_texts(server, texts or []), format_, highlighted)
        return
    if input_ and output:
        from pipelines.running.label_file import predict_file  # pandas takes a second to import

        result = predict_file(server, input_, output)
    else:
        from pipelines.running.label_texts import predict_texts

        result = predict_texts(server, texts or [])
    show(result, format_)
