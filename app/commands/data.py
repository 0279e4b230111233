"""Data sets: what is wrong with them, and writing them as records."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.commands.options import (
    DataArgument,
    JsonOption,
    QuarantineOption,
)
from app.commands.printing import output, print_json
from app.images.finding import passed_over
from app.program import paths, quiet, remote
from app.program.errors import UserError
from app.program.shown import brief, counted

SHOWN = 10  # findings of a kind
UNEQUAL = 1.5  # times as many images, from which on a remedy is named


def check(
    data: DataArgument,
    to: Annotated[
        Path | None,
        typer.Option(
            help="A folder for check.json and for quarantine.txt and near_duplicates.txt, lists that `train` takes."
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="Compare the classes with those of this run.")] = None,
    network: Annotated[
        Path | None,
        typer.Option(
            "--with",
            metavar="RUN",
            help="Rank training images by how little this run, or a folder of `train --folds`, believes their labels.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read all images again, also those that look as they did the last time.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong with images, labels and splits before training does.

    Ends with exit code 1 when there are faults: what cannot be used, leaks between splits, contradicting labels. Notes,
    such as a rotation that training knows how to undo, do not count.
    """
    paths.check_data(data)
    if run is not None:
        paths.check_run(run)
    if network is not None and not paths.runs_in(network):
        paths.check_run(network)
    if network is not None and paths.is_prepared(data):
        raise UserError(f"{data} has no files to mend labels of: --with is for a folder or a manifest.")
    with quiet.tensorflow():
        from app.datasets.checks import checking
        from app.program.progress import watch
    done = count = 0

    def noted(items: Iterable[Any], of: int, what: str) -> Iterator[Any]:
        nonlocal done, count
        if what != "Checking images":  # all of them are looked at, and compared
            yield from watch(items, of, what)
            return
        count = of
        for done, item in enumerate(watch(items, of, what), start=1):  # noqa: B007, it is read outside
            yield item

    try:
        report = checking.check(data, noted, run, full)
    except KeyboardInterrupt:
        then = "without --full the same command goes on from there" if full else "the same command goes on from there"
        if not done or paths.is_prepared(data):
            then = "the same command begins again"
        seen, left = counted(done, "image was", "images were"), counted(count - done, "is left", "are left")
        typer.echo(f"\nInterrupted: {seen} looked at, {left}; {then}.", err=True)
        raise typer.Exit(130) from None
    if to:
        checking.write(report, to)
    labels = _wrong_labels(data, network, to) if network else None
    if as_json:
        print_json(report.as_json() | ({"wrong_labels": labels} if labels else {}))
    else:
        _print_check(report.as_json(), checking.FAULTS, checking.NOTES)
        if labels:
            _print_wrong_labels(labels, to)
    if report.faults:
        raise typer.Exit(1)


def _wrong_labels(data: str, network: Path, to: Path | None) -> dict[str, Any]:
    """What `check --with` finds, as JSON has it; and its page and lists, where they have a folder."""
    with quiet.tensorflow():
        from app.evaluation import wrong_labels
        from app.program.progress import watch
        from app.reports import wrong_labels as page
    found = wrong_labels.find(data, network, watch)
    said = {"way": found.way, "ranked": len(found.suspects), "likely": len(found.likely)}
    if to:
        wrong_labels.write_lists(found, to)
        first = [one.as_json() for one in found.suspects[: page.SHOWN]]
        where = remote.place(data)
        for one in first:
            one["name"] = os.path.relpath(one["file"], where if where.is_dir() else where.parent)
        page.write(to, data, network, first, found.first(page.SHOWN), found.preprocessing.decode, **said)
    rows = [one.as_json() for one in found.suspects if one.is_likely]
    return {**said, "unranked": found.unranked, "rows": rows}


def _print_wrong_labels(found: dict[str, Any], to: Path | None) -> None:
    for row in found["rows"][:SHOWN]:
        taken = f"{row['suggested']} {row['probability']:.3f}"
        output.print(f"{row['file']}: {row['label']} {row['believed']:.3f}, rather {taken}", soft_wrap=True)
    counts = counted(found["ranked"], "label", "labels"), counted(found["likely"], "is", "are")
    output.print(f"Of {counts[0]}, {found['way']}, {counts[1]} likely wrong", soft_wrap=True)
    if found["unranked"]:
        none = counted(found["unranked"], "image is", "images are")
        output.print(f"{none} in none of the folds, and not ranked", soft_wrap=True)
    if to:
        now = f"their pictures are in {to / 'wrong_labels.html'}, a manifest to mend in {to / 'corrected.csv'}"
        output.print(f"All are in {to / 'wrong_labels.csv'}, {now}", soft_wrap=True)
    else:
        output.print("--to FOLDER writes a page with the pictures, and a manifest to mend", soft_wrap=True)


def _print_check(found: dict[str, Any], faults: dict[str, str], notes: dict[str, str]) -> None:
    kinds = Counter(finding["kind"] for finding in found["findings"])
    table = Table("", "found", "times", "training")
    for title, actions in (("fault", faults), ("note", notes)):
        for kind in actions:
            if kinds[kind]:
                table.add_row(title, kind, str(kinds[kind]), actions[kind])
    if kinds:
        output.print(table)
    # Lines, not cells: a path that is broken in two is no path.
    shown: Counter[str] = Counter()
    for finding in sorted(found["findings"], key=lambda finding: not finding["fault"]):
        shown[finding["kind"]] += 1
        if shown[finding["kind"]] <= SHOWN:
            output.print(f"{finding['kind']}: {finding['file']}: {finding['reason']}", soft_wrap=True)
        elif shown[finding["kind"]] == SHOWN + 1:
            output.print(
                f"{finding['kind']}: {kinds[finding['kind']] - SHOWN} more, see --json or --to", soft_wrap=True
            )
    for sentence in passed_over(Counter(found["left_by_systems"])):
        output.print(sentence, soft_wrap=True)
    count = sum(finding["fault"] for finding in found["findings"])
    images, classes = counted(found["images"], "image", "images"), counted(len(found["classes"]), "class", "classes")
    ends = counted(count, "fault", "faults"), counted(kinds.total() - count, "note", "notes")
    sizes = {label: counts["train"] for label, counts in found["classes"].items() if counts["train"]}
    if len({*sizes.values()}) > 1:
        most, least = max(sizes, key=lambda label: sizes[label]), min(sizes, key=lambda label: sizes[label])
        times = sizes[most] / sizes[least]
        remedy = "; `train --set balance=weights` or `balance=sample` makes up for it" if times >= UNEQUAL else ""
        counts = f"{most} has {sizes[most]:,} training images and {least} {sizes[least]:,}"
        output.print(f"{counts}, {brief(times)} times as many{remedy}", soft_wrap=True)
    output.print(f"{images}, {classes}: {', '.join(ends)}")


def records(
    data: DataArgument,
    to: Annotated[Path, typer.Option(help="The folder of the shards; DATA is 'records:FOLDER' from then on.")],
    quarantine: QuarantineOption = None,
) -> None:
    """Write DATA as TFRecord shards with checksums. The same command again goes on, and mends what is damaged.

    Pictures that only Pillow reads, TIFF, HEIC, AVIF and JPEG 2000, become PNGs in them.
    """
    paths.check_data(data)
    paths.check_exists(quarantine)
    with quiet.tensorflow():
        from app.datasets import loading
        from app.datasets.prepared import records
        from app.program.progress import watch
    source = loading.load(data, watch, quarantine, converts=True)
    loading.report_data(source)
    try:
        with quiet.libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what was noted
            written = records.write(source, to, watch)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. The same command goes on after the last whole shard.", err=True)
        raise typer.Exit(130) from None
    shards = [shard for split in (written.train, written.validation, written.test) for shard in split]
    images = counted(sum(shard.count for shard in shards), "image", "images")
    output.print(f"{images} in {counted(len(shards), 'shard', 'shards')}: records:{to}", soft_wrap=True)
