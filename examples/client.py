"""Label texts from Python: reads texts from stdin, one a line, and prints label, confidence and text.

pigeonhole serve out/mine/bundles/0123456789ab &
python examples/client.py < texts.txt
"""

import sys

from predictor.client import Server, ask


def main(url: str = "http://localhost:8080") -> None:
    """Ask the server at the URL for the texts, over V2 REST; `v1` and `grpc` work the same way."""
    texts = [line.strip() for line in sys.stdin if line.strip()]
    server = Server.at("v2", url, "classifier")
    asked = iter(texts)
    for answers in ask(server, texts):  # several batches are under way at a time; the answers come in order
        for label, confidence in zip(answers.labels, answers.confidences, strict=True):
            text = next(asked)
            print("no words" if label is None else f"{label}\t{confidence:.3f}", text, sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
