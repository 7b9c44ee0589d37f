"""The dense parts of an optimised detector, backbone and dense heads, compiled by torch for pictures of named shapes.

Each part becomes a program for one number of pictures and one padded size; whatever else comes runs uncompiled. Every program
is compared with the plain part at that very size before it is used.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.images import shortest_edge_size
from sightline.model.detector import Detector
from sightline.model.fpn import FPN
from sightline.model.optimized import OptimizedPredictor, differences, drawn_picture, parts
from sightline.model.predictor import Predictor
from sightline.model.programs import Key, compile_to, machine_facts, private_folder, program, text_of
from sightline.model.rcnn import GeneralizedRCNN, ProposalNetwork
from sightline.model.resnet import ResNet
from sightline.model.retinanet import RetinaNetHead
from sightline.model.rpn import RPNHead
from sightline.processors import cores
from sightline.records import ImageSize
from sightline.tensors import to_tensor

LOG = logging.getLogger(__name__)

DENSE = (ResNet, FPN, RPNHead, RetinaNetHead)
"""What is compiled: all cells of a picture. Other heads take as many boxes as were found, another number every time."""

Shapes = tuple[torch.Size, ...]


class Program:
    """A compiled part for inputs of certain shapes. It has no weights of its own, it uses those it is given.

    package: as `programs.compile_to` writes it
    weights: by name, of the part
    inputs:  as it was compiled for; others of the same shapes are brought into their layout and type
    """

    def __init__(self, package: Path, weights: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> None:
        from torch._inductor import aoti_load_package

        self.layouts = [(tensor.stride(), tensor.dtype) for tensor in inputs]
        first = inputs[0]
        on_cpu = first.device.type == "cpu"
        self.run = aoti_load_package(  # calls beyond `num_runners` at once wait
            str(package), num_runners=cores() if on_cpu else 1, device_index=-1 if on_cpu else (first.device.index or 0)
        )
        self.weights = {name: weights[name] for name in self.run.get_constant_fqns()}
        self.run.load_constants(self.weights, check_full_update=True, user_managed=True)

    def __call__(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        if isinstance(inputs, Tensor):
            return self.run(laid_out(inputs, *self.layouts[0]))
        return self.run([laid_out(one, *layout) for one, layout in zip(inputs, self.layouts, strict=True)])


def laid_out(tensor: Tensor, stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """`tensor` in that memory layout and type; itself where it is so already."""
    if tensor.stride() == stride and tensor.dtype == dtype:
        return tensor
    return torch.empty_strided(tensor.shape, stride, dtype=dtype, device=tensor.device).copy_(tensor)


class CompiledPart(nn.Module):
    """A part that runs as a program where there is one for its inputs' shapes, and as itself elsewhere. Copies have none."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.programs: dict[Shapes, Program] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"programs": {}}

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        found = self.programs.get(shapes_of(inputs))
        return self.part(inputs) if found is None else found(inputs)


def shapes_of(inputs: Tensor | Sequence[Tensor]) -> Shapes:
    return (inputs.shape,) if isinstance(inputs, Tensor) else tuple(tensor.shape for tensor in inputs)


def compiled(
    plain: Predictor, fast: OptimizedPredictor, wanted: Sequence[tuple[int, ImageSize]], folder: Path
) -> OptimizedPredictor:
    """`fast` with programs for pictures of the shapes `wanted`; `fast` itself, with a warning, where none can be used.

    plain:  what `fast` was made from, and what programs are compared with
    wanted: (pictures together, their size before they are resized)
    folder: where programs are kept

    Raises:
        ConfigError: something has to be compiled and there is no compiler, or the folder is not the user's alone.
    """
    private_folder(folder)
    with torch.no_grad():
        made = OptimizedPredictor(plain, fast.precision, for_compiler=True)
    dense = {
        name: CompiledPart(made.detector.get_submodule(name)) for name, part in parts(plain.detector) if isinstance(part, DENSE)
    }
    for name, part in dense.items():
        made.detector.set_submodule(name, part)
    limits, done = made.input_size, set()
    for pictures, given in wanted:
        size = shortest_edge_size(given, limits.min_size, limits.max_size)
        if (pictures, limits.padded(size)) not in done:
            done.add((pictures, limits.padded(size)))
            add_programs(plain, made, dense, size, pictures, folder)
    return made if any(part.programs for part in dense.values()) else fast


def add_programs(
    plain: Predictor, made: OptimizedPredictor, dense: Mapping[str, CompiledPart], size: ImageSize, pictures: int, folder: Path
) -> None:
    """Programs of all dense parts for `pictures` resized ones of `size`, those that pass the comparison.

    Raises:
        ConfigError: there is no compiler.
    """
    padded = made.input_size.padded(size)
    where = f"for {pictures} x {padded.width} x {padded.height} px"
    wrong: dict[str, str] = {}
    given = example_inputs(made, dense, size, pictures)
    for name, inputs in given.items():
        LOG.info("The compiled %s %s is made ready.", name, where)
        try:
            with torch.no_grad(), made.arithmetic():
                dense[name].programs[shapes_of(inputs)] = program_of(dense[name].part, inputs, folder)
        except SightlineError:
            raise
        except Exception as error:  # a compiler may fail in any way, and the part runs without
            wrong[name] = f"cannot be compiled here ({first_line(error)})"
    wrong |= {
        name: told for name, told in differences(plain, made, size, pictures).items() if name in given and name not in wrong
    }
    for name, told in wrong.items():
        dense[name].programs.pop(shapes_of(given[name]), None)
        LOG.warning("The compiled %s %s is not used: it %s. It runs uncompiled.", name, where, told)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def program_of(part: nn.Module, inputs: Tensor | Sequence[Tensor], folder: Path) -> Program:
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    exported = torch.export.export(part, (inputs if isinstance(inputs, Tensor) else tensors,), strict=False)
    key = Key(text_of(exported), machine_facts(tensors[0].device))
    package = program(folder, key, lambda path: compile_to(exported, path))
    weights = {
        name: value for name, value in {**exported.state_dict, **exported.constants}.items() if isinstance(value, Tensor)
    }
    return Program(package, weights, tensors)


def example_inputs(
    made: OptimizedPredictor, dense: Mapping[str, CompiledPart], size: ImageSize, pictures: int
) -> dict[str, Tensor | list[Tensor]]:
    """{part: what it is given} for `pictures` drawn ones of `size`, as the detector itself lays it out."""
    given: dict[str, Tensor | list[Tensor]] = {}
    with torch.no_grad(), made.arithmetic(), kept_inputs(dense, given):
        batch, _ = made.detector.batch([to_tensor(drawn_picture(size), made.color_order)] * pictures)
        run_dense(made.detector, batch)
    return given


def run_dense(detector: Detector, batch: Tensor) -> None:
    """All dense parts on a normalised (B, 3, H, W) batch, and nothing else."""
    features = detector.extract(batch)
    if isinstance(detector, GeneralizedRCNN | ProposalNetwork):
        generator = detector.proposal_generator
        generator.rpn_head([features[name] for name in generator.in_features])
    else:
        detector.get_submodule("head")([features[name] for name in detector.in_features])  # type: ignore[union-attr]


@contextmanager
def kept_inputs(dense: Mapping[str, CompiledPart], given: dict[str, Tensor | list[Tensor]]) -> Iterator[None]:
    """Puts into `given` what each part is called with, meanwhile."""
    handles = []
    for name, part in dense.items():

        def hook(_: nn.Module, inputs: Any, name: str = name) -> None:
            given[name] = inputs[0] if isinstance(inputs[0], Tensor) else list(inputs[0])

        handles.append(part.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
