"""The weights of a model's files to torch's predictor. The only module of loading that brings torch."""

import io
import logging
import os

import torch

from sightline.bundle.archive import Files
from sightline.config.schema import Config
from sightline.downloads import cache_folder
from sightline.model.build import build_detector, build_predictor
from sightline.model.checkpoint import Unfilled, load_exactly, parse_checkpoint, state_dict_of
from sightline.model.optimized import OptimizedPredictor, optimized
from sightline.model.predictor import Predictor
from sightline.runtimes.asked import Execution
from sightline.tensors import choose_device

LOG = logging.getLogger(__name__)


def predictor_of(files: Files, config: Config, device: str, execution: Execution) -> tuple[Predictor, str]:
    """(the predictor, what runs it, for people).

    config:    that of the files, perhaps with another score threshold
    execution: a precision other than fp32 is an error where it cannot be had; fp32 falls back on the plain detector

    Raises:
        ConfigError, CheckpointError: the configuration is not supported, or the weights are not of it; or see `execution`.
    """
    with Unfilled():
        detector = build_detector(config, f"{files.where}: config.yaml")
    checkpoint = parse_checkpoint(io.BytesIO(files.weights), f"{files.where}: weights")
    load_exactly(detector, state_dict_of(checkpoint, files.where), f"{files.where}: weights", take=True)
    place = choose_device(device, config.model.device)
    detector.to(place)
    name = "CPU" if place.type == "cpu" else str(place).upper()
    predictor = plain = build_predictor(detector, config)
    if execution.optimize:
        asked_for = execution.precision != "fp32"
        if asked_for and place.type == "cpu":
            LOG.warning("%s on a CPU is slower than fp32 unless its instructions include it.", execution.precision)
        predictor = optimized(plain, execution.precision, insist=asked_for)
    how = "" if predictor is plain else ", optimised"
    if execution.compile:
        predictor, more = with_programs(plain, predictor, execution)
        how += more
    return predictor, f"torch {torch.__version__.partition('+')[0]}, {name}{how}"


def with_programs(plain: Predictor, predictor: Predictor, execution: Execution) -> tuple[Predictor, str]:
    """(`predictor` compiled, where that gives `plain`'s answers; ", compiled", or nothing).

    Raises:
        ConfigError: as `model.compiled.compiled`.
    """
    from sightline.model.compiled import compiled  # here: nobody else waits for torch's compiler to be imported

    if not isinstance(predictor, OptimizedPredictor):
        LOG.warning("Nothing is compiled: it is the optimised model that would be.")
        return predictor, ""
    made = compiled(plain, predictor, execution.shapes, cache_folder(os.environ) / "compiled")
    return made, "" if made is predictor else ", compiled"
