"""From the folder of an export, and the command line, to what is served."""

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from app.program.errors import UserError
from app.program.files import digest
from app.serving import configuration, needed, opening, server, starting
from app.serving.client import Client
from app.serving.models import Wanted
from tests.makers import exports


@pytest.fixture
def light(exported: Path, tmp_path: Path) -> Path:
    """The version folder of an export that is a LiteRT file alone, under the root `pictures`."""
    (tmp_path / "pictures").mkdir()
    return exports.without(exported, tmp_path / "pictures" / "1", *exports.SAVED_MODEL, "assets")


def test_what_a_folder_means_its_networks_and_of_each_the_latest_version_or_those_that_are_asked_for(
    light: Path,
) -> None:
    root = light.parent.parent
    shutil.copytree(light, light.parent / "0002")
    (light.parent / "notes").mkdir()
    (root / "notes").mkdir()
    for named in (light.parent, root):
        (served,) = configuration.of_export(named)
        assert (served.name, sorted(served.folders())) == ("pictures", [1, 2])
        assert served.policy.wanted(served.folders()) == {2}
        (served,) = configuration.of_export(named, "all", {"stable": 1})
        assert (served.policy.wanted(served.folders()), served.labels) == ({1, 2}, {"stable": 1})
        (served,) = configuration.of_export(named, "1, 3")
        assert served.policy.wanted(served.folders()) == {1}
    (served,) = configuration.of_export(light)
    assert (served.name, served.policy.wanted(served.folders())) == ("pictures", {1})
    copied = shutil.copytree(light, root / "elsewhere")
    (served,) = configuration.of_export(copied)
    assert (served.name, served.folders()) == ("elsewhere", {1: copied})
    shutil.rmtree(copied)
    (root / "others" / "7").mkdir(parents=True)
    assert [each.name for each in configuration.of_export(root)] == ["others", "pictures"]
    with pytest.raises(UserError, match=r"holds the exports of 2 networks, and --label is of one; name that one\."):
        configuration.of_export(root, None, {"stable": 1})
    with pytest.raises(UserError, match=r"1 is one version; leave out --versions"):
        configuration.of_export(light, "all")
    with pytest.raises(UserError, match=r"'newest' says no versions: --versions latest, --versions all, or numbers"):
        configuration.of_export(light.parent, "newest")
    with (
        pytest.raises(UserError, match="holds the exports of 2 networks; name one of them"),
        starting.in_background(root),
    ):
        pass


def test_a_notebook_serves_an_export_in_its_own_process(light: Path, exported: Path) -> None:
    golden = json.loads((exported / "golden" / "golden.json").read_text())
    with starting.in_background(light.parent) as url:
        assert url.endswith("/v1/models/pictures")
        rows = list(Client(url).predict((exported / "golden" / image["file"]).read_bytes() for image in golden))
    labels = json.loads((exported / "certificate.json").read_text())["labels"]
    assert [row.classes[0] for row in rows] == [labels[np.argmax(image["probabilities"])] for image in golden]
    with pytest.raises(UserError, match="does not answer"):
        Client(url).status()


def test_a_notebook_is_told_which_versions_are_not_served(light: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = shutil.copytree(light, light.parent / "2")
    (second / "model.tflite").unlink()
    with starting.in_background(light.parent):
        pass
    assert capsys.readouterr().out.startswith(f"Not served: {second} has lost model.tflite")


def test_networks_of_a_configuration_are_served_together(light: Path, tmp_path: Path) -> None:
    shutil.copytree(light, light.parent / "2")
    shutil.copytree(light.parent, tmp_path / "others")
    file = tmp_path / "models.config"

    def prepared(label: int) -> starting.Prepared:
        both = f"model_version_policy {{ all {{}} }} version_labels {{ key: 'stable' value: {label} }}"
        models = [f'name: "a b" base_path: "{light.parent}" {both}', f'name: "others" base_path: "{tmp_path}/others"']
        configs = "".join(f"config {{ {model} model_platform: 'tensorflow' }}" for model in models)
        file.write_text(f"model_config_list {{ {configs} }}")
        return starting.prepare(None, config_file=file)

    found = prepared(1)
    found.listening.close()
    assert [url.rpartition("/models/")[2] for url in found.urls.values()] == ["a%20b", "others"]
    assert {name: model.available for name, model in found.models.models.items()} == {"a b": [1, 2], "others": [2]}
    assert found.models.find(Wanted("a b", label="stable"))[0] == 1
    with pytest.raises(UserError, match="to version 3 of model a b, which is not currently available for inference"):
        prepared(3)


def test_a_folder_without_versions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not an export: it holds no version folder. `export RUN --to FOLDER`"):
        configuration.of_export(tmp_path)


def test_a_version_whose_files_are_not_those_certified_is_refused_and_named_in_the_status(light: Path) -> None:
    second = shutil.copytree(light, light.parent / "2")
    with (second / "model.tflite").open("ab") as file:
        file.write(b"x")
    told: list[str] = []
    prepared = starting.prepare(light.parent, tell=told.append)
    prepared.listening.close()
    assert prepared.models.find(Wanted("pictures"))[0] == 1
    said = f"{second}/model.tflite is not the file that was certified. Export the run again."
    assert told == [f"Not served: {said}"]
    status = prepared.models.status(Wanted("pictures"))["model_version_status"]
    assert [(each["version"], each["state"], each["status"]["error_message"]) for each in status] == [
        ("2", "END", said),
        ("1", "AVAILABLE", ""),
    ]
    said = "version 2 of model pictures, which is not currently available for inference; 'new' can be of 1."
    with pytest.raises(UserError, match=f"Request to assign label to {said}"):
        starting.prepare(light.parent, labels={"new": 2})
    shutil.rmtree(light)
    with pytest.raises(UserError, match="is not the file that was certified"):
        starting.prepare(light.parent)


def test_an_export_that_lost_a_file_or_its_certificate_or_disagrees_is_refused(light: Path) -> None:
    certificate = light / "certificate.json"
    opening.check(light)
    exports.change(light, lambda content: content.update(ok=False))
    with pytest.raises(UserError, match="disagrees with its network, as its certificate says"):
        opening.check(light)
    (light / "model.tflite").unlink()
    with pytest.raises(UserError, match=r"has lost model.tflite, which its certificate names. Export the run again."):
        opening.check(light)
    for content in ("[]", "{", '{"ok": true, "sha256": []}'):
        certificate.write_text(content)
        with pytest.raises(UserError, match="has no readable certificate"):
            opening.check(light)


@pytest.mark.parametrize("added", ["model.int8.tflite", "model.xml", "golden/more.png"])
def test_what_was_never_certified_is_not_served(light: Path, added: str) -> None:
    """`auto` would prefer an OpenVINO file, and a name could ask for any."""
    shutil.copy(light / "model.tflite", light / added)
    with pytest.raises(UserError, match=rf"1/{added} was never certified\. Move it elsewhere, or export "):
        opening.load(light, "auto")


def test_a_certificate_that_somebody_altered_is_none(light: Path) -> None:
    certificate = light / "certificate.json"
    content = json.loads(certificate.read_text())
    with (light / "model.tflite").open("ab") as file:
        file.write(b"x")
    content["sha256"]["files"]["model.tflite"] = digest(light / "model.tflite")
    certificate.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"certificate\.json was altered since it was written\. Export the run again\."):
        opening.load(light)


def test_a_file_that_does_not_load_is_named(light: Path) -> None:
    (light / "model.tflite").write_bytes(b"no network")
    exports.certify_again(light)
    with pytest.raises(UserError, match=r"model.tflite cannot be loaded: "):
        opening.load(light, "tflite")
    with pytest.raises(UserError, match="has no artefact 'onnx'; it has tflite"):
        opening.load(light, "onnx")


def test_a_port_in_use_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 is in use; choose another --port."):
            server.listen("127.0.0.1", port)
    with server.listen("127.0.0.1", 0) as free:
        assert free.getsockname()[0] == "127.0.0.1"
    with pytest.raises(UserError, match=r"There is no host 'no.such.host.invalid' on this machine"):
        server.listen("no.such.host.invalid", 0)


def test_the_token_is_of_a_file_or_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server.token(None) is None
    monkeypatch.setenv("SERVE_TOKEN", "a\n")
    (tmp_path / "token").write_text("b\n")
    assert (server.token(None), server.token(tmp_path / "token")) == ("a", "b")
    (tmp_path / "token").write_text("\n")
    with pytest.raises(UserError, match="holds no token"):
        server.token(tmp_path / "token")
    with pytest.raises(UserError, match="The token cannot be read from"):
        server.token(tmp_path / "absent")
    monkeypatch.setenv("SERVE_TOKEN", "")
    with pytest.raises(UserError, match="SERVE_TOKEN holds no token"):
        server.token(None)


def test_without_the_extra_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    needed.check()
    for name in ("starlette", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"needs starlette and uvicorn, .* -c constraints.txt -e .\.\[app,serve\]"):
        needed.check()
