"""The plain stack that serve_speed.py compares with: a minimal FastAPI endpoint around torchvision's R50-FPN.

    python benchmarks/fastapi_torchvision.py PORT MIN_SIZE MAX_SIZE CLASSES WEIGHTS.pth async|threads

It knows nothing of Sightline but the names in its weights, so it runs in an environment of its own. The network is the same:
weights, proposals, thresholds; only resizing and RoIAlign are torchvision's. The endpoint is `async def`, which predicts in the
event loop, one request after the other, or `def`, which FastAPI runs in threads, all requests at once.
"""

import io
import re
import sys
from typing import Annotated

import torch
import uvicorn
from fastapi import Body, FastAPI, Request
from PIL import Image
from torch import Tensor
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.transforms.functional import pil_to_tensor

NAMES = (
    (r"^backbone\.bottom_up\.(stem\.)?", "backbone.body."),
    (r"\.res(\d)\.", lambda found: f".layer{int(found[1]) - 1}."),
    (r"conv(\d)\.norm", r"bn\1"),
    (r"shortcut\.norm", "downsample.1"),
    (r"shortcut", "downsample.0"),
    (r"fpn_lateral(\d)", lambda found: f"fpn.inner_blocks.{int(found[1]) - 2}.0"),
    (r"fpn_output(\d)", lambda found: f"fpn.layer_blocks.{int(found[1]) - 2}.0"),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r".*objectness_logits", "rpn.head.cls_logits"),
    (r".*anchor_deltas", "rpn.head.bbox_pred"),
    (r"\.fc1\.", ".fc6."),
    (r"\.fc2\.", ".fc7."),
)
"""(pattern in Detectron2's names, torchvision's), applied in turn."""


def in_torchvision(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    if name == "backbone.bottom_up.stem.conv1.weight":
        tensor = tensor.flip(1)  # torchvision takes RGB
    if "cls_score" in name:
        tensor = tensor.roll(1, 0)  # its background comes first
    if "box_predictor.bbox_pred" in name:
        tensor = torch.cat([torch.zeros_like(tensor[:4]), tensor])
    for pattern, new in NAMES:
        name = re.sub(pattern, new, name)
    return name, tensor


def load(min_size: int, max_size: int, classes: int, weights: str) -> FasterRCNN:
    model = fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=classes + 1,
        min_size=min_size,
        max_size=max_size,
        image_mean=[mean / 255 for mean in (123.675, 116.28, 103.53)],
        image_std=[1 / 255] * 3,
    ).eval()
    state = torch.load(weights, weights_only=True)["model"]
    fitted = model.load_state_dict(dict(in_torchvision(*item) for item in state.items()), strict=False)
    if lacking := [name for name in fitted.missing_keys if "num_batches" not in name]:
        sys.exit(f"{weights} lacks {', '.join(lacking)}")
    return model


port, min_size, max_size, classes = map(int, sys.argv[1:5])
model = load(min_size, max_size, classes, sys.argv[5])
app = FastAPI()


@app.get("/ping")
async def ping() -> dict[str, str]:
    return {}


def detect(body: bytes) -> dict[str, list[object]]:
    picture = Image.open(io.BytesIO(body)).convert("RGB")
    with torch.inference_mode():
        found = model([pil_to_tensor(picture).float() / 255])[0]
    return {name: value.tolist() for name, value in found.items()}


if sys.argv[6] == "async":

    @app.post("/invocations")
    async def predict(request: Request) -> dict[str, list[object]]:
        return detect(await request.body())

else:

    @app.post("/invocations")
    def predict_in_thread(body: Annotated[bytes, Body(media_type="image/jpeg")]) -> dict[str, list[object]]:
        return detect(body)


uvicorn.run(app, port=port, log_level="warning")
