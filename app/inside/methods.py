"""The names of what `explain` can do, for those who ask before the library that does it is imported."""

from collections.abc import Iterable

from app.program.errors import UserError

AT_A_LAYER = ("grad-cam", "grad-cam++", "layer-cam", "score-cam")
MAXIMIZATION = "activation-maximization"  # 1312.6034, section 2
METHODS = (*AT_A_LAYER, "saliency", "smoothgrad", MAXIMIZATION)  # 1312.6034, section 3; 1706.03825


def check(methods: Iterable[str]) -> None:
    """Raises:
    UserError: there is no such method.
    """
    for method in methods:
        if method not in METHODS:
            raise UserError(f"There is no method '{method}'. The methods are {', '.join(METHODS)}.")
