"""The weights of a model's files to torch's predictor. The only module of loading that brings torch."""

import io

import torch

from sightline.bundle.archive import Files
from sightline.config.schema import Config
from sightline.model.build import build_detector, build_predictor
from sightline.model.checkpoint import Unfilled, load_exactly, parse_checkpoint, state_dict_of
from sightline.model.optimized import optimized
from sightline.model.predictor import Predictor
from sightline.tensors import choose_device


def predictor_of(files: Files, config: Config, device: str, *, optimize: bool) -> tuple[Predictor, str]:
    """(the predictor, what runs it, for people).

    config:   that of the files, perhaps with another score threshold
    optimize: rebuild the detector for speed, where that gives the same answers (docs/predict.md)

    Raises:
        ConfigError, CheckpointError: the configuration is not supported, or the weights are not of it.
    """
    with Unfilled():
        detector = build_detector(config, f"{files.where}: config.yaml")
    checkpoint = parse_checkpoint(io.BytesIO(files.weights), f"{files.where}: weights")
    load_exactly(detector, state_dict_of(checkpoint, files.where), f"{files.where}: weights", take=True)
    place = choose_device(device, config.model.device)
    detector.to(place)
    name = "CPU" if place.type == "cpu" else str(place).upper()
    predictor = plain = build_predictor(detector, config)
    if optimize:
        predictor = optimized(plain)
    how = "" if predictor is plain else ", optimised"
    return predictor, f"torch {torch.__version__.partition('+')[0]}, {name}{how}"
