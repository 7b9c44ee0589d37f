"""The world that the pages' commands are tried in."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from docs.world import World


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator["World"]:
    """Made once; every page has a folder of its own in it."""
    pytest.importorskip("moto.server", reason="no moto here: pip install 'sightline[test]'")
    from cloud import platform

    from docs import aws
    from docs.things import Store
    from docs.world import CHECKED, Desk, World, around, sightline
    from sightline.bundle.load import load_model
    from sightline.serving.server import running

    folder = tmp_path_factory.mktemp("docs")
    with ExitStack() as ends:
        store = Store(folder / "store")
        desk = Desk(folder / "desk", {"sightline": sightline, **CHECKED})
        desk.place(folder / "bin")
        server = ends.enter_context(running(load_model(store.bundle)))
        environ = aws.environment(ends.enter_context(aws.moto()), folder) | {
            "PATH": str(folder / "bin"),
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": ends.enter_context(platform.runtime_before(server)),
        }
        with around(folder, environ):
            account = aws.opened(environ)
            aws.fill(account, store, folder / "bucket")
        world = World(folder, store, environ, desk, account, server)
        aws.work(world, account)
        ends.callback(world.stop_serving)
        yield world


@pytest.fixture
def world(made_world: "World", monkeypatch: pytest.MonkeyPatch) -> "World":
    """The same, as long as a test lasts in place of what takes long, waits, or is far away."""
    from docs import aws, shortened
    from sightline.containers import local
    from sightline.serving import server

    shortened.everything(monkeypatch)
    aws.use(monkeypatch, made_world.account)
    monkeypatch.setattr(server, "serve", made_world.serve)
    monkeypatch.setattr(server, "serve_many", made_world.serve_many)
    monkeypatch.setattr(local, "train", made_world.train_here)
    monkeypatch.setattr(local, "serve", made_world.serve_here)
    return made_world
