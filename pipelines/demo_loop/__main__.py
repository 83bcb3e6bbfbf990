"""The demo: `python -m pipelines.demo_loop FOLDER`."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

from pipelines.demo_loop.rows import News, Texts, read_news
from pipelines.demo_loop.services import MODEL, PIGEONHOLE, Services, check_programs, wait_until
from pipelines.running.stopping import no_orphans, signals_stop_children
from predictor.errors import PigeonholeError, Unavailable

_TRAINING = {"name": "sections", "min_accuracy": "0.8", "max_length": "64", "hyperparameters": '{"epochs": 2}'}
"""So little that it takes a minute or two."""
_AT_ONCE = 10
_RUN_SECONDS, _ALERT_SECONDS = 1800.0, 300.0


class Timeline:
    """What happened, and when; each line is printed as it comes."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._lines: list[str] = []

    def say(self, what: str) -> None:
        """Add a line."""
        seconds = int(time.monotonic() - self._started)
        self._lines.append(f"  {seconds // 60:>2}:{seconds % 60:02}  {what}")
        print(self._lines[-1], flush=True)

    def show(self) -> None:
        """Print all lines again, without what the programs said between them."""
        print("\n== The timeline (minutes and seconds)\n\n" + "\n".join(self._lines), flush=True)


def main(folder: Path = Path("demo-loop")) -> int:
    """Run the demo and return the exit code: 0 if the loop closed, and a run without a shift triggered nothing."""
    try:
        check_programs()
        with signals_stop_children(), no_orphans():
            return _demo(folder.resolve())
    except PigeonholeError as error:
        print(f"demo-loop: {error}", file=sys.stderr)
        return 3


def _demo(folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    news, line, results = read_news(), Timeline(), folder / "results"
    news.write(folder / "data")
    line.say(f"training on {len(news.splits['train'])} rows of the usual mix: business and world, in two sections")
    trained = _train(folder / "data", results)
    line.say(f"a model of {trained['accuracy']:.1%} on its test rows: {trained['bundle']}")
    shutil.copytree(results, folder / "unshifted")  # for the second run, which starts from the same model
    closed = _shifted(news, line, Services(folder / "shift", results, _parameters()), Path(trained["bundle"]))
    calm = _calm(news, line, Services(folder / "calm", folder / "unshifted", _parameters()), Path(trained["bundle"]))
    line.show()
    return 0 if closed and calm else 1


def _shifted(news: News, line: Timeline, services: Services, bundle: Path) -> bool:
    try:
        services.start(bundle)
        line.say("first run: server, Prometheus, Alertmanager and trigger are up")
        _quiet(news, line, services, bundle)
        before = _wave(news.waves[0], line, services, "sport and science come, too")
        verdict = services.watch(bundle)
        line.say(f"drift index {verdict['drift']:.2f}: {'; '.join(verdict['reasons'])}")
        wait_until(services.firing, _ALERT_SECONDS, "an alert")
        line.say(f"Prometheus fires: {_listed(services.firing())}")
        wait_until(services.runs, _ALERT_SECONDS, "a call of the trigger")
        line.say("Alertmanager called the trigger, which started a round")
        run = _ended(services)
        training = run["detail"].get("training", {})
        line.say(f"the round's answer is {run['answer']}: {run['detail'].get('new_rows', 0):.0f} new labelled rows")
        if training.get("state") != "passed":
            line.say(f"the training did not pass: {run['detail']}")
            return False
        result = training["result"]
        line.say(f"trained again, the gate passed: {next(r for r in result['reasons'] if 'champion' in r)}")
        bundle = Path(result["bundle"])
        services.serve(bundle)
        line.say(f"the new bundle is served: {bundle}")
        after = _wave(news.waves[1], line, services, "the shifted traffic goes on")
        verdict = services.watch(bundle)
        line.say(f"drift index {verdict['drift']:.2f} against the new reference")
        wait_until(lambda: "retrain" not in services.firing().values(), _ALERT_SECONDS, "the end of the alert")
        names = [name for name, response in services.firing().items() if response == "label"]
        line.say("the alerts that ask to retrain have resolved" + (f"; {_listed(names)} goes on" if names else ""))
        line.say(f"accuracy on the shifted traffic rose from {before:.1%} to {after:.1%}")
        line.say(f"runs that the trigger started: {len(services.runs())}")
        return after > before and len(services.runs()) == 1
    finally:
        services.stop()


def _calm(news: News, line: Timeline, services: Services, bundle: Path) -> bool:
    try:
        services.start(bundle)
        line.say("second run: the same model and programs, and no shift")
        _quiet(news, line, services, bundle)
        time.sleep(15)  # five times as long as an alert waits
        firing, runs = services.firing(), services.runs()
        line.say(f"no shift: {len(firing)} alerts fire, and the trigger started {len(runs)} runs")
        return not firing and not runs
    finally:
        services.stop()


def _quiet(news: News, line: Timeline, services: Services, bundle: Path) -> None:
    accuracy = _send(services, news.quiet)
    verdict = services.watch(bundle)
    line.say(
        f"{len(news.quiet)} texts of the usual mix: {accuracy:.1%} are right, drift index {verdict['drift']:.2f}, "
        f"{'drifted' if verdict['drifted'] else 'not drifted'}"
    )


def _wave(texts: Texts, line: Timeline, services: Services, what: str) -> float:
    accuracy = _send(services, texts)
    line.say(f"{what}: {len(texts)} texts, {accuracy:.1%} are right; their true labels come as feedback")
    return accuracy


def _send(services: Services, texts: Texts) -> float:
    """Send texts, then what people say of the answers; return the share of right ones."""
    rows, right = list(zip(texts.frame["text"], texts.frame["label"], strict=True)), 0
    with httpx.Client(base_url=services.url("server"), timeout=60) as client:
        for start in range(0, len(rows), _AT_ONCE):
            part, name = rows[start : start + _AT_ONCE], uuid.uuid4().hex
            tensor = {"name": "text", "datatype": "BYTES", "shape": [len(part)], "data": [text for text, _ in part]}
            answer = client.post(f"/v2/models/{MODEL}/infer", json={"id": name, "inputs": [tensor]}).raise_for_status()
            outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
            right += sum(given == label for given, (_, label) in zip(outputs["label"], part, strict=True))
            said = [{"id": f"{name}/{n}", "label": label, "source": "demo"} for n, (_, label) in enumerate(part)]
            client.post(f"/v1/models/{MODEL}:feedback", json={"feedback": said}).raise_for_status()
    time.sleep(3)  # until the log is written, which happens each second here
    return right / len(rows)


def _ended(services: Services) -> dict[str, Any]:
    wait_until(lambda: services.runs()[0]["state"] in ("done", "failed"), _RUN_SECONDS, "the end of the round")
    run = services.runs()[0]
    if run["state"] == "failed":
        raise Unavailable(f"the round failed ({run['detail'].get('error')}): {services.folder}/trigger.log says why")
    return run


def _train(data: Path, out: Path) -> dict[str, Any]:
    from components.monitoring.retraining import run_options

    options = run_options([f"{name}={value}" for name, value in _TRAINING.items()], data)
    command = [*PIGEONHOLE, "run", "--data", str(data), "--out", str(out), *options, "-o", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise Unavailable("the first training did not end with an open gate: its message is above")
    return dict(json.loads(done.stdout))


def _parameters() -> str:
    return json.dumps([f"{name}={value}" for name, value in _TRAINING.items()])


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    sys.exit(main(*map(Path, sys.argv[1:])))
