"""What TensorFlow Serving's models.config says, and what it is refused for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.commands.serving import serve
from app.program.errors import UserError
from app.serving import configuration
from app.serving.configuration import ALL, LATEST, Policy, Served

NET = 'name: "net" base_path: "/" model_platform: "tensorflow"'


def read(folder: Path, *models: str) -> list[Served]:
    file = folder / "models.config"
    file.write_text("model_config_list {" + "".join(f" config {{ {model} }}" for model in models) + "}")
    return configuration.of_file(file)


def test_a_configuration_is_read_as_tensorflow_serving_reads_it(tmp_path: Path) -> None:
    logging = 'logging_config { log_collector_config { filename_prefix: "a" } sampling_config { sampling_rate: 0.1 } }'
    found = read(
        tmp_path,
        NET,
        'name: "two", base_path: "/tmp", model_type: TENSORFLOW # a comment\n model_version_policy { latest {} }',
        f'name: "last" base_path: "/" model_platform: "tensorflow" {logging} '
        "model_version_policy { latest { num_versions: 2 } }",
        'name: "all" base_path: "/" model_platform: "tensorflow" model_version_policy: { all: {} }',
        'name: "some" base_path: "/" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 3 versions: 4 } } "
        'version_labels { key: "stable" value: 3 } version_labels { key: "canary" value: 4 }',
    )
    assert found == [
        Served("net", Path("/"), LATEST),
        Served("two", Path("/tmp"), LATEST),
        Served("last", Path("/"), Policy(latest=2)),
        Served("all", Path("/"), ALL),
        Served("some", Path("/"), Policy(numbers=frozenset({3, 4})), {"stable": 3, "canary": 4}),
    ]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([NET, NET], "Illegal to list model net multiple times in config list"),
        (['base_path: "/" model_platform: "tensorflow"'], "A model of the config list has no name."),
        (
            ['name: "net" base_path: "exports/net" model_platform: "tensorflow"'],
            r"Expected model net to have an absolute path or URI; got base_path\(\)=exports/net",
        ),
        (['name: "net" model_platform: "tensorflow"'], r"Expected model net to have an absolute path"),
        (['name: "net" base_path: "gs://a/b" model_platform: "tensorflow"'], "net, gs://a/b, is no folder on this ma"),
        (['name: "net" base_path: "/"'], "Illegal setting neither ModelServerConfig::model_type"),
        ([f"{NET} model_type: TENSORFLOW"], "Illegal setting both ModelServerConfig::model_type"),
        (['name: "net" base_path: "/" model_type: OTHER'], "ModelServerConfig::model_type choice 2 not supported"),
        (['name: "net" base_path: "/" model_platform: "onnx"'], "is of the platform onnx; only tensorflow is served"),
        ([], "has no model_config_list with a model in it"),
        (["nam: 1"], r"cannot be read as a model configuration: 1:30 : .*no field named \"nam\""),
        (['name: "net" base_path: "/no/such"  model_platform: "tensorflow"'], "/no/such, is no folder on this machine"),
    ],
)
def test_what_it_would_not_serve_is_one_sentence_that_names_the_file(
    tmp_path: Path, models: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        read(tmp_path, *models)
    assert str(tmp_path / "models.config") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_custom_configuration_is_refused_and_so_is_no_file(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    with pytest.raises(UserError, match=r"models\.config cannot be read as a model configuration: No such file"):
        configuration.of_file(file)
    file.write_text('custom_model_config { type_url: "a" }')
    with pytest.raises(UserError, match="has no model_config_list with a model in it, and nothing else is served here"):
        configuration.of_file(file)


def test_what_an_export_writes_for_a_container_names_the_way_to_serve_it_here(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    with pytest.raises(UserError, match=rf"/models/flowers, is no folder .*; `serve {tmp_path}/flowers` serves the ex"):
        read(tmp_path / "flowers", 'name: "flowers" base_path: "/models/flowers" model_platform: "tensorflow"')


def test_what_is_served_is_said_in_one_place(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    for export, config_file in ((None, None), (tmp_path, file)):
        with pytest.raises(UserError, match=r"Say what to serve: EXPORT, or --model-config-file FILE\."):
            serve(export, config_file=config_file)
    with pytest.raises(UserError, match="With --model-config-file, versions and labels are said in that file"):
        serve(None, config_file=file, label=["stable=1"])
    with pytest.raises(UserError, match="With --model-config-file, versions and labels are said in that file"):
        serve(None, config_file=file, versions="all")


def test_folders_whose_names_are_numbers_of_64_bits_are_versions(tmp_path: Path) -> None:
    for name in ("1", "00000123", str(2**63), "a", "-1", ".incomplete-2-3"):
        (tmp_path / name).mkdir()
    (tmp_path / "7").touch()
    assert Served("net", tmp_path).folders() == {1: tmp_path / "1", 123: tmp_path / "00000123"}


def test_what_nobody_may_look_into_beside_the_exports_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net" / "1").mkdir(parents=True)
    (tmp_path / "lost+found").mkdir()  # of a volume

    def denied(method: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def call(path: Path) -> Any:
            if "lost+found" in path.parts:
                raise PermissionError(13, "Permission denied")
            return method(path)

        return call

    for name in ("iterdir", "is_file"):
        monkeypatch.setattr(Path, name, denied(getattr(Path, name)))
    assert [served.name for served in configuration.of_export(tmp_path)] == ["net"]
