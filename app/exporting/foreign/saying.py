"""What came of a comparison, in sentences."""

from collections.abc import Sequence
from typing import Any

from app.exporting.foreign.comparing import EXACT, Way
from app.exporting.foreign.mistakes import RUN_TOO

NAMED = 8  # labels of another order, or mistakes that cannot be told apart


def figures(way: Way) -> dict[str, float]:
    return {"difference": way.difference, "agreement": way.agreement}


def sentences(found: dict[str, Any], file: str, run: str) -> list[str]:
    """The first says whether the file answers as the run, and what explains it if not; others what is to be known."""
    alike, unseen = found["alike"], found["unseen"]
    if found["ok"]:
        alike, unseen = [], sorted([*alike, *unseen])
    notes = [f"It may as well be: {_listed(alike)}."] if alike else []
    notes += [f"These pictures do not show: {_listed(unseen)}."] if unseen else []
    if found["random"]:
        return [
            f"{file} answers the same picture differently each time: dropout, or something else that is random, is "
            "active in it; convert it again for inference."
        ]
    if found["ok"]:
        first = f"{file} {_agrees(found)} {run}: {_figures(found['explained'], found)}."
        closer = found["closer"]
        left = [f"It agrees to {closer['difference']:.1e} when {closer['when']}."] if closer else []
        return [first, f"Its input: {found['input']}.", *left, *notes]
    as_it_is = _figures(found["as_it_is"], found)
    if found["explained"] is None:
        nearest = found["nearest"]
        hint = f" The nearest is {_listed(nearest['mistakes'])}: {_figures(nearest, found)}." if nearest else ""
        return [
            f"{file} DISAGREES with {run}, and no known mistake explains it: {as_it_is}.{hint}",
            "It may have other weights, or be of another network.",
        ]
    first, *others = found["when"]
    # "The run, too, does this and does that."
    when = " and ".join([first, *(each.removeprefix(RUN_TOO) if RUN_TOO in first else each for each in others)])
    remedies = "; ".join(found["remedies"])
    said = [
        f"{file} DISAGREES with {run} ({as_it_is}), but agrees when {when}: {_figures(found['explained'], found)}.",
        f"Way out: {remedies}.",
    ]
    if found["labels"]:
        said.append(f"Its own order is {_listed(found['labels'])}.")
    return [*said, *notes]


def _agrees(found: dict[str, Any]) -> str:
    if found["computes"] == "int8" and found["explained"]["difference"] > EXACT:
        return "computes in integers and agrees on the best class with"
    return "agrees with" if found["explained"]["difference"] <= EXACT else "agrees closely with"


def _figures(way: dict[str, Any], found: dict[str, Any]) -> str:
    same = round(way["agreement"] * found["pictures"])
    return f"largest difference {way['difference']:.1e}, the same best class on {same} of {found['pictures']} pictures"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if names[NAMED:] else ""
    return ", ".join(names[:NAMED]) + more
