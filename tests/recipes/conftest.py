"""The kitchen in which recipes are tried: AWS on loopback, a shell, the zoo's weights, and real data from `shared`."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from recipes.kitchen import Kitchen

ZOO = (
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x",
    "COCO-Detection/faster_rcnn_R_50_FPN_1x",
    "COCO-Detection/faster_rcnn_R_50_FPN_3x",
)


@pytest.fixture(scope="session")
def made_kitchen(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Kitchen"]:
    """Made once; every recipe has a folder of its own in it."""
    pytest.importorskip("moto.server", reason="no moto here: pip install 'sightline[test]'")
    from cloud import platform
    from cloud.conftest import TRUST, push
    from docs.things import Store
    from docs.world import CHECKED, Desk, World, around, sightline
    from recipes import kitchen

    from docs import aws
    from sightline import __version__
    from sightline.bundle.load import load_model
    from sightline.config.zoo_models import checkpoint_address
    from sightline.serving.server import running

    folder = tmp_path_factory.mktemp("recipes")
    with ExitStack() as ends:
        kitchen.bees(shared, folder / "docs_recipes_custom.md" / "here")
        server = ends.enter_context(running(load_model(kitchen.bee_model(folder))))
        desk = Desk(folder / "desk", {"sightline": sightline, **CHECKED})
        desk.place(folder / "bin")
        environ = aws.environment(ends.enter_context(aws.moto()), folder) | {
            "PATH": str(folder / "bin"),
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": ends.enter_context(platform.runtime_before(server)),
        }
        with around(folder, environ):
            account = aws.opened(environ)
            account.client("iam").create_role(RoleName="sightline-jobs", AssumeRolePolicyDocument=json.dumps(TRUST))
            for kind in ("train", "serve"):
                push(account, f"sightline-{kind}", __version__)
            for name in ZOO:
                kitchen.zoo_weights(name, checkpoint_address(name), Path(environ["SIGHTLINE_CACHE"]))
            kitchen.train_there(account, folder / "jobs")
        world = World(folder, Store(folder / "store"), environ, desk, account, server)
        made = kitchen.Kitchen(world, shared, folder / "larder")
        made.larder.mkdir()
        desk.answers = {**desk.answers, "curl": made.curl}
        kitchen.add(world, "curl")
        ends.callback(world.stop_serving)
        yield made


@pytest.fixture
def kitchen(made_kitchen: "Kitchen", monkeypatch: pytest.MonkeyPatch) -> "Kitchen":
    """The same, as long as a test lasts in place of what takes long, waits, or is far away."""
    from docs import aws, shortened
    from sightline.serving import server

    shortened.everything(monkeypatch)
    aws.use(monkeypatch, made_kitchen.world.account)
    monkeypatch.setattr(server, "serve", made_kitchen.world.serve)
    return made_kitchen
