"""Serving, ours against existing servers: the same weights, texts and clients in one run.

    make bench-serve                                        # a bundle of the sample, texts of the sample
    make bench-serve DATA=path/to/folder BUNDLE=path/to/bundle
    make bench-serve PEERS=mlserver,infinity ROUNDS=1 SECONDS=3
    make bench-serve URL=http://localhost:8080/v2/models/classifier/infer

A bundle with a cascade is served twice, without and with it. Each round starts each server afresh, one after the other,
and puts it through the same phases: warm-up, 1 client, 32 clients, a fixed rate, 64 texts a call, 256 clients. Figures
are medians over the rounds, ratios medians of the ratios within a round. Clients run in another process on the same
cores. Our server keeps no answers here: each text is computed each time, as in the peers.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from components.data.collect import collect_frames
from components.data.prepare import prepare
from predictor.model.bundle import Bundle
from predictor.model.cpus import available_cpus
from predictor.model.text import Encoder
from tests.benchmarks.machine import has_vnni
from tests.benchmarks.serving.answers import alone_and_mixed
from tests.benchmarks.serving.bare import Bare, int8_peak, run_bare
from tests.benchmarks.serving.peers import PEERS, weights_for_peers
from tests.benchmarks.serving.rounds import (
    CALL,
    SCRATCH,
    Measured,
    Peer,
    Send,
    Texts,
    best_setting,
    client,
    lone,
    measure,
    served,
)
from tests.benchmarks.serving.rows import (
    VNNI,
    WITHOUT_VNNI,
    against_bare,
    against_peers,
    by_itself,
    one_client,
    with_cascade,
)
from tests.benchmarks.serving.servers import (
    MODEL,
    OURS,
    WITHOUT_CASCADE,
    Running,
    Server,
    Setting,
    Unavailable,
    elsewhere,
)
from tests.benchmarks.table import publish, row
from tests.benchmarks.work import Shape

SEED = 42
LONE = 200
"""Texts of the single client."""
PASSES = 7
"""Of these texts, through the server and through the bare engine."""
ANSWERS = "our answer cache is off (--cache-entries 0)"


def texts_of(source: str) -> Texts:
    """Return the test rows of a data source, cleaned by nobody."""
    rows = prepare(collect_frames(source), SEED).test.texts
    return Texts(rows, rows[:: max(1, len(rows) // LONE)])


def bundle_at(folder: str) -> Path:
    """Return the bundle that was named, or train one on the sample: the weights do not change the speed."""
    if folder:
        return Bundle.open(Path(folder)).path
    out = SCRATCH / "trained"
    print(f"training a bundle on the sample into {out}", flush=True)
    command = [sys.executable, "-m", "pipelines.cli", "run", "--data", "sample", "--out", str(out)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return Path(json.loads(said)["bundle"])


def ours(bundle: Path, server: Server = OURS) -> Peer:
    """Return our server; it chooses its threads by itself."""
    return Peer(server, Path(sys.executable), bundle, Setting(threads=1))


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default="sample", help="as for pigeonhole run; its test rows are asked")
    parser.add_argument("--bundle", default="", help="a bundle; empty: one is trained on the sample")
    parser.add_argument("--peers", default=",".join(PEERS), help="those to compare with, or none")
    parser.add_argument("--url", default="", help="a server that runs already: the address of V1, V2 or TEI")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of a phase")
    asked = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    texts = texts_of(asked.data)
    bundle = bundle_at(asked.bundle)
    goals = VNNI if has_vnni() else WITHOUT_VNNI
    with client() as send:
        peers, missing = _peers(send, asked.peers, bundle, texts, asked.seconds)
        mine = [ours(bundle, WITHOUT_CASCADE)]
        if Bundle.open(bundle).spec.cascade:
            mine.append(ours(bundle))
        rounds, bares, peak = _rounds(send, [*mine, *peers], asked.url, bundle, texts, asked)
        with served(mine[0]) as running:
            print(f"{len(texts.lone)} texts one by one, {PASSES} times, with and without the server", flush=True)
            singles = lone(send, running, bundle, texts.lone, PASSES)
        mixed = []
        for peer in mine:
            with served(peer) as running:
                print(f"each of {len(texts.all):,} texts alone and in mixed calls, {peer.server.name}", flush=True)
                changed, moved = alone_and_mixed(send, running.host, running.port, MODEL, texts.all)
            of = f"of {len(texts.all):,}, {peer.server.name}"
            mixed.append(row("labels that change in mixed calls", of, changed, goal=0, at_most=True))
            mixed.append(row("most any probability moves in mixed calls", of, moved, goal=0.01, at_most=True))
    alone, *pair = (rounds.pop(peer.name) for peer in mine)
    rows = against_peers(rounds, alone, goals) + one_client(singles)
    rows += against_bare(alone, bares, peak, Shape.of(bundle), _lengths(bundle, texts), goals) + by_itself(alone)
    for measured in pair:
        rows += with_cascade(rounds, measured, goals)
    publish("serve", rows + mixed)
    print(f"{ANSWERS}; {available_cpus()} cores for server, engine and client together")
    for name, reason in missing.items():
        print(f"not measured: {name}: {reason}")


def _peers(send: Send, names: str, bundle: Path, texts: Texts, seconds: float) -> tuple[list[Peer], dict[str, str]]:
    """Return the peers that can run here, and why the others cannot."""
    found, missing = [], {}
    keys = [name for name in names.split(",") if name and name != "none"]
    if not keys:
        return [], {}
    weights = weights_for_peers(bundle, SCRATCH / "weights")
    for key in keys:
        if key not in PEERS:
            sys.exit(f"there is no peer '{key}': name some of {', '.join(PEERS)}, or none")
        try:
            found.append(best_setting(send, key, PEERS[key], weights, texts, seconds / 2))
        except Unavailable as error:
            missing[PEERS[key].name] = str(error)
    return found, missing


def _rounds(
    send: Send, servers: list[Peer], url: str, bundle: Path, texts: Texts, asked: argparse.Namespace
) -> tuple[dict[str, list[Measured]], list[Bare], float]:
    rounds: dict[str, list[Measured]] = {}
    bares, peaks = [], []

    def note(name: str, running: Running) -> None:
        got = measure(send, running, texts, asked.seconds)
        rounds.setdefault(name, []).append(got)
        calls = f", {CALL * got.calls.rate:7.1f} texts/s in calls of 64" if got.calls else ""
        print(f"  {got.many.rate:7.1f} requests/s with 32 clients{calls}  {name} {got.errors or ''}", flush=True)

    for number in range(asked.rounds):
        print(f"round {number + 1} of {asked.rounds}", flush=True)
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            peaks.append(process.submit(int8_peak).result())
            bares.append(process.submit(run_bare, bundle, texts.all, asked.seconds).result())
        print(f"  {bares[-1].ids_ready:7.1f} texts/s in the bare engine, {bares[-1].tokenising:.1f} with tokenising")
        for peer in servers:
            with served(peer) as running:
                note(peer.name, running)
        if url:
            note(url, elsewhere(url))
    return rounds, bares, max(peaks)


def _lengths(bundle: Path, texts: Texts) -> list[int]:
    spec = Bundle.open(bundle).spec
    return [len(ids) for ids in Encoder(bundle, spec.max_length, spec.cleaning)(texts.all)]


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
