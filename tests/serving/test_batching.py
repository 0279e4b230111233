"""Requests that wait together: what becomes one call, who gets which answer, and who is left out."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.artefacts import loading
from app.program.errors import UserError
from app.serving import at_work, batches, batching, of_file
from app.serving.batching import Batched, Batcher, Parameters
from app.serving.of_file import OfFile
from app.serving.refusals import RefusedError
from app.serving.signatures import Signature, TensorInfo
from tests.serving.asking import texts


def rows(dtype: str = "DT_INT64", sides: tuple[int, ...] = (-1,), answered: tuple[int, ...] = (-1,)) -> Signature:
    return Signature({"x": TensorInfo("x", dtype, sides)}, {"y": TensorInfo("y", "DT_INT64", answered)})


class Doubles:
    """Says of every number its double, when it is let go, and remembers what it was asked."""

    threads = 1
    signatures: Mapping[str, Signature] = {
        "one": rows(),
        "other": rows(),
        "wide": rows(sides=(-1, -1)),
        "sum": rows(answered=()),
    }

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.asked: list[list[int]] = []

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.asked.append(inputs["x"].ravel().tolist())
        self.begun.set()
        assert self.go.wait(10)
        if -1 in inputs["x"]:
            raise RefusedError("this one is bad")
        if signature == "sum":
            return {"y": inputs["x"].sum()}
        return {"y": 2 * inputs["x"].reshape(len(inputs["x"]), -1)[:, 0]}


def given(*numbers: int) -> dict[str, NDArray[Any]]:
    return {"x": np.array(numbers, np.int64)}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


class Asking:
    """Requests that come one after the other while the first, of 0, is answered."""

    def __init__(self, batched: Batched, pool: ThreadPoolExecutor) -> None:
        self.batched, self.pool = batched, pool

    def __call__(self, *numbers: int, signature: str = "one", task: at_work.Task | None = None) -> Future[Any]:
        waiting = len(self.batched._batcher._queue)

        def ask() -> Any:
            if task is None:
                return self.batched.run(signature, given(*numbers))["y"].tolist()
            with at_work.on(task):
                return self.batched.run(signature, given(*numbers))["y"].tolist()

        future = self.pool.submit(ask)
        until(lambda: len(self.batched._batcher._queue) == waiting + 1)
        return future


@contextmanager
def busy(doubles: Doubles, parameters: Parameters | None = None) -> Iterator[Asking]:
    batched = Batched(doubles, parameters or Parameters())
    with ThreadPoolExecutor(32) as pool:
        first = pool.submit(batched.run, "one", given(0))
        assert doubles.begun.wait(10)
        yield Asking(batched, pool)
        doubles.go.set()
        assert first.result(10)["y"].tolist() == [0]


def test_who_finds_the_network_idle_is_answered_at_once_and_what_comes_meanwhile_becomes_one_call() -> None:
    doubles = Doubles()
    with busy(doubles) as ask:
        assert doubles.asked == [[0]]
        asked = [ask(number) for number in (1, 2, 3, 4)]
    assert [each.result() for each in asked] == [[2], [4], [6], [8]]
    assert doubles.asked == [[0], [1, 2, 3, 4]]


def test_a_batch_is_of_the_size_that_wants_the_least_padding_and_the_rest_waits_for_the_next() -> None:
    doubles = Doubles()
    with busy(doubles) as ask:
        asked = [ask(number) for number in range(1, 7)]
    assert [each.result() for each in asked] == [[2 * number] for number in range(1, 7)]
    assert doubles.asked == [[0], [1, 2, 3, 4], [5, 6]]


def test_what_is_of_no_allowed_size_is_padded_by_its_last_row_and_the_padding_not_answered() -> None:
    doubles = Doubles()
    with busy(doubles, Parameters((1, 4))) as ask:
        asked = [ask(1, 2), ask(7)]
    assert [each.result() for each in asked] == [[2, 4], [14]]
    assert doubles.asked == [[0], [1, 2, 7, 7]]


def test_a_batch_has_the_most_rows_that_are_allowed_and_a_request_of_more_is_asked_in_parts() -> None:
    doubles = Doubles()
    with busy(doubles, Parameters((1, 2))) as ask:
        asked = [ask(1), ask(2, 3), ask(4), ask(5, 6, 7)]
    assert [each.result() for each in asked] == [[2], [4, 6], [8], [10, 12, 14]]
    assert max(map(len, doubles.asked)) == 2
    assert sorted(itertools.chain(*doubles.asked)) == list(range(8))


def test_only_those_of_one_signature_and_shape_become_one_call_and_the_oldest_are_first() -> None:
    doubles = Doubles()
    with busy(doubles) as ask:
        asked = [ask(1), ask(2, signature="other"), ask(3), ask(4, signature="other")]
        other = np.array([[5, 5]]), np.array([[6, 6]]), np.array([[7, 7, 7]])
        pool, wide = ask.pool, []
        for x in other:
            future = pool.submit(ask.batched.run, "wide", {"x": x})
            wide.append(future)
            until(lambda: len(ask.batched._batcher._queue) == len(asked) + len(wide))
        alone = [ask(8, 9, signature="sum"), ask(10, 11, signature="sum")]
    assert [each.result() for each in asked] == [[2], [4], [6], [8]]
    assert [each.result()["y"].tolist() for each in wide] == [[10], [12], [14]]
    assert [each.result() for each in alone] == [17, 21]
    assert doubles.asked == [[0], [1, 3], [2, 4], [5, 5, 6, 6], [7, 7, 7], [8, 9], [10, 11]]


def test_a_bad_request_does_not_fail_its_neighbours_and_is_told_why() -> None:
    doubles = Doubles()
    with busy(doubles) as ask:
        asked = [ask(number) for number in (1, -1, 3, 4)]
    assert [asked[place].result() for place in (0, 2, 3)] == [[2], [6], [8]]
    with pytest.raises(RefusedError, match="this one is bad"):
        asked[1].result()
    assert doubles.asked == [[0], [1, -1, 3, 4], [1], [-1], [3], [4]]


def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    doubles = Doubles()
    late: list[RefusedError] = []
    places = threading.Semaphore(9)

    def task(is_late: bool) -> at_work.Task:
        return at_work.Task(lambda: late[0] if is_late and late else None, places)

    with busy(doubles) as ask:
        asked = [ask(number, task=task(number in (1, 3, 5))) for number in range(1, 6)]
        late.append(RefusedError("too late", "DEADLINE_EXCEEDED"))
    for place in (0, 2, 4):
        with pytest.raises(RefusedError, match="too late"):
            asked[place].result()
    assert [asked[place].result() for place in (1, 3)] == [[4], [8]]
    assert doubles.asked == [[0], [2, 4]]


def test_what_nobody_waits_for_any_more_is_not_asked_alone_either() -> None:
    doubles = Doubles()
    late: list[RefusedError] = []
    places = threading.Semaphore(9)
    with busy(doubles) as ask:
        gone = ask(1, task=at_work.Task(lambda: late[0] if len(doubles.asked) == 2 else None, places))
        asked = [ask(-1), ask(3), ask(4)]
        late.append(RefusedError("too late"))
    with pytest.raises(RefusedError, match="too late"):
        gone.result()
    with pytest.raises(RefusedError, match="this one is bad"):
        asked[0].result()
    assert [each.result() for each in asked[1:]] == [[6], [8]]
    assert doubles.asked == [[0], [1, -1, 3, 4], [-1], [3], [4]]


def test_after_a_failure_while_a_batch_is_made_each_is_answered_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    doubles = Doubles()

    def fail(*_: Any) -> Any:
        raise MemoryError

    with busy(doubles) as ask:
        monkeypatch.setattr(Batcher, "_companions", fail)
        asked = [ask(1), ask(2)]
    assert [each.result(10) for each in asked] == [[2], [4]]
    assert doubles.asked == [[0], [1], [2]]


def test_more_than_the_queue_may_hold_are_refused_as_those_for_later() -> None:
    doubles = Doubles()
    with busy(doubles, Parameters((1, 2), enqueued=2)) as ask:
        asked = [ask(1, 2), ask(3), ask(4)]
        with pytest.raises(RefusedError, match="4 pictures wait for the network already; try again") as caught:
            ask.batched.run("one", given(5))
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    assert [each.result() for each in asked] == [[2, 4], [6], [8]]


def test_answers_are_never_mixed_up() -> None:
    doubles = Doubles()
    doubles.go.set()
    doubles.threads = 2
    batched = Batched(doubles, Parameters())

    def ask(number: int) -> None:
        numbers = [1000 * number + place for place in range(number % 5 + 1)]
        if number % 7 == 0:
            with pytest.raises(RefusedError):
                batched.run("one", given(-1, *numbers))
        signature = "one" if number % 2 else "other"
        assert batched.run(signature, given(*numbers))["y"].tolist() == [2 * each for each in numbers]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(1, 400)))
    assert (batched._batcher._calling, batched._batcher._waiting) == (0, 0)


def test_while_a_request_waits_for_the_network_another_is_read() -> None:
    doubles = Doubles()
    places = threading.Semaphore(1)
    with busy(doubles) as ask:
        asked = [ask(number, task=at_work.Task(lambda: None, places)) for number in (1, 2, 3)]
    assert [each.result() for each in asked] == [[2], [4], [6]]
    assert places.acquire(blocking=False)


def test_work_ends_between_two_parts_when_nobody_waits_for_it() -> None:
    doubles = Doubles()
    doubles.go.set()
    told: Iterator[RefusedError | None] = iter([None, None, None, RefusedError("too late")])
    with (
        pytest.raises(RefusedError, match="too late"),
        at_work.on(at_work.Task(lambda: next(told), threading.Semaphore())),
    ):
        batches.run(doubles, "one", given(*range(100)))
    assert list(map(len, doubles.asked)) == [16, 16]


class Levels:
    """A network that says of a picture its first value, when it is let go."""

    labels = ("dark", "light")

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def answer(self, images: NDArray[Any]) -> NDArray[Any]:
        self.shapes.append(images.shape)
        level = images[:, 0, 0, 0].astype(np.float32)
        return np.stack([-level, level], 1)


def picture(level: int, width: int = 4) -> bytes:
    written = BytesIO()
    Image.new("RGB", (width, 2), (level, 0, 0)).save(written, "PNG")
    return written.getvalue()


def test_the_pictures_of_a_request_that_are_of_one_size_become_one_call() -> None:
    network = Levels()
    served = OfFile(network)
    network.shapes.clear()
    files = [picture(1), picture(2, width=5), b"no picture", picture(3), picture(4, width=5), picture(5)]
    found = served.run("serving_default", {"image_bytes": texts(*files)})
    assert found["scores"].tolist() == [[1, -1], [2, -2], [0, 0], [3, -3], [4, -4], [5, -5]]
    assert [error != b"" for error in found["errors"]] == [False, False, True, False, False, False]
    assert network.shapes == [(3, 2, 4, 3), (2, 2, 5, 3)]
    network.shapes.clear()
    served.run("serving_default", {"image_bytes": texts(*[picture(1)] * 40)})
    assert [shape[0] for shape in network.shapes] == [16, 16, 8]


def test_few_large_pictures_of_a_request_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_file, "TOGETHER", 20)  # pixels: a picture has 8
    network = Levels()
    served = OfFile(network)
    network.shapes.clear()
    served.run("serving_default", {"image_bytes": texts(*[picture(1)] * 7)})
    assert [shape[0] for shape in network.shapes] == [3, 3, 1]


def test_pictures_with_the_memory_of_many_wait_for_each_other_with_their_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(of_file, "TOGETHER", 1)
    places = threading.Semaphore(2)
    held: list[int] = []

    class Looks(Levels):
        def answer(self, images: NDArray[Any]) -> NDArray[Any]:
            held.append(places._value)
            return super().answer(images)

    served = OfFile(Looks())
    held.clear()

    def ask(level: int) -> float:
        with at_work.on(at_work.Task(lambda: None, places)):
            return float(served.run("serving_default", {"image_bytes": texts(picture(level))})["scores"][0, 0])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(1, 40))) == [*range(1, 40)]
    assert len(held) == 39
    assert max(held) <= 1  # that of who asks is not another's
    assert places._value == 2


def test_a_batch_of_pictures_has_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "TOGETHER", 20)
    asked: list[int] = []
    go, begun = threading.Event(), threading.Event()

    def call(key: Any, inputs: Mapping[str, NDArray[Any]], alone: bool) -> Mapping[str, NDArray[Any]]:
        asked.append(len(inputs["x"]))
        begun.set()
        assert go.wait(10)
        return {"y": inputs["x"]}

    batcher = Batcher(call, Parameters(), 1, pad=False)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(6):
            pool.submit(batcher.ask, "pixels", {"x": np.zeros((1, 8), np.uint8)}, 1)
        assert begun.wait(10)
        until(lambda: len(batcher._queue) == 5)
        go.set()
    assert asked == [1, 2, 2, 1]


def test_who_is_alone_has_all_cores_and_a_crowd_is_shared_out_among_the_threads() -> None:
    asked: list[tuple[int, bool]] = []
    go, second = threading.Event(), threading.Event()

    def call(key: Any, inputs: Mapping[str, NDArray[Any]], alone: bool) -> Mapping[str, NDArray[Any]]:
        asked.append((len(inputs["x"]), alone))
        if len(asked) == 2:
            second.set()
        assert go.wait(10)
        return {"y": inputs["x"]}

    batcher = Batcher(call, Parameters(), 2, pad=False)

    def ask(number: int) -> int:
        return int(batcher.ask("numbers", {"x": np.array([number])}, 1)["y"][0])

    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(ask, 0)
        until(lambda: asked == [(1, True)])
        others = [pool.submit(ask, number) for number in range(1, 10)]
        assert second.wait(10)  # beside the first, which is not answered yet
        until(lambda: len(batcher._queue) + asked[1][0] == 9)
        go.set()
        assert [first.result(), *(each.result() for each in others)] == [*range(10)]
    assert sum(rows for rows, _ in asked) == 10
    assert [alone for rows, alone in asked if rows > 1] == [False] * sum(rows > 1 for rows, _ in asked)
    until(lambda: batcher._calling == 0)
    ask(5)
    assert asked[-1] == (1, True)


def test_a_copy_for_one_thread_answers_when_several_wait_and_is_not_kept_if_it_fails() -> None:
    go = threading.Event()
    loaded: list[Levels] = []

    class Wide(Levels):
        def answer(self, images: NDArray[Any]) -> NDArray[Any]:
            assert go.wait(10)
            return super().answer(images)

    class Narrow(Levels):
        def answer(self, images: NDArray[Any]) -> NDArray[Any]:
            if images[0, 0, 0, 0] == 13:
                raise RuntimeError("no")
            return super().answer(images)

    def narrow() -> Levels:
        loaded.append(Narrow())
        return loaded[-1]

    go.set()
    wide = Wide()
    served = OfFile(wide, narrow=narrow)
    served._batcher._at_once = 2  # as with two cores
    assert not loaded

    def ask(level: int) -> float:
        return float(served.run("serving_default", {"image_bytes": texts(picture(level))})["scores"][0, 0])

    with ThreadPoolExecutor(8) as pool:
        go.clear()
        first = pool.submit(ask, 1)
        until(lambda: served._batcher._calling == 1)
        others = [pool.submit(ask, level) for level in (2, 3, 4)]
        assert sorted(each.result(10) for each in others[:2]) == [2, 3]  # while the first is not answered
        go.set()
        assert (first.result(10), others[2].result(10)) == (1, 4)
        assert loaded
        go.clear()
        first = pool.submit(ask, 1)
        until(lambda: served._batcher._calling == 1)
        bad = [pool.submit(ask, 13) for _ in range(2)]
        for each in bad:
            with pytest.raises(RefusedError, match="The network failed at this request"):
                each.result(10)
        assert not served._copies
        go.set()
        assert first.result(10) == 1


PARAMETERS = """
# as TensorFlow Serving reads it
max_batch_size { value: 8 } batch_timeout_micros { value: 0 }
max_enqueued_batches: { value: 3 }
num_batch_threads { value: 4 }; thread_pool_name { value: "a" }
allowed_batch_sizes: 2 allowed_batch_sizes: 8
"""


def test_the_parameters_are_those_of_the_file_beside_the_versions(exported: Path, tmp_path: Path) -> None:
    assert batching.read(exported.parent) == batching.read(tmp_path) == Parameters((1, 2, 4, 8, 16), 100)
    assert (exported.parent / batching.FILE).is_file()
    file = tmp_path / batching.FILE
    file.write_text(PARAMETERS)
    assert batching.read(tmp_path) == Parameters((2, 8), 3)
    file.write_text(f"max_batch_size {{ value: {10**12} }}")
    assert batching.read(tmp_path).fitting(7) == 7
    file.write_text("")  # TensorFlow Serving's own
    assert batching.read(tmp_path) == Parameters(range(1, 1001), 10)
    assert batching.read(tmp_path).fitting(7) == 7


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("max_batch_size { value: ", "cannot be read"),
        ("max_batch_sise { value: 3 }", "max_batch_sise"),
        ("max_batch_size { value: 3 } allowed_batch_sizes: 4", "do not rise from 1 or more to its max_batch_size, 3"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: [2, 1, 4]", "do not rise"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: [0, 4]", "do not rise"),
        ("max_batch_size { value: 0 }", "do not rise"),
        ("max_enqueued_batches { value: 0 }", "are 0; 1 is the least"),
    ],
)
def test_parameters_that_are_none_are_one_sentence(said: str, why: str, tmp_path: Path) -> None:
    (tmp_path / batching.FILE).write_text(said)
    with pytest.raises(UserError) as caught:
        batching.read(tmp_path)
    assert why in str(caught.value)
    assert str(tmp_path / batching.FILE) in str(caught.value)


def test_pictures_asked_at_once_of_a_real_file_have_the_answers_that_they_have_alone(exported: Path) -> None:
    files = [file.read_bytes() for file in sorted((exported / "golden").glob("*.*")) if file.suffix != ".json"]
    served = OfFile(loading.load(exported / "model.tflite"))

    def ask(file: bytes) -> NDArray[Any]:
        return served.run("serving_default", {"image_bytes": texts(file)})["scores"]

    alone = [ask(file) for file in files]
    assert len({tuple(scores[0]) for scores in alone}) > len(files) // 2
    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(ask, files * 3), alone * 3, strict=True):
            assert found == pytest.approx(wanted, abs=1e-5)
