"""The networks that are served, by name, and their versions."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from app.serving.refusals import RefusedError
from app.serving.signatures import Servable


class Version(NamedTuple):
    """One that is served, or with why it is not: an `error`, or its `state` where that is neither AVAILABLE nor END."""

    servable: Servable | None
    error: str = ""
    state: str = "END"

    def status(self, number: int) -> dict[str, Any]:
        told = {"error_code": "UNKNOWN" if self.error else "OK", "error_message": self.error}
        return {"version": str(number), "state": "AVAILABLE" if self.servable else self.state, "status": told}


class Wanted(NamedTuple):
    """What a request asks: a network, and of it a version or a label or neither, which is the newest."""

    name: str
    version: int | None = None
    label: str | None = None


class Model(NamedTuple):
    versions: Mapping[int, Version]
    labels: Mapping[str, int]

    @property
    def available(self) -> list[int]:
        return sorted(number for number, version in self.versions.items() if version.servable)


class Models:
    """`models` is never changed, but others take its place while requests are answered: whoever looks at it twice may
    see two. `reload` serves what a ModelServerConfig names instead, where that can be asked for."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = models
        self.reload: Callable[[Any], None] | None = None

    def find(self, wanted: Wanted) -> tuple[int, Servable]:
        """Number and network of the version that is meant.

        Raises:
            RefusedError: there is no such network, version or label.
        """
        model = self.models.get(wanted.name)
        number = wanted.version
        if wanted.label is not None:
            if model is None or wanted.label not in model.labels:
                raise RefusedError(f"Unrecognized servable version label: {wanted.label}")
            number = model.labels[wanted.label]
        if number is None and model is not None and model.available:
            number = model.available[-1]
        found = model.versions.get(number) if model and number is not None else None
        if number is None or found is None or found.servable is None:
            named = f"Latest({wanted.name})" if number is None else f"Specific({wanted.name}, {number})"
            raise RefusedError(f"Servable not found for request: {named}", "NOT_FOUND")
        return number, found.servable

    def status(self, wanted: Wanted) -> dict[str, Any]:
        """Of the version, or of all: TensorFlow Serving heeds no label here.

        Raises:
            RefusedError: there is none.
        """
        model = self.models.get(wanted.name)
        versions = model.versions if model else {}
        if wanted.version is not None and wanted.version not in versions:
            raise RefusedError(f"Could not find version {wanted.version} of model {wanted.name}", "NOT_FOUND")
        numbers = sorted(versions, reverse=True) if wanted.version is None else [wanted.version]
        if not numbers:
            raise RefusedError(f"Could not find any versions of model {wanted.name}", "NOT_FOUND")
        return {"model_version_status": [versions[number].status(number) for number in numbers]}

    @property
    def ready(self) -> bool:
        return all(model.available for model in self.models.values())
