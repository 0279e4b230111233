"""A number of a recipe, or "auto": then a training measures it before its first step, and all else sees the number."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import PlainSerializer, PositiveFloat, PositiveInt, WrapValidator

AUTO = 0  # what "auto" is until a training has measured the number


def _of_auto(value: Any, number: Callable[[Any], Any]) -> Any:
    return AUTO if value == "auto" else number(value)


def _written(value: float) -> Any:
    return value if value != AUTO else "auto"


AutoInt = Annotated[PositiveInt, WrapValidator(_of_auto), PlainSerializer(_written)]
AutoFloat = Annotated[PositiveFloat, WrapValidator(_of_auto), PlainSerializer(_written)]
