"""A client for a served classifier: texts in, labels out, the same over V1 REST, V2 REST and V2 gRPC.

    from predictor.client import Server, ask

    server = Server.at("v2", "http://localhost:8080", "classifier")
    for answers in ask(server, ["Shares fell 7 percent.", "The keeper saved two penalties."]):
        print(answers.labels, answers.confidences, answers.version)

`ask` sends a few batches at a time and waits where the server says that it is busy. It raises
`predictor.errors.InputError` where the server refuses a request and `predictor.errors.Unavailable` where the server is
away or broken. `Answers.joined(ask(...))` gives the answers to all texts at once.

It needs httpx, and grpcio and protobuf for gRPC.
"""

from predictor.client.client import ask
from predictor.client.server import PROTOCOLS, Answers, Server

__all__ = ["PROTOCOLS", "Answers", "Server", "ask"]
