"""The plain stack that serve_speed.py compares with: a minimal FastAPI endpoint around torchvision's R50-FPN.

    python benchmarks/fastapi_torchvision.py PORT MIN_SIZE MAX_SIZE CLASSES WEIGHTS.pth async|threads

It knows nothing of Sightline but the names in its weights, so it runs in an environment of its own. The network is the same:
weights, proposals, thresholds; only resizing and RoIAlign are torchvision's. The endpoint is `async def`, which predicts in the
event loop, one request after the other, or `def`, which FastAPI runs in threads, all requests at once.
"""

import io
import sys
from typing import Annotated

import torch
import uvicorn
from fastapi import Body, FastAPI, Request
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor
from torchvision_peer import r50_fpn

port, min_size, max_size, classes = map(int, sys.argv[1:5])
model = r50_fpn(min_size, max_size, classes, torch.load(sys.argv[5], weights_only=True)["model"])
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
