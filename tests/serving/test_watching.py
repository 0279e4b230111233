"""Versions come and go while they are served: what is loaded, swapped in, refused and let go. The networks are fakes
that answer with what is in their folder."""

import gc
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.program.errors import UserError
from app.serving import watching
from app.serving.configuration import ALL, LATEST, Policy, Served
from app.serving.messages import message
from app.serving.models import Models, Wanted
from app.serving.refusals import RefusedError
from app.serving.watching import Watching
from tests.serving.asking import Echo

NAME = Wanted("net")
END, UNLOADING, AVAILABLE, START, LOADING = "END", "UNLOADING", "AVAILABLE", "START", "LOADING"


def version(base: Path, number: int, content: str = "") -> Path:
    """A folder whose network answers its number, or with other content is none."""
    folder = base / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network").write_text(content or str(number))
    return folder


class Disk:
    """`base` is watched. `states` are those of the status, `tries` the folders that were loaded or should have been."""

    def __init__(self, base: Path) -> None:
        self.base, self.models = base, Models({})
        self.told: list[str] = []
        self.tries: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.watching = Watching(self.models, self.load, self.told.append)

    def load(self, folder: Path) -> Echo:
        self.tries.append(folder.name)
        self.meanwhile()
        content = (folder / "network").read_text()
        if not content.isdecimal():
            raise UserError(f"{folder.name} is broken: {content}.")
        return Echo(int(content))

    def serve(self, policy: Policy = LATEST, **labels: int) -> None:
        self.watching.apply([Served("net", self.base, policy, labels)])

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.watching.poll()

    @property
    def states(self) -> dict[int, str]:
        return {int(each["version"]): each["state"] for each in self.models.status(NAME)["model_version_status"]}

    def answers(self, **wanted: object) -> int:
        number, servable = self.models.find(Wanted("net", **wanted))  # type: ignore[arg-type]
        (said,) = servable.run("number", {"x": np.zeros(1)})["version"]
        assert said == number
        return number


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(gc, "collect", lambda: None)  # slow where TensorFlow has been imported, and not needed
    return Disk(tmp_path / "exports" / "net")


def test_a_new_version_takes_over_and_the_old_one_goes(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve()
    assert (disk.answers(), disk.states) == (1, {1: AVAILABLE})
    version(disk.base, 2)
    (disk.base / ".incomplete-3-99").mkdir()
    during: list[object] = []
    disk.meanwhile = lambda: during.extend((disk.answers(), disk.states))
    disk.look(1)  # it may still be copied
    assert (disk.answers(), disk.states) == (1, {1: AVAILABLE, 2: START})
    disk.look(1)
    assert during == [1, {1: AVAILABLE, 2: LOADING}]
    assert (disk.answers(), disk.states[2]) == (2, AVAILABLE)
    with pytest.raises(RefusedError, match=r"Servable not found for request: Specific\(net, 1\)"):
        disk.answers(version=1)
    disk.look(2)
    assert disk.states == {1: END, 2: AVAILABLE}
    disk.look(5)
    assert disk.tries == ["1", "2"]


def test_an_old_version_answers_what_it_has_begun(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve()
    _, begun = disk.models.find(NAME)
    version(disk.base, 2)
    disk.look(4)
    assert disk.states == {1: UNLOADING, 2: AVAILABLE}
    assert begun.run("number", {"x": np.zeros(1)})["version"] == [1]
    del begun
    disk.look(2)
    assert disk.states == {1: END, 2: AVAILABLE}


def test_the_memory_of_what_has_gone_is_free_though_it_refers_to_itself(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    version(disk.base, 1)
    disk.serve()
    _, old = disk.models.find(NAME)
    old.itself = old  # type: ignore[attr-defined]
    version(disk.base, 2)
    disk.look()
    ref = weakref.ref(old)
    del old
    disk.look(1)
    assert ref() is None


def test_without_the_newest_version_the_one_before_is_back_and_without_any_there_is_none(disk: Disk) -> None:
    for number in (1, 2):
        version(disk.base, number)
    disk.serve()
    assert (disk.tries, disk.states) == (["2"], {2: AVAILABLE})
    shutil.rmtree(disk.base / "2")
    disk.look(1)
    assert disk.answers() == 2  # until the other is loaded
    disk.look(1)
    assert (disk.answers(), disk.states[1]) == (1, AVAILABLE)
    shutil.rmtree(disk.base / "1")
    disk.look(1)
    with pytest.raises(RefusedError, match=r"Servable not found for request: Latest\(net\)"):
        disk.answers()
    assert not disk.models.ready
    disk.look(2)
    assert disk.states == {1: END, 2: END}
    version(disk.base, 1)
    disk.look(2)
    assert disk.answers() == 1


def test_a_folder_that_cannot_be_looked_at_takes_nothing_away(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve()
    disk.base.rename(disk.base.with_name("moved"))
    disk.look(3)
    assert disk.answers() == 1
    assert disk.told == [f"{disk.base} cannot be looked at: No such file or directory."]


def test_a_broken_version_is_refused_once_until_its_files_change_and_the_old_one_answers(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve()
    version(disk.base, 2, "lost a file")
    disk.look(5)
    assert (disk.answers(), disk.states, disk.tries) == (1, {1: AVAILABLE, 2: END}, ["1", "2"])
    assert disk.told == ["Not served: 2 is broken: lost a file."]
    (status,) = disk.models.status(Wanted("net", 2))["model_version_status"]
    assert status["status"] == {"error_code": "UNKNOWN", "error_message": "2 is broken: lost a file."}
    # The files that were missing come, one by one.
    (disk.base / "2" / "other").touch()
    disk.look(2)
    assert (disk.answers(), disk.tries) == (1, ["1", "2", "2"])
    (disk.base / "2" / "network").write_text("still copied")
    disk.look(1)
    assert disk.states == {1: AVAILABLE, 2: START}
    (disk.base / "2" / "network").write_text("2")
    disk.look(1)
    assert disk.tries == ["1", "2", "2"]
    disk.look(1)
    assert (disk.answers(), disk.tries, len(disk.told)) == (2, ["1", "2", "2", "2"], 1)


def test_a_version_that_did_not_load_for_a_while_is_tried_again_but_not_for_ever(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    def fail() -> None:
        raise failure

    version(disk.base, 1)
    disk.serve()
    version(disk.base, 2)
    disk.meanwhile = fail
    failure: BaseException = MemoryError("no room")
    disk.look(3)
    assert (disk.answers(), disk.tries) == (1, ["1", "2"])
    for _ in range(9):
        failure = SystemExit("gone")
        now += 61
        disk.look(3)
    assert (disk.answers(), disk.states) == (1, {1: AVAILABLE, 2: END})
    assert disk.tries == ["1"] + ["2"] * 6
    assert disk.told == ["Not served: no room", "Not served: gone"]
    (disk.base / "2" / "more").touch()
    disk.look(3)
    disk.meanwhile = lambda: None
    now += 61
    disk.look(1)
    assert (disk.answers(), disk.states) == (2, {1: END, 2: AVAILABLE})
    disk.look(5)
    assert disk.tries == ["1"] + ["2"] * 8


def test_files_that_change_while_they_are_loaded_are_loaded_again(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve()
    version(disk.base, 2, "half")
    disk.look(1)
    disk.meanwhile = lambda: (disk.base / "2" / "more").touch()
    disk.look(1)
    disk.meanwhile = lambda: version(disk.base, 2)
    disk.look(2)
    assert disk.answers() == 2


def test_what_is_deleted_while_the_only_other_version_is_broken_still_answers(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve()
    version(disk.base, 2, "no network")
    disk.look(2)
    shutil.rmtree(disk.base / "1")
    disk.look(3)
    assert (disk.answers(), disk.states) == (1, {1: AVAILABLE, 2: END})
    version(disk.base, 3)
    disk.look(4)
    assert (disk.answers(), disk.states) == (3, {1: END, 2: END, 3: AVAILABLE})


def test_a_start_serves_the_newest_version_that_is_not_broken_or_says_why_there_is_none(disk: Disk) -> None:
    version(disk.base, 1)
    version(disk.base, 2, "a")
    version(disk.base, 3, "b")
    disk.serve()
    assert (disk.answers(), disk.states) == (1, {1: AVAILABLE, 2: END, 3: END})
    shutil.rmtree(disk.base / "1")
    other = Disk(disk.base)
    with pytest.raises(RefusedError, match="3 is broken: b"):
        other.serve()


@pytest.mark.parametrize(
    ("policy", "served"),
    [(LATEST, {4}), (Policy(latest=2), {3, 4}), (ALL, {1, 3, 4}), (Policy(numbers=frozenset({1, 3})), {1, 3})],
)
def test_a_policy_says_which_versions_are_served(disk: Disk, policy: Policy, served: set[int]) -> None:
    for number in (1, 3, 4):
        version(disk.base, number)
    disk.serve(policy)
    assert {number for number, state in disk.states.items() if state == AVAILABLE} == served
    assert disk.answers() == max(served)
    assert disk.tries == [str(number) for number in sorted(served, reverse=True)]


def test_a_version_that_is_asked_for_and_not_there_is_served_when_it_comes(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve(Policy(numbers=frozenset({1, 2})))
    disk.look(2)
    assert disk.told == [f"{disk.base} has no version 2 yet."]
    version(disk.base, 2)
    version(disk.base, 3)
    disk.look(3)
    assert disk.states == {1: AVAILABLE, 2: AVAILABLE}
    with pytest.raises(RefusedError, match="has no version of model net that is asked for; it has 1, 2, 3"):
        disk.serve(Policy(numbers=frozenset({7})))
    assert disk.answers() == 2


def test_labels_are_of_versions_that_are_available_when_these_are_loaded_and_move_together(disk: Disk) -> None:
    for number in (1, 2):
        version(disk.base, number)
    disk.serve(ALL, stable=1, canary=2)
    assert (disk.answers(label="stable"), disk.answers(label="canary")) == (1, 2)
    disk.serve(ALL, stable=2)
    assert disk.answers(label="stable") == 2
    with pytest.raises(RefusedError, match="Unrecognized servable version label: canary"):
        disk.answers(label="canary")
    said = "Request to assign label to version 3 of model net, which is not currently available for inference"
    with pytest.raises(RefusedError, match=said) as refused:
        disk.serve(LATEST, stable=3)
    assert refused.value.code == "FAILED_PRECONDITION"
    disk.look()
    assert (disk.answers(label="stable"), disk.states) == (2, {1: AVAILABLE, 2: AVAILABLE})


def test_a_configuration_takes_the_place_of_another_when_all_of_it_is_there(disk: Disk) -> None:
    version(disk.base, 1)
    other, broken = disk.base.with_name("other"), disk.base.with_name("broken")
    version(other, 5)
    version(broken, 1, "no network")
    disk.serve()
    disk.meanwhile = lambda: ready.append(disk.models.ready)
    ready: list[bool] = []
    with pytest.raises(RefusedError, match="1 is broken: no network"):
        disk.watching.apply([Served("other", other), Served("net", broken)])
    assert sorted(disk.models.models) == ["net"]
    assert disk.answers() == 1
    disk.watching.apply([Served("other", other), Served("third", disk.base)])
    assert sorted(disk.models.models) == ["other", "third"]
    assert disk.models.find(Wanted("other"))[0] == 5
    disk.look(3)
    assert sorted(disk.models.models) == ["other", "third"]
    assert disk.models.ready
    assert ready == [True] * 4


def test_what_is_exported_anew_in_the_place_of_a_version_takes_its_place(disk: Disk) -> None:
    version(disk.base, 1)
    certificate = disk.base / "1" / "certificate.json"
    certificate.write_text("old")
    disk.serve()
    _, before = disk.models.find(NAME)
    (disk.base / "1" / "other").touch()
    certificate.rename(certificate.with_name("hidden"))
    disk.look(3)
    certificate.with_name("hidden").rename(certificate)
    disk.look(3)
    assert disk.models.find(NAME)[1] is before
    shutil.rmtree(disk.base)
    disk.look(1)
    version(disk.base, 1)
    certificate.write_text("new")
    disk.look(1)
    assert (disk.models.find(NAME)[1] is before, disk.states) == (True, {1: AVAILABLE})
    disk.look(1)
    assert (disk.models.find(NAME)[1] is before, disk.states) == (False, {1: AVAILABLE})
    disk.look(3)
    assert disk.tries == ["1", "1"]
    # One that is broken takes no place.
    disk.serve(ALL)
    version(disk.base, 2)
    disk.look(2)
    version(disk.base, 1, "no network")
    certificate.write_text("broken")
    disk.look(5)
    assert (disk.tries[2:], disk.states) == (["2", "1"], {1: AVAILABLE, 2: AVAILABLE})


def test_a_configuration_that_is_refused_changes_no_answer_not_even_while_it_is_tried(disk: Disk) -> None:
    for number in (1, 2):
        version(disk.base, number)
    other, bad = disk.base.with_name("other"), disk.base.with_name("bad")
    for number in (1, 3):
        version(other, number)
    version(other, 2, "no network")
    version(bad, 1, "no network")
    disk.serve(ALL)
    before = {number: disk.models.find(Wanted("net", number))[1] for number in (1, 2)}

    def now() -> tuple[object, ...]:
        found = {number: disk.models.find(Wanted("net", number))[1] for number in (1, 2)}
        return found, disk.answers(), sorted(disk.models.models)

    seen: list[object] = []
    disk.meanwhile = lambda: seen.append(now())
    with pytest.raises(RefusedError, match="1 is broken: no network"):
        disk.watching.apply([Served("net", other, ALL), Served("new", other, ALL), Served("bad", bad)])
    assert disk.tries[2:] == ["3", "2", "1"] * 2 + ["1"]
    assert [*seen, now()] == [(before, 2, ["net"])] * 8
    assert disk.states == {1: AVAILABLE, 2: AVAILABLE}
    disk.look(3)
    assert now() == (before, 2, ["net"])
    disk.watching.apply([Served("net", other, ALL)])
    assert disk.models.find(Wanted("net", 1))[1] is not before[1]
    assert disk.states == {1: AVAILABLE, 2: END, 3: AVAILABLE}


def test_of_names_that_were_refused_nothing_is_kept(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve()
    for number in range(9):
        with pytest.raises(RefusedError):
            disk.watching.apply([Served("a" * number, disk.base / "nowhere")])
    version(disk.base.with_name("other"), 1)
    disk.watching.apply([Served("b", disk.base.with_name("other"))])
    disk.serve()
    disk.look(3)
    assert [*disk.watching._networks] == ["net"]
    assert not disk.watching._told


def test_a_version_of_another_folder_is_another_one(disk: Disk) -> None:
    version(disk.base, 1)
    disk.serve()
    moved = disk.base.with_name("moved")
    version(moved, 1)
    _, before = disk.models.find(NAME)
    disk.watching.apply([Served("net", moved)])
    _, after = disk.models.find(NAME)
    assert before is not after
    assert disk.states == {1: AVAILABLE}


def test_a_thread_of_its_own_looks_while_it_is_wanted(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SECONDS", 0.01)
    version(disk.base, 1)
    disk.serve()
    loading, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        loading.set()
        assert go_on.wait(10)

    disk.meanwhile = meanwhile
    with disk.watching:
        version(disk.base, 2)
        disk.watching._config["later"] = Served("later", version(disk.base.with_name("later"), 7).parent)
        assert loading.wait(10)
        assert (disk.answers(), disk.states) == (1, {1: AVAILABLE, 2: LOADING})
        go_on.set()
    # What was being loaded when it ended is there.
    assert disk.answers() == 2
    version(disk.base, 3)
    assert disk.tries == ["1", "2"]


def test_a_request_says_what_is_served_but_only_beside_what_is(disk: Disk) -> None:
    version(disk.base, 1)
    version(disk.base.with_name("other"), 5)
    version(disk.base.parent.with_name("secret"), 1)
    disk.serve()

    def reload(**bases: object) -> None:
        config = message("tensorflow.serving.ModelServerConfig")()
        for name, base in bases.items():
            config.model_config_list.config.add(name=name, base_path=str(base), model_platform="tensorflow")
        assert disk.models.reload
        disk.models.reload(config)

    version(disk.base.with_name("other") / "inner", 1)
    reload(other=disk.base.with_name("other") / "inner")
    reload(net=disk.base, other=disk.base.with_name("other"))
    assert sorted(disk.models.models) == ["net", "other"]
    circle = disk.base.parent / "circle"
    circle.symlink_to(circle)
    secret = disk.base.parent.with_name("secret")
    for outside in (secret, disk.base / ".." / ".." / "secret", disk.base.parent, f"{disk.base}\0", circle):
        with pytest.raises(RefusedError, match=f"The base_path of model a is not in {disk.base.parent}; start") as no:
            reload(a=outside)
        assert no.value.code == "PERMISSION_DENIED"
    assert sorted(disk.models.models) == ["net", "other"]


def test_the_file_of_a_configuration_is_read_again_where_that_is_asked_for(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SECONDS", 0.01)
    file = tmp_path / "models.config"

    def say(versions: int) -> None:
        policy = f"specific {{ versions: {versions} }}"
        model = f"name: 'net' base_path: '{disk.base}' model_platform: 'tensorflow' model_version_policy {{ {policy} }}"
        file.write_text(f"model_config_list {{ config {{ {model} }} }}")

    for number in (1, 2):
        version(disk.base, number)
    say(1)
    following = Watching(disk.models, disk.load, disk.told.append, file, 0.02)
    following.apply([Served("net", disk.base, Policy(numbers=frozenset({1})))])

    def until(there: Callable[[], bool]) -> None:
        wait = threading.Event()
        assert any(there() or wait.wait(0.01) for _ in range(1000))

    with following:
        say(2)
        until(lambda: disk.answers() == 2)
        file.write_text("model_config_list { config { nam")
        until(lambda: bool(disk.told))
        assert disk.told[0].startswith(f"The configuration stays as it was: {file} cannot be read as a model")
        threading.Event().wait(0.1)
        assert disk.answers() == 2
    assert len(disk.told) == 1


def test_a_configuration_whose_version_is_still_copied_is_served_when_it_is_there(disk: Disk, tmp_path: Path) -> None:
    file = tmp_path / "models.config"

    def say(label: int) -> None:
        model = f"name: 'net' base_path: '{disk.base}' model_platform: 'tensorflow' model_version_policy {{ all {{}} }}"
        labels = f"version_labels {{ key: 'new' value: {label} }}"
        file.write_text(f"model_config_list {{ config {{ {model} {labels} }} }}")

    version(disk.base, 1)
    say(1)
    following = Watching(disk.models, disk.load, disk.told.append, file, 1)
    following.apply([Served("net", disk.base, ALL, {"new": 1})])
    version(disk.base, 2, "half")
    say(2)
    for _ in range(3):
        following._look_at_file(1)
    assert (disk.answers(label="new"), disk.tries) == (1, ["1", "2"])
    said = "The configuration stays as it was: Request to assign label to version 2 of model net"
    assert [each.startswith(said) for each in disk.told] == [False, True]
    version(disk.base, 2)
    following._look_at_file(1)
    assert (disk.answers(label="new"), disk.tries) == (2, ["1", "2", "2"])
    say(3)
    for _ in range(2):
        following._look_at_file(1)
    say(2)
    following._look_at_file(1)
    say(3)
    following._look_at_file(1)
    assert [each.startswith(said.replace("2", "3")) for each in disk.told[2:]] == [True, True]
    assert disk.answers(label="new") == 2
