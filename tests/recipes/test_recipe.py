"""Recipes: by name, by path, and with keys set on top."""

from pathlib import Path
from typing import Any

import pydantic
import pytest

from app.program.errors import UserError
from app.recipe import RECIPES, Recipe, load, settings_of
from app.recipes._auto import AUTO

# Every key, a text for it that is not its default, and what the text means.
SETTINGS: dict[str, tuple[str, Any]] = {
    "seed": ("7", 7),
    "epochs": ("3", 3),
    "steps": ("100", 100),
    "epoch_steps": ("50", 50),
    "batch_size": ("8", 8),
    "image_size": ("96", 96),
    "image.aspect": ("pad", "pad"),
    "image.crop": ("0.875", 0.875),
    "image.colour": ("grey", "grey"),
    "width": ("0.25", 0.25),
    "dropout": ("0.1", 0.1),
    "initial_weights": ("1.5", 1.5),
    "fine_tuning.probe": ("true", True),
    "fine_tuning.head_epochs": ("2.5", 2.5),
    "fine_tuning.layer_decay": ("0.9", 0.9),
    "precision": ("mixed_bfloat16", "mixed_bfloat16"),
    "remat": ("true", True),
    "label_smoothing": ("0.1", 0.1),
    "balance": ("weights", "weights"),
    "auxiliary": ("0.3", 0.3),
    "weight_average": ("0.9999", 0.9999),
    "freeze": ("base", "base"),
    "optimizer.name": ("adamw", "adamw"),
    "optimizer.rate": ("3e-4", 3e-4),
    "optimizer.momentum": ("0.5", 0.5),
    "optimizer.nesterov": ("true", True),
    "optimizer.rho": ("0.95", 0.95),
    "optimizer.epsilon": ("1", 1.0),
    "optimizer.initial_accumulator": ("1", 1.0),
    "optimizer.weight_decay": ("1e-4", 1e-4),
    "optimizer.l2": ("4e-5", 4e-5),
    "optimizer.clip": ("2", 2.0),
    "optimizer.accumulate": ("4", 4),
    "schedule.name": ("constant", "constant"),
    "schedule.warmup": ("1.5", 1.5),
    "schedule.power": ("0.5", 0.5),
    "schedule.factor": ("0.96", 0.96),
    "schedule.every": ("8", 8.0),
    "schedule.staircase": ("no", False),
    "batch_norm.momentum": ("0.99", 0.99),
    "batch_norm.recalibrate": ("epoch", "epoch"),
    "batch_norm.early": ("false", False),
    "augmentation.flip": ("yes", True),
    "augmentation.crop_area": ("0.3", 0.3),
    "augmentation.colour": ("full", "full"),
    "augmentation.randaugment.layers": ("2", 2),
    "augmentation.randaugment.magnitude": ("5", 5.0),
    "augmentation.mixup": ("0.2", 0.2),
    "augmentation.cutmix": ("1", 1.0),
    "checkpoint.use": ("best", "best"),
    "checkpoint.every": ("200", 200),
}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def test_this_table_names_every_key() -> None:
    assert set(SETTINGS) == set(flat(Recipe().model_dump()))


@pytest.mark.parametrize("key", SETTINGS)
def test_every_key_can_be_set_and_has_its_type(key: str) -> None:
    text, value = SETTINGS[key]
    before = flat(load("default").model_dump())
    found = flat(load("default", [f"{key}={text}"]).model_dump())
    assert found[key] == value
    assert type(found[key]) is type(value)
    assert before[key] != value
    assert {other for other in found if found[other] != before[other]} == {key}


def test_several_keys_can_be_set_and_the_last_one_counts() -> None:
    found = load("default", ["epochs=2", "optimizer.rate=0.5", "epochs=9"])
    assert (found.epochs, found.optimizer.rate) == (9, 0.5)


@pytest.mark.parametrize(
    "key",
    [
        *("steps", "image_size", "image.aspect", "image.crop", "image.colour"),
        *("dropout", "balance", "optimizer.clip", "weight_average"),
    ],
)
def test_none_sets_back_what_may_be_left_open(key: str) -> None:
    assert flat(load("default", [f"{key}={SETTINGS[key][0]}", f"{key}=None"]).model_dump())[key] is None


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("rate", "optimizer.rate"),
        ("ratee", "optimizer.rate"),
        ("optimizer.ratee", "optimizer.rate"),
        ("optimizer", "optimizer."),
        ("mix-up", "augmentation.mixup"),
        ("epoch", "epochs"),
        ("", "seed"),
        ("model_config", "label_smoothing"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        load("default", [f"{key}=1"])
    assert f"no recipe key '{key}'" in str(caught.value)
    assert nearest in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("epochs", "many"),
        ("epochs", "0"),
        ("epochs", "1.5"),
        ("epochs", "None"),
        ("seed", "-1"),
        ("batch_size", "-4"),
        ("image_size", "0"),
        ("width", "0"),
        ("dropout", "1"),
        ("precision", "float16"),
        ("label_smoothing", "1"),
        ("optimizer.name", "lion"),
        ("optimizer.rate", "0"),
        ("optimizer.rate", "fast"),
        ("optimizer.momentum", "1"),
        ("optimizer.nesterov", "perhaps"),
        ("optimizer.weight_decay", "-1e-4"),
        ("optimizer.epsilon", "0"),
        ("optimizer.clip", "0"),
        ("optimizer.accumulate", "0"),
        ("schedule.factor", "1.1"),
        ("schedule.every", "0"),
        ("weight_average", "1"),
        ("schedule.name", "step"),
        ("batch_norm.momentum", "1"),
        ("batch_norm.momentum", "often"),
        ("batch_norm.recalibrate", "often"),
        ("augmentation.crop_area", "0"),
        ("augmentation.crop_area", "1.1"),
        ("augmentation.colour", "bright"),
        ("augmentation.randaugment.layers", "-1"),
        ("augmentation.randaugment.magnitude", "30"),
        ("augmentation.mixup", "-0.1"),
        ("augmentation.cutmix", "much"),
    ],
)
def test_a_bad_value_is_named_with_its_key(key: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        load("default", [f"{key}={text}"])
    assert f"--set {key}={text}:" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("colour=bright", "input should be 'fast' or 'full'"),
        ("randaugment.magnitude=30", "input should be less than or equal to 10"),
        ("mixup=-1", "input should be greater than or equal to 0"),
    ],
)
def test_a_bad_augmentation_is_told_what_may_be(setting: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load("default", [f"augmentation.{setting}"])
    assert str(caught.value) == f"--set augmentation.{setting}: {words}."


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", ["optimizer.rate", "width", "schedule.warmup", "optimizer.weight_decay"])
def test_what_is_not_finite_is_refused(key: str, text: str) -> None:
    with pytest.raises(UserError, match=key):
        load("default", [f"{key}={text}"])


def test_an_average_without_statistics_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load("default", ["weight_average=0.9999", "batch_norm.recalibrate=never"])
    assert str(caught.value) == (
        "--set weight_average=0.9999: averaged weights need batch-norm statistics of their own; "
        "batch_norm.recalibrate has to be end or epoch."
    )
    path = tmp_path / "mine.py"
    path.write_text(
        "from app.recipe import BatchNorm, Recipe\n\n"
        'RECIPE = Recipe(weight_average=0.9, batch_norm=BatchNorm(recalibrate="never"))\n'
    )
    with pytest.raises(UserError, match=r"mine.py does not run: weight_average=0.9: averaged"):
        load(str(path))


@pytest.mark.parametrize("setting", ["epochs=30", "optimizer.rate=0.1", "augmentation.flip=True", "freeze=nothing"])
def test_a_linear_probe_is_asked_nothing_of_steps(setting: str) -> None:
    with pytest.raises(UserError, match=rf"--set {setting}: a linear probe .* leave it out"):
        load("linear_probe", [setting])
    assert load("linear_probe", ["seed=3", "image_size=96"]).image_size == 96


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"--set epochs: write key=value"):
        load("default", ["epochs"])


def test_every_recipe_of_the_program_loads() -> None:
    names = sorted(path.stem for path in RECIPES.glob("[!_]*.py"))
    for name in names:
        assert isinstance(load(name), Recipe)
    assert load("default") == Recipe()
    assert load("photos").augmentation.crop_area == 0.3


def test_a_recipe_may_be_a_file_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from app.recipe import Optimizer, Recipe\n\nRECIPE = Recipe(epochs=4, optimizer=Optimizer(rate=0.3))\n"
    )
    found = load(str(path), ["seed=5"])
    assert (found.epochs, found.optimizer.rate, found.seed) == (4, 0.3, 5)


@pytest.mark.parametrize("name", ["nosuch", "nosuch.py", "../recipes/nosuch"])
def test_a_recipe_that_does_not_exist_lists_those_that_do(name: str) -> None:
    with pytest.raises(UserError) as caught:
        load(name)
    assert f"'{name}'" in str(caught.value)
    assert all(f"{name}" in str(caught.value) for name in ("default", "inception_v3", "photos"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("RECIPE = Recipe(", "SyntaxError"),
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("from app.recipe import Recipe\nRECIPE = Recipe(epochs=0)", "epochs=0: input should be greater than 0"),
        ("from app.recipe import Recipe\nRECIPE = Recipe(epoch=3)", "epoch=3: extra inputs are not permitted"),
        ("OTHER = 1", "must define RECIPE"),
        ("RECIPE = {'epochs': 3}", "must define RECIPE"),
    ],
)
def test_a_broken_recipe_file_is_one_sentence_with_its_name(tmp_path: Path, source: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(UserError) as caught:
        load(str(path))
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(pydantic.ValidationError):
        setattr(Recipe(), "epochs", 5)  # noqa: B010 - the type checker knows it


def test_a_recipe_survives_json() -> None:
    wanted = load("photos", ["seed=3", "steps=10"])
    assert Recipe.model_validate_json(wanted.model_dump_json()) == wanted


@pytest.mark.parametrize(
    ("steps", "momentum"), [(1, 0.0), (10, 0.0), (100, 0.9), (200, 0.95), (1000, 0.99), (10**6, 0.99)]
)
def test_the_automatic_momentum_remembers_a_tenth_of_the_run_and_a_hundred_steps_at_most(
    steps: int, momentum: float
) -> None:
    found = load("default", ["batch_norm.momentum=auto"]).batch_norm.resolved(steps)
    assert found == pytest.approx(momentum)
    assert 1 / (1 - found) <= max(1, steps / 10) * (1 + 1e-12)


def test_a_momentum_that_is_a_number_stays_that_number() -> None:
    assert load("default", ["batch_norm.momentum=0.75"]).batch_norm.resolved(3) == 0.75


def test_what_is_to_be_measured_is_said_as_it_was_asked_for() -> None:
    wanted = load("default", ["batch_size=auto", "optimizer.rate=auto"])
    assert (wanted.batch_size, wanted.optimizer.rate) == (AUTO, AUTO)
    assert settings_of(wanted) == ["batch_size=auto", "optimizer.rate=auto"]
    assert Recipe.model_validate_json(wanted.model_dump_json()) == wanted
    for setting in ("batch_size=0", "optimizer.rate=0"):  # which is no other way to say so
        with pytest.raises(UserError, match="should be greater than 0"):
            load("default", [setting])
