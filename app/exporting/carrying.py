"""The labels and the preprocessing that each file of an export says it has, against those of its certificate."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.artefacts.certified import Network
from export import carried, metadata
from export.certificate import artefacts

NOTHING = object()
MOST = 100  # letters of what a file says that a sentence repeats


def disagreements(
    version: Path,
    name: str,
    labels: Sequence[str],
    english: Sequence[str],
    networks: Sequence[Network],
    thresholds: Sequence[float] = (),
) -> list[str]:
    """A sentence for everything that a file of the version folder says otherwise, without a full stop. `name` is what
    the network is served as; `english` are the English names of the labels, none where they have no such."""
    found = []
    for artefact in artefacts(version):
        file = "saved_model.pb" if artefact == version else artefact.name
        try:
            said = carried.said_by(artefact)
        except carried.CarriedError as error:
            found.append(f"what {file} says of itself cannot be read: {error}")
            continue
        texts = artefact == version or artefact.suffix == ".tflite"
        given: dict[str, Sequence[Any]] = {"labels": labels, "labels_en": english, "thresholds": thresholds}
        for key, wanted in given.items():
            what = {"labels_en": "English labels"}.get(key, key)
            # Where they are one a line, a label with a line's end in it counts as several.
            right = carried.listed(metadata.lines([str(one) for one in wanted])) if texts else [*wanted]
            found += _of_lists(file, what, said.get(key), right or None)
        if artefact == version:
            found += _of_saved_model(said, name, labels)
        else:
            found += _of_preprocessing(file, said, networks[0])
    return found


def _of_lists(file: str, what: str, said: Any, right: Sequence[str] | None) -> Iterator[str]:
    if said == right:
        return
    if said is not None and not isinstance(said, list):
        yield f"the {what} in {file} are no list, {_shortened(said)}"
    elif said is None or right is None:
        has, certified = ("no ", "has") if said is None else ("", "none")
        yield f"{file} has {has}{what}, and the certificate {certified}"
    elif len(said) != len(right):
        yield f"{file} has {len(said)} {what}, and the certificate {len(right)}"
    else:
        place = next(place for place, pair in enumerate(zip(said, right, strict=True)) if pair[0] != pair[1])
        given = _shortened(said[place])
        yield f"{file} has {given} as number {place} of its {what}, and the certificate {right[place]!r}"


def _of_saved_model(said: dict[str, Any], name: str, labels: Sequence[str]) -> Iterator[str]:
    if not said["graph_labels"]:
        yield "saved_model.pb has no labels in its graph, and the certificate has"
    for lists in said["graph_labels"]:
        yield from _of_lists("saved_model.pb", "labels in the graph", lists, [*labels])
    if (names := said.get("warmup_names")) is not None and names != [name]:
        whom = ", ".join(map(repr, names)) or "nobody"
        yield f"the warm-up requests are for {whom}, and the certificate for {name!r}"


def _of_preprocessing(file: str, said: dict[str, Any], network: Network) -> Iterator[str]:
    # In a description for people it is the end of a sentence; a LiteRT file has nothing else.
    if not said.get("description", "").endswith(f": {network.described}."):
        yield f"the description in {file} does not say the certificate's preprocessing, {network.described}"
    if file.endswith(".tflite"):
        return
    if (given := said.get("preprocessing")) is None:
        yield f"{file} says no preprocessing, and the certificate does"
    elif not isinstance(given, dict):
        yield f"the preprocessing in {file} is none, {_shortened(given)}"
    elif given != (right := network.preprocessing):
        first = next(key for key in (*right, *given) if given.get(key, NOTHING) != right.get(key, NOTHING))
        said_of = f"{first} {_shortened(given[first])}" if first in given else f"no {first}"
        wanted = _shortened(right[first]) if first in right else "none"
        yield f"{file} says the preprocessing has {said_of}, and the certificate {wanted}"


def _shortened(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= MOST else f"{words[:MOST]}..."
