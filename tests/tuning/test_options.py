"""Values of a space in a recipe, and a recipe as words for `sightline train`."""

import pytest
from builders import a_config

from sightline.errors import ConfigError
from sightline.training.asked import Asked
from sightline.training.settings import PLAIN, Settings
from sightline.tuning.options import Recipe, as_words, given, text_of, varied


def test_values_go_where_train_puts_them() -> None:
    recipe = varied(
        Recipe(a_config()),
        {"SOLVER.BASE_LR": 0.5, "batch-size": 4, "ema": 0.9, "scale-jitter": [0.5, 2], "precision": "bf16", "weights": "a.pth"},
        "config",
    )
    assert (recipe.config.solver.base_lr, recipe.config.solver.amp.enabled, recipe.config.model.weights) == (0.5, True, "a.pth")
    assert recipe.settings == Settings(ema=0.9, scale_jitter=(0.5, 2), precision="bf16")
    assert recipe.asked == Asked(batch_size=4)


def test_full_precision_is_amp_off() -> None:
    recipe = varied(Recipe(a_config("SOLVER.AMP.ENABLED", "True")), {"precision": "fp32"}, "config")
    assert not recipe.config.solver.amp.enabled
    assert recipe.settings == PLAIN


def test_nothing_varied_is_the_same_recipe() -> None:
    recipe = Recipe(a_config(), Settings(ema=0.5), Asked(epochs=2))
    assert varied(recipe, {}, "config") == recipe


def test_refused_values_name_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"^mine.yaml: SOLVER.BASE_LR is 'fast'. Give a number.$"):
        varied(Recipe(a_config()), {"SOLVER.BASE_LR": "fast"}, "mine.yaml")


def test_what_is_given_already() -> None:
    assert given(Recipe(a_config())) == set()
    assert given(Recipe(a_config(), Settings(ema=0.5, keep=1), Asked(epochs=2))) == {"ema", "epochs"}


def test_settings_as_words() -> None:
    assert as_words(PLAIN) == []
    settings = Settings(ema=0.999, rotate=True, scale_jitter=(0.8, 1.25), metric="bbox/AP50", keep=1)
    assert as_words(settings) == ["--ema", "0.999", "--rotate", "--scale-jitter", "0.8", "1.25", "--metric", "bbox/AP50"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.123456789, "0.123457"), ("BN", "BN"), (True, "true"), ([[16], [32]], "[[16], [32]]"), (8, "8")]
)
def test_values_as_text(value: object, text: str) -> None:
    assert text_of(value) == text
