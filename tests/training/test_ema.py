"""The running mean of the weights."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sightline.training.ema import Ema


def a_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    return model


def test_weights_are_averaged_and_the_rest_is_taken_as_it_is() -> None:
    model = a_model()
    ema = Ema(model, 0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    ema.update(model, step=1000)
    for name, value in ema.state().items():
        learns = name in ("0.weight", "1.weight", "1.bias")
        assert_close(value, before[name] + 0.5 if learns else before[name] + 1)


def test_the_first_steps_forget_the_beginning() -> None:
    """After the first step a tenth is kept, whatever the decay."""
    model = a_model()
    ema = Ema(model, 0.999)
    begun = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1)
    ema.update(model, step=0)
    assert_close(ema.state()["0.weight"], begun + 0.9)


def test_a_swap_is_undone_even_after_an_error() -> None:
    model = a_model()
    ema = Ema(model, 0.5)
    with torch.no_grad():
        model[0].weight.add_(1)
        model[1].running_mean.add_(3)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyError), ema.swapped(model):
        assert_close(model[0].weight.detach(), own["0.weight"] - 1)
        assert_close(model[1].running_mean, own["1.running_mean"] - 3)
        raise KeyError
    assert_close(dict(model.state_dict()), own, rtol=0, atol=0)


def test_a_saved_mean_is_not_touched_by_later_steps() -> None:
    model = a_model()
    ema, other = Ema(model, 0.5), Ema(a_model(), 0.5)
    other.load(ema.state())
    kept = {name: value.clone() for name, value in ema.state().items()}
    with torch.no_grad():
        model[0].weight.add_(1)
    ema.update(model, step=50)
    assert_close(other.state(), kept, rtol=0, atol=0)
