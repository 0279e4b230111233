"""Training that begins with trained weights: what is taken, what is new, what keeps its values."""

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app import recipe, run_folder, training
from app.program import files
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import FineTuning, Recipe
from app.run_folder import folder
from app.run_folder.folder import Run
from app.training import fine_tuning, members, optimizers
from models import NETWORKS, BatchNormalization
from tests.makers.untrained_runs import untrained

Array = np.ndarray[Any, Any]


def tuned(start: Run, to: Path, *settings: str) -> Run:
    wanted = recipe.load("default", ("steps=3", "batch_size=8", "optimizer.rate=0.01", *settings))
    return training.train("digits", None, to, wanted, unwatched, start.folder)


def of_kind(model: keras.Model, kind: Any) -> dict[str, list[Array]]:
    return {layer.name: layer.get_weights() for layer in model.layers if isinstance(layer, kind)}


def changed(before: dict[str, list[Array]], after: dict[str, list[Array]]) -> set[str]:
    return {
        name
        for name, values in after.items()
        if any(not np.array_equal(old, new) for old, new in zip(before[name], values, strict=True))
    }


def test_fine_tuning_replaces_the_classifier_and_keeps_batch_norm_as_it_was(
    finished_run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tuned(finished_run, tmp_path / "run")
    before, after = run_folder.load(finished_run.folder), run_folder.load(run.folder)
    assert after.labels == tuple("0123456789")
    assert after.model.output_shape == (None, 10)
    assert after.model.input_shape == (None, 32, 32, 3)
    assert after.preprocessing == before.preprocessing
    normalizations = (of_kind(trained.model, BatchNormalization) for trained in (before, after))
    assert changed(*normalizations) == set()
    convolutions = [of_kind(trained.model, keras.layers.Conv2D) for trained in (before, after)]
    assert changed(*convolutions) == set(convolutions[0])
    # It began with the import's weights, not with random ones: three small steps do not take them far.
    for name, (kernel, *_) in convolutions[0].items():
        assert np.corrcoef(kernel.ravel(), convolutions[1][name][0].ravel())[0, 1] > 0.9
    origin = run.read_classifier().origin
    assert origin is not None
    assert (origin.path, origin.sha256) == (str(finished_run.folder), files.digest(finished_run.model))
    said = capfd.readouterr().err
    assert "predictions (new)" in said
    assert "frozen" in said


def test_base_trains_the_classifier_alone(finished_run: Run, tmp_path: Path) -> None:
    run = tuned(finished_run, tmp_path / "run", "freeze=base")
    before, after = run_folder.load(finished_run.folder).model, run_folder.load(run.folder).model
    for kind in (keras.layers.Conv2D, BatchNormalization):
        assert changed(of_kind(before, kind), of_kind(after, kind)) == set()
    assert np.abs(after.get_layer("predictions").get_weights()[1]).max() > 0  # a bias begins at 0


@pytest.mark.slow
def test_the_base_waits_for_the_classifier(finished_run: Run, tmp_path: Path) -> None:
    """Three steps of which two are the classifier's alone, of an epoch of three; then the same without the third."""
    options = ("batch_size=431", "fine_tuning.head_epochs=0.67", "optimizer.rate=0.1", "schedule.name=constant")
    before = run_folder.load(finished_run.folder).model
    after = {
        steps: run_folder.load(tuned(finished_run, tmp_path / str(steps), f"steps={steps}", *options).folder).model
        for steps in (2, 3)
    }
    kernels = of_kind(before, keras.layers.Conv2D)
    assert changed(kernels, of_kind(after[2], keras.layers.Conv2D)) == set()
    assert changed(kernels, of_kind(after[3], keras.layers.Conv2D)) == set(kernels)
    for model in after.values():
        normalizations = (of_kind(each, BatchNormalization) for each in (before, model))
        assert changed(*normalizations) == set()
        assert np.abs(model.get_layer("predictions").get_weights()[1]).max() > 0


def test_a_lower_stage_has_a_lower_rate() -> None:
    """Of one plain step with gradients of 1, every weight changes by its rate."""
    model = NETWORKS["bn_inception"](input_shape=(32, 32, 3), classes=3, width=0.1, classifier_activation=None)
    options = FineTuning(layer_decay=0.5)
    rates = fine_tuning.rates(model, options, {"predictions"}, steps=10)
    wanted = Recipe.model_validate(
        {"optimizer": {"rate": 0.1, "momentum": 0, "weight_decay": 0.1}, "schedule": {"name": "constant"}}
    )
    model.compile(optimizer=optimizers.build(model, wanted, 10, 10, rates))
    before = {weight.path: weight.numpy() for weight in model.trainable_weights}
    weights = model.trainable_weights
    model.optimizer.apply([np.ones(weight.shape, np.float32) for weight in weights], weights)
    stages = ["stem", *(f"inception_{name}" for name in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"))]
    seen = set()
    for weight in model.trainable_weights:
        layer = weight.path.split("/")[0]
        if layer == "predictions":
            decayed = before[weight.path] * (0.01 if weight.name == "kernel" else 0)
            step = 0.1 + decayed
        else:
            stage = next(place for place, name in enumerate(stages) if layer.startswith(name))
            seen.add(stage)
            step = 0.1 * 0.5 ** (len(stages) - stage)
        np.testing.assert_allclose(before[weight.path] - weight.numpy(), np.broadcast_to(step, weight.shape), atol=1e-7)
    assert seen == set(range(len(stages)))


def test_stages_of_their_own_need_a_start(tmp_path: Path) -> None:
    wanted = recipe.load("default", ("fine_tuning.layer_decay=0.5",))
    with pytest.raises(UserError, match="add --from"):
        training.train("digits", "lenet_bn", tmp_path / "run", wanted)


@pytest.mark.slow
def test_nothing_frozen_moves_everything(finished_run: Run, tmp_path: Path) -> None:
    run = tuned(finished_run, tmp_path / "run", "freeze=nothing", "batch_norm.momentum=0.5")
    before, after = run_folder.load(finished_run.folder).model, run_folder.load(run.folder).model
    for kind in (keras.layers.Conv2D, BatchNormalization):
        assert changed(of_kind(before, kind), of_kind(after, kind)) == set(of_kind(before, kind))
    assert after.get_layer("stem_1_bn").momentum == 0.5


@pytest.mark.slow
def test_fine_tuning_goes_on_where_it_was(finished_run: Run, tmp_path: Path) -> None:
    """One epoch of a training of two, then the other: the frozen stay frozen, and the start is not taken again."""
    small = ("steps=none", "epochs=2", "batch_size=600")
    run = tuned(finished_run, tmp_path / "run", *small)
    right = run_folder.load(run.folder).model
    shutil.copytree(run.folder, tmp_path / "again")
    again = Run(tmp_path / "again")
    for file in (again.model, again.metrics):
        file.unlink()
    found = run_folder.load(tuned(finished_run, again.folder, *small).folder).model
    for a, b in zip(right.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_start_of_another_kind_is_refused(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds lenet_bn, not resnet18; leave --network out"):
        training.train("digits", "resnet18", tmp_path / "run", recipe.load("default"), unwatched, finished_run.folder)
    with pytest.raises(UserError, match="is not a run folder"):
        training.train("digits", None, tmp_path / "run", recipe.load("default"), unwatched, tmp_path)
    with pytest.raises(UserError, match="Say which network to train"):
        training.train("digits", None, tmp_path / "run", recipe.load("default"), unwatched)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_dense_layer_on_a_map_of_another_size_begins_anew(
    finished_run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tuned(finished_run, tmp_path / "run", "image_size=40", "freeze=base")
    before, after = run_folder.load(finished_run.folder), run_folder.load(run.folder)
    assert (after.preprocessing.height, after.preprocessing.width) == (40, 40)
    assert before.model.get_layer("dense_1_dense").kernel.shape != after.model.get_layer("dense_1_dense").kernel.shape
    assert "dense_1_dense (new)" in capfd.readouterr().err
    begun = after.model.get_layer("dense_1_dense").bias
    assert np.abs(begun.numpy()).max() > 0, "a bias begins at 0: this layer did not train"
    kept = "dense_2_dense"
    np.testing.assert_array_equal(before.model.get_layer(kept).kernel, after.model.get_layer(kept).kernel)


# ---- auxiliary heads


@pytest.mark.slow
def test_auxiliary_heads_train_beside_the_predictions_and_stay_behind(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, traced = keras.Model.train_step, []

    def counted(model: keras.Model, data: Any) -> Any:
        traced.append(data)
        return step(model, data)

    monkeypatch.setattr(keras.Model, "train_step", counted)
    settings = ("width=0.05", "image_size=224", "steps=2", "batch_size=2", "auxiliary=0.3")
    run = training.train(str(pictures), "googlenet", tmp_path / "run", recipe.load("default", settings), unwatched)
    assert len(traced) == 1, "variables are made within the first step: TensorFlow traces it again"
    model = run_folder.load(run.folder).model
    assert model.output_shape == (None, 3)
    assert not [layer.name for layer in model.layers if "auxiliary" in layer.name]
    checkpoint = keras.models.load_model(run.checkpoints / "last.keras")
    assert set(checkpoint.output_names) == {"predictions", "auxiliary_1", "auxiliary_2"}
    for name in ("auxiliary_1", "auxiliary_2", "predictions"):
        assert np.abs(checkpoint.get_layer(name).bias.numpy()).max() > 0, "biases begin at 0: this head did not train"
    np.testing.assert_array_equal(model.get_layer("predictions").bias, checkpoint.get_layer("predictions").bias)
    (row,) = folder.read_history(run.history)
    heads = 0.3 * (row["auxiliary_1_loss"] + row["auxiliary_2_loss"])
    assert row["total_loss"] == pytest.approx(row["loss"] + heads, rel=1e-5)
    assert {"accuracy", "val_loss", "val_accuracy"} <= set(row)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("width=0.5",), "width=0.5 is for a network that begins with random weights, .*: it has the width 1. Leave"),
        (("initial_weights=1.5",), "initial_weights=1.5 is for a network that .*: it has its weights. Leave init"),
        (
            ("epochs=3", "fine_tuning.head_epochs=3"),
            "Of 3 epochs the classifier alone trains in all, since .*head_epochs=3",
        ),
    ],
)
def test_what_trained_weights_leave_no_choice_of_is_refused(
    settings: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    start = untrained(tmp_path / "start", 32, ("a", "b"))
    with pytest.raises(UserError, match=words):
        training.train("photos", None, tmp_path / "run", recipe.load("default", settings), start=start.folder)
    assert not (tmp_path / "run").exists()


def test_members_that_begin_with_trained_weights_differ_in_seed_and_dropout_alone() -> None:
    found = members.recipes(Recipe(seed=3), 4, random=False)
    assert [(each.seed, each.dropout, each.initial_weights) for each in found] == [
        (3, 0.05, 1.0),
        (4, 0.1, 1.0),
        (5, 0.05, 1.0),
        (6, 0.1, 1.0),
    ]
