"""Versions out of use: never the champion, and no bundle that anybody needs."""

from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from components.registry.promotion import challenge, promote
from components.registry.retire import delete_bundle, retire
from components.registry.versions import Version, version_named
from predictor.errors import InputError
from tests.components.registry.registered import add, aliases, bundle


def named(client: MlflowClient, number: int) -> Version:
    return version_named(client, "toy", str(number))


def test_a_retired_version_is_no_challenger_and_keeps_its_bundle(client: MlflowClient, tmp_path: Path) -> None:
    place = bundle(tmp_path, number=1)
    add(client)
    add(client, uri=place)
    challenge(client, "toy")
    retire(client, named(client, 2))
    assert aliases(client) == {} and named(client, 2).retired  # the one before is not taken for a new one
    assert (Path(place) / "serving.json").exists()
    add(client)
    assert challenge(client, "toy") == 3
    retire(client, named(client, 1))
    assert aliases(client) == {"challenger": 3}


def test_the_champion_is_not_retired_even_if_it_became_so_at_this_moment(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client)
    seen, tag = named(client, 1), MlflowClient.set_model_version_tag

    def meanwhile(self: MlflowClient, *given: Any) -> None:
        monkeypatch.undo()
        promote(client, "toy", 1, 10.0, "service a/news")
        tag(self, *given)

    monkeypatch.setattr(MlflowClient, "set_model_version_tag", meanwhile)
    for version in (seen, named(client, 1)):
        with pytest.raises(InputError, match="version 1 of toy is @champion: promote another one first"):
            retire(client, version)
    assert not named(client, 1).retired and aliases(client) == {"champion": 1}


def test_a_bundle_in_use_stays(client: MlflowClient, tmp_path: Path) -> None:
    shared, serving, free = (bundle(tmp_path, number=number) for number in range(3))
    for place in (serving, shared, shared, free):
        add(client, uri=place)
    promote(client, "toy", 1, 10.0, "service team-a/staging")
    promote(client, "toy", 4, 20.0, "service team-a/news")
    for number, reason in (
        (1, "service team-a/staging was last promoted to version 1"),
        (2, "version 3 has the same bundle"),
        (4, "version 4 is @champion"),
    ):
        with pytest.raises(InputError, match=f"the bundle of version {number} stays, since {reason}"):
            delete_bundle(client, named(client, number))
    promote(client, "toy", 4, 30.0, "service team-a/staging")
    delete_bundle(client, named(client, 1))
    assert not Path(serving).exists() and Path(shared).exists() and "bundle_deleted" in named(client, 1).tags
    retire(client, named(client, 3))
    delete_bundle(client, named(client, 2))
    assert sorted(tmp_path.glob("*/serving.json")) == [Path(free) / "serving.json"]


def test_a_deletion_that_was_cut_short_leaves_no_bundle_and_is_finished(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bundle(tmp_path, number=1)
    add(client, uri=place)
    removed: list[str] = []

    def cut_off(uri: str) -> None:
        removed.append(uri)
        if uri == place:
            raise SystemExit(137)
        Path(uri).unlink()

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("components.registry.retire.remove", cut_off)
        delete_bundle(client, named(client, 1))
    assert removed == [f"{place}/serving.json", place] and (Path(place) / "config.json").exists()
    delete_bundle(client, named(client, 1))
    assert not Path(place).exists()


def test_nothing_is_deleted_at_an_address_that_is_no_bundles(client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "all my models").mkdir()
    add(client, uri=str(tmp_path / "all my models"))
    with pytest.raises(InputError, match="does not end in its bundle's digest, so nothing is deleted"):
        delete_bundle(client, named(client, 1))
    assert (tmp_path / "all my models").exists()
