"""The labels and the preprocessing that each file of an export says it has, against those of its certificate."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.artefacts.certified import Network
from export import carried, metadata
from export.certificate import artefacts


def disagreements(
    version: Path, name: str, labels: Sequence[str], english: Sequence[str], networks: Sequence[Network]
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
        for key, wanted in (("labels", labels), ("labels_en", english)):
            what = {"labels": "labels", "labels_en": "English labels"}[key]
            # Where they are one a line, a label with a line's end in it counts as several.
            right = carried.listed(metadata.lines(wanted)) if texts else [*wanted]
            found += _of_lists(file, what, said.get(key), right or None)
        if artefact == version:
            found += _of_saved_model(said, name, labels)
        else:
            found += _of_preprocessing(file, said, networks[0])
    return found


def _of_lists(file: str, what: str, said: Any, right: Sequence[str] | None) -> Iterator[str]:
    if said == right:
        return
    if said is None or right is None:
        yield f"{file} has {'no ' if said is None else ''}{what}, and the certificate {'none' if said else 'has'}"
    elif not isinstance(said, list) or len(said) != len(right):
        yield f"{file} has {len(said)} {what}, and the certificate {len(right)}"
    else:
        place = next(place for place, pair in enumerate(zip(said, right, strict=True)) if pair[0] != pair[1])
        yield (f"{file} has {said[place]!r} as number {place} of its {what}, and the certificate {right[place]!r}")


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
    elif given != network.preprocessing:
        keys = [key for key in (*network.preprocessing, *given) if given.get(key) != network.preprocessing.get(key)]
        first = keys[0]
        yield (
            f"{file} says the preprocessing has {first} {given.get(first)!r}, and the certificate "
            f"{network.preprocessing.get(first)!r}"
        )
