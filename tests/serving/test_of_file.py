"""A file that answers: what it survives, and what it keeps of memory."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artefacts import loading
from app.serving import of_file
from app.serving.of_file import OfFile
from app.serving.refusals import RefusedError


class Fragile:
    """A network that is broken for good by pictures two pixels wide."""

    labels = ("dark", "light")

    def __init__(self) -> None:
        self.broken = False

    def answer(self, images: NDArray[Any]) -> NDArray[Any]:
        self.broken |= images.shape[2] == 2
        if self.broken:
            raise RuntimeError("a secret of the runtime")
        return np.tile(np.array([0.25, 0.75], np.float32), (len(images), 1))


def pixels(height: int, width: int) -> dict[str, NDArray[Any]]:
    return {"images": np.zeros((1, height, width, 3), np.uint8)}


def test_after_a_failure_of_the_runtime_the_file_is_loaded_anew() -> None:
    made: list[Fragile] = []

    def load() -> Fragile:
        made.append(Fragile())
        return made[-1]

    served = OfFile(load(), load)
    for _ in range(2):
        with pytest.raises(RefusedError, match="perhaps for want of memory") as caught:
            served.run("predict_pixels", pixels(3, 2))
        assert (caught.value.status, "secret" in caught.value.message) == (429, False)
        assert served.run("predict_pixels", pixels(3, 3))["probabilities"].tolist() == [[0.25, 0.75]]
    assert len(made) == 3


def test_a_file_that_is_gone_meanwhile_is_a_refusal_and_asked_for_again() -> None:
    networks: list[Fragile] = []

    def load() -> Fragile:
        if not networks:
            raise OSError("gone")
        return networks.pop()

    served = OfFile(Fragile(), load)
    for width in (2, 3):
        with pytest.raises(RefusedError):
            served.run("predict_pixels", pixels(3, width))
    networks.append(Fragile())
    assert served.run("predict_pixels", pixels(3, 3))["probabilities"].shape == (1, 2)


def test_after_many_pixels_the_file_is_loaded_anew_for_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_file, "LARGE", 2000)
    loads: list[int] = []

    def load() -> Fragile:
        loads.append(1)
        return Fragile()

    served = OfFile(Fragile(), load)
    counts = []
    for height in (40, 40, 41, 40, 40):
        served.run("predict_pixels", pixels(height, 50))
        counts.append(len(loads))
    assert counts == [0, 0, 0, 1, 1]


def test_litert_answers_after_a_shape_that_it_could_not_take(exported: Path) -> None:
    answer = loading.load(exported / "model.tflite").answer
    good, bad = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 4), np.uint8)
    before = np.array(answer(good))
    with pytest.raises(Exception, match=r"\w"):
        answer(bad)
    assert np.array_equal(answer(good), before)


def test_an_answer_is_no_memory_of_the_runtime_and_one_is_asked_for_at_a_time() -> None:
    class Shares:
        labels = ("dark", "light")

        def __init__(self) -> None:
            self.memory = np.zeros((1, 2), np.float32)
            self.inside, self.most = 0, 0

        def answer(self, images: NDArray[Any]) -> NDArray[Any]:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.01)
            self.memory[:] = images[0, 0, 0, 0]
            self.inside -= 1
            return self.memory

    network = Shares()
    served = OfFile(network)

    def ask(level: int) -> list[float]:
        images = np.full((1, 1, 1, 3), level, np.uint8)
        found = served.run("predict_pixels", {"images": images})["probabilities"]
        time.sleep(0.03)  # in which another is answered
        return list(found[0])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(8))) == [[level, level] for level in range(8)]
    assert network.most == 1
