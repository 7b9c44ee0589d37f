"""Faster R-CNN (arXiv:1506.01497): pictures to detections, or pictures and truth to losses.

B: pictures in the batch. Pictures come in as (3, H, W) in the configured colour order, 0 to 255.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.model.boxes import clip, nonempty
from sightline.model.fpn import FPN
from sightline.model.roi_heads import Found, ROIHeads
from sightline.model.rpn import RPN, Targets
from sightline.records import ImageSize


class GeneralizedRCNN(nn.Module):
    """Backbone, proposals, heads. The names of its parts are Detectron2's, because state dicts carry them.

    size_divisor: batches are padded to a multiple of it, the coarsest backbone stride
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: FPN,
        proposal_generator: RPN,
        roi_heads: ROIHeads,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisor: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.size_divisor = size_divisor
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def batch(self, images: Sequence[Tensor]) -> tuple[Tensor, list[ImageSize]]:
        """((B, 3, H, W) normalised, zero-padded at the right and the bottom; the pictures' sizes inside it)."""
        sizes = [ImageSize(image.shape[-2], image.shape[-1]) for image in images]
        step = self.size_divisor
        height = -(-max(size.height for size in sizes) // step) * step
        width = -(-max(size.width for size in sizes) // step) * step
        batch = self.pixel_mean.new_zeros((len(images), 3, height, width))
        for row, image, size in zip(batch, images, sizes, strict=True):
            row[:, : size.height, : size.width] = (image.to(self.device) - self.pixel_mean) / self.pixel_std
        return batch, sizes

    def forward(self, images: Sequence[Tensor], targets: Sequence[Targets]) -> dict[str, Tensor]:
        """{"loss_rpn_cls": scalar, "loss_rpn_loc", "loss_cls", "loss_box_reg"} of one training batch."""
        batch, sizes = self.batch(images)
        targets = [Targets(t.boxes.to(self.device), t.labels.to(self.device)) for t in targets]
        features = self.backbone(batch)
        proposals, losses = self.proposal_generator(features, sizes, targets)
        all_losses: dict[str, Tensor] = losses | self.roi_heads.losses(features, proposals, targets)
        return all_losses

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor], output_sizes: Sequence[ImageSize]) -> list[Found]:
        """What is in each picture, with boxes in pixels of `output_sizes` (the pictures before resizing)."""
        batch, sizes = self.batch(images)
        features = self.backbone(batch)
        proposals, _ = self.proposal_generator(features, sizes)
        found = self.roi_heads.detect(features, proposals, sizes)
        return [rescaled(f, size, output) for f, size, output in zip(found, sizes, output_sizes, strict=True)]


def rescaled(found: Found, size: ImageSize, output: ImageSize) -> Found:
    """`found` in a picture of `size`, moved to one of `output` pixels; boxes that vanish there are dropped."""
    across, down = output.width / size.width, output.height / size.height
    boxes = clip(found.boxes * found.boxes.new_tensor([across, down, across, down]), *output)
    keep = nonempty(boxes)
    return Found(boxes[keep], found.scores[keep], found.labels[keep])
