"""Many pictures in one request: how many there may be, and how they reach the network."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.serving import answering, batches
from app.serving.models import Model, Models, Version, Wanted
from app.serving.of_file import OfFile
from app.serving.refusals import RefusedError
from app.serving.signatures import Signature, TensorInfo


class Counts:
    """Says of every row of pixels its sum, and remembers of how many it was asked at once."""

    threads = 1
    signatures: Mapping[str, Signature]

    def __init__(self, first: int = -1) -> None:
        infos = TensorInfo("x", "DT_UINT8", (-1, -1, -1, 3)), TensorInfo("y", "DT_INT64", (first,))
        self.signatures = {"serving_default": Signature({"x": infos[0]}, {"y": infos[1]})}
        self.asked: list[int] = []

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.asked.append(len(inputs["x"]))
        return {"y": inputs["x"].astype(np.int64).sum((1, 2, 3))}


def predict(servable: Any, request: Mapping[str, Any], ask: Any = answering.predict) -> Any:
    models = Models({"m": Model({1: Version(servable)}, {})})
    return json.loads(ask(models, Wanted("m"), json.dumps(request).encode())[0])


def test_many_rows_reach_the_network_a_few_at_a_time_and_come_back_in_their_order() -> None:
    counts = Counts()
    pixels = [[[[place % 256, place // 256, 0]]] for place in range(100)]
    assert predict(counts, {"inputs": pixels})["outputs"] == list(range(100))
    assert counts.asked == [16] * 6 + [4]
    counts.asked.clear()
    predict(counts, {"instances": pixels[:16]})
    assert counts.asked == [16]


def test_a_signature_whose_answers_are_no_rows_is_asked_once() -> None:
    counts = Counts(first=100)
    predict(counts, {"inputs": [[[[0, 0, 0]]]] * 100})
    assert counts.asked == [100]


def test_more_rows_than_a_request_may_have_are_refused_before_they_are_looked_at() -> None:
    counts = Counts()
    row = [[[0, 0, 0]]]
    wrong = ["not looked at"] * 1025
    for request in ({"instances": [row] * 1025}, {"inputs": [row] * 1025}, {"instances": wrong}, {"inputs": wrong}):
        with pytest.raises(RefusedError, match="A request has 1024 rows at most, and this one 1025; ask several times"):
            predict(counts, request)
    with pytest.raises(RefusedError, match="1024 rows at most"):
        predict(counts, {"examples": wrong}, answering.classify)
    assert counts.asked == []
    assert len(predict(counts, {"instances": [row] * 1024})["predictions"]) == 1024


def test_what_takes_too_long_is_not_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter([0.0, 1.0, 31.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    counts = Counts()
    with pytest.raises(RefusedError, match="The pictures of this request take more than 30 seconds") as caught:
        predict(counts, {"inputs": [[[[0, 0, 0]]]] * 100})
    assert (caught.value.status, counts.asked) == (504, [16])


def test_a_file_gives_up_between_two_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dark:
        labels = ("dark",)

        def answer(self, images: NDArray[Any]) -> NDArray[Any]:
            return np.ones((len(images), 1), np.float32)

    served = OfFile(Dark())
    times: Iterator[float] = iter([0.0, 1.0, 31.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    with pytest.raises(RefusedError, match="more than 30 seconds"):
        served.run("serving_default", {"image_bytes": np.array([b"x"] * 9, np.object_)})
    assert list(times) == []


def test_pixels_of_too_long_a_side_are_refused_whatever_answers() -> None:
    counts = Counts()
    with pytest.raises(RefusedError, match=r"^INVALID_ARGUMENT: These pictures have 1 x 8193 pixels; 8192 a side are"):
        predict(counts, {"inputs": [[[[0, 0, 0]] * 8193]]})
    assert (counts.asked, batches.AT_ONCE) == ([], 16)


def test_a_request_for_which_there_is_no_memory_is_refused_as_one_for_later() -> None:
    class Full(Counts):
        def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            raise MemoryError

    with pytest.raises(RefusedError, match="not enough memory") as caught:
        predict(Full(), {"inputs": [[[[0, 0, 0]]]]})
    assert caught.value.status == 429
