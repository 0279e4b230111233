"""English names beside labels that are synsets of ImageNet: people read `tench`, files and networks say `n01440764`."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from app.networks import synsets
from app.program.errors import UserError


def names_of(labels: Iterable[str]) -> dict[str, str]:
    """Label -> English name, of those that are synsets."""
    known = synsets.names()
    return {label: known[label] for label in labels if label in known}


def named(label: str, names: Mapping[str, str]) -> str:
    """As in "tench (n01440764)"; a label without a name is one itself."""
    return f"{names[label]} ({label})" if label in names else label


def number(text: str, labels: Sequence[str], names: Mapping[str, str]) -> int:
    """The place of a class among the labels: by its label, by its name, or else by its number from 0.

    Raises:
        UserError: none of these; a name that several classes have.
    """
    if text in labels:
        return labels.index(text)
    meant = [label for label in labels if names.get(label, "").lower() == text.lower()]
    if len(meant) > 1:
        raise UserError(f"'{text}' is the name of several classes; say which of {', '.join(meant)}.")
    if meant:
        return labels.index(meant[0])
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    # Whoever writes a synset wrong has its like among the labels, and whoever writes a name, among the names.
    known = {name: label for label, name in names.items()} | {label: label for label in labels}
    like = dict.fromkeys(named(known[each], names) for each in difflib.get_close_matches(text, known, n=3, cutoff=0))
    raise UserError(
        f"The network has no class '{text}'; the nearest names are {', '.join(like)}, and the numbers go from 0 to "
        f"{len(labels) - 1}."
    )
