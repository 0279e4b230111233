"""The keys of a recipe as `--set` takes them, a dot between a part and what is in it: `optimizer.rate`."""

import difflib
import heapq
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Part(BaseModel):
    """Frozen; unknown keys are errors, and so are numbers that are infinite or none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def keys(part: type[Part], prefix: str = "") -> Iterator[str]:
    for name, field in part.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys as `--set` takes them, of a recipe's `model_dump`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def nearest(key: str, recipe: type[Part]) -> list[str]:
    """The three keys that are written most alike, with or without the part that they are in."""

    def likeness(known: str) -> float:
        return max(difflib.SequenceMatcher(None, key, name).ratio() for name in (known, known.rpartition(".")[2]))

    return heapq.nlargest(3, keys(recipe), key=likeness)


def complaint(error: ValidationError, recipe: type[Part]) -> str:
    """`key=value: what is wrong`, of the first thing that is."""
    first = error.errors()[0]
    if not first["loc"]:
        return first["msg"]  # of several keys together
    # Of a key that takes several types, pydantic adds the one it tried: batch_norm.momentum.literal['auto'].
    parts = [str(part) for part in first["loc"]]
    while len(parts) > 1 and ".".join(parts) not in set(keys(recipe)):
        parts.pop()
    return f"{'.'.join(parts)}={first['input']}: {first['msg'].lower()}"
