"""A version that its SavedModel answers, and what protobuf and TensorFlow say of it."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.serving.batching import Batched, Parameters
from app.serving.refusals import RefusedError
from app.serving.saved_model import SavedModel
from tests.serving.asking import texts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded(exported: Path) -> SavedModel:
    return SavedModel(exported)


def test_its_metadata_is_what_protobuf_prints(loaded: SavedModel, exported: Path) -> None:
    from google.protobuf import json_format
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    definitions = content.meta_graphs[0].signature_def
    assert loaded.signatures.keys() == definitions.keys()
    for name, definition in definitions.items():
        printed = json_format.MessageToDict(
            definition, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
        )
        assert loaded.signatures[name].metadata() == printed, name


def test_it_answers_every_signature(loaded: SavedModel, exported: Path) -> None:
    golden = json.loads((exported / "golden" / "golden.json").read_text())
    labels = json.loads((exported / "certificate.json").read_text())["labels"]
    files = texts(*((exported / "golden" / image["file"]).read_bytes() for image in golden), b"no picture")
    found = loaded.run("serving_default", {"image_bytes": files})
    best = [labels[np.argmax(image["probabilities"])].encode() for image in golden]
    assert found["classes"][:, 0].tolist() == [*best, b""]
    assert found["scores"].dtype == np.float32
    assert found["errors"].tolist() == [b""] * len(golden) + [b"This is no JPEG, PNG, GIF, WebP or BMP file."]
    embedding = loaded.run("features", {"image_bytes": files})["embedding"]
    assert embedding.shape[0] == len(files)
    assert not embedding[-1].any()
    probabilities = loaded.run("predict_pixels", {"images": np.zeros((3, 5, 7, 3), np.uint8)})["probabilities"]
    assert probabilities.shape == (3, len(labels))


def test_what_tensorflow_refuses_is_said_without_its_operations_and_stack(loaded: SavedModel) -> None:
    with pytest.raises(RefusedError) as caught:
        loaded.run("classify", {"inputs": texts(b"abc")})
    assert (caught.value.status, caught.value.message) == (400, "Could not parse example input, value: 'abc'")


def test_several_threads_ask_several_signatures(loaded: SavedModel, exported: Path) -> None:
    files = [file.read_bytes() for file in sorted((exported / "golden").glob("*.*")) if file.suffix != ".json"]
    wanted = {"serving_default": "scores", "features": "embedding"}
    batched = Batched(loaded, Parameters())

    def ask(of: SavedModel | Batched, signature: str, file: bytes) -> NDArray[Any]:
        return of.run(signature, {"image_bytes": texts(file)})[wanted[signature]]

    questions = [(signature, file) for signature in wanted for file in files] * 2
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda question: ask(batched, *question), questions))
    for question, found in zip(questions, together, strict=True):
        assert found == pytest.approx(ask(loaded, *question), abs=1e-5)
