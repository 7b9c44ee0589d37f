"""What one training step does: forward, backward, clipping, the optimizer, the running mean."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sightline.dataset.loader import Example
from sightline.model.detector import Detector
from sightline.model.instances import Targets
from sightline.training.ema import Ema
from sightline.training.optimizer import Clip
from sightline.training.precision import Precision
from sightline.training.processes import Processes

Losses = dict[str, Tensor]


class Learner:
    """A detector, its optimizer, and how they take a step.

    factor:     step -> factor on every group's `initial_lr`
    accumulate: parts in which a batch passes through the model; memory is that of one part
    """

    def __init__(
        self,
        detector: Detector,
        optimizer: torch.optim.Optimizer,
        *,
        factor: Callable[[int], float],
        clip: Clip,
        precision: Precision,
        processes: Processes,
        accumulate: int = 1,
        ema: Ema | None = None,
    ) -> None:
        self.detector, self.optimizer, self.factor, self.clip = detector, optimizer, factor, clip
        self.precision, self.processes, self.accumulate, self.ema = precision, processes, accumulate, ema
        self.model: nn.Module = parallel(detector, processes)
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def step(self, batch: Sequence[Example], number: int) -> Losses:
        """Learn from this process's share of batch `number`; the mean losses of its parts, on the device."""
        self.detector.train()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.factor(number)
        self.optimizer.zero_grad()
        parts = split(batch, self.accumulate)
        shares = [len(part) / len(batch) for part in parts]  # losses are means over pictures: each counts once
        total: Losses = {}
        for part, share in zip(parts, shares, strict=True):
            with self.unshared() if part is not parts[-1] else nullcontext():
                losses = self.losses(part)
                self.precision.backward(torch.stack(tuple(losses.values())).sum() * share)
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() * share
        self.precision.step(self.optimizer, self.clip, self.parameters)
        if self.ema is not None:
            self.ema.update(self.detector, number)
        return total

    def losses(self, examples: Sequence[Example]) -> Losses:
        """The losses of some pictures, with their graph."""
        targets = [Targets(example.boxes, example.labels, example.masks) for example in examples]
        with self.precision.forward():
            losses: Losses = self.model([example.image for example in examples], targets)
        return losses

    def unshared(self) -> AbstractContextManager[object]:
        """Gradients are summed here first; only a batch's last part exchanges them with the other processes."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    @contextmanager
    def evaluated(self) -> Iterator[Detector]:
        """The detector with the weights that are evaluated and kept: their running mean, if there is one."""
        with self.ema.swapped(self.detector) if self.ema is not None else nullcontext():
            yield self.detector


def parallel(detector: Detector, processes: Processes) -> nn.Module:
    """`detector`, exchanging gradients with the other processes, if there are any."""
    if processes.count == 1:
        return detector
    devices = [detector.device] if detector.device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the argument's new name is not in the oldest torch that we support
        return DistributedDataParallel(
            detector,
            device_ids=devices,
            broadcast_buffers=False,
            find_unused_parameters=detector.has_idle_levels,  # it would wait for gradients that never come; looking costs time
        )


def split(batch: Sequence[Example], parts: int) -> list[Sequence[Example]]:
    """`batch` in at most `parts` parts whose sizes differ by one at most."""
    count = min(parts, len(batch))
    ends = [len(batch) * number // count for number in range(count + 1)]
    return [batch[start:end] for start, end in pairwise(ends)]
