"""What `check` finds: one planted specimen of every fault, and nothing on the clean half."""

import functools
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app import recipe, run_folder, training
from app.commands import data
from app.datasets.checks import checking
from app.datasets.checks.checking import FAULTS, NOTES, check
from app.datasets.files.looking import look
from app.datasets.loading.named import load
from app.datasets.prepared import records
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from tests.makers.image_folders import SPLITS, examples, order, refuse

ORIENTATION = 0x0112
LEFT_OUT = {"undecodable", "truncated", "huge"}


def photo(seed: int, width: int = 48, height: int = 36, mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def clean(folder: Path, first: int, count: int = 25) -> None:
    """Pictures in every format and mode that has nothing special about it."""
    folder.mkdir(parents=True)
    kinds: list[tuple[str, str, str, dict[str, Any]]] = [
        (".jpg", "JPEG", "RGB", {}),
        (".JPEG", "JPEG", "L", {"progressive": True}),
        (".png", "PNG", "RGB", {}),
        (".png", "PNG", "L", {}),
        (".png", "PNG", "P", {}),
        (".gif", "GIF", "L", {}),
        (".bmp", "BMP", "RGB", {}),
        (".webp", "WEBP", "RGB", {}),
        (".jpg", "JPEG", "RGB", {"exif": exif(1), "quality": 60}),
    ]
    for i in range(count):
        suffix, kind, mode, options = kinds[i % len(kinds)]
        (folder / f"clean {i}{suffix}").write_bytes(encode(photo(first + i, mode=mode), kind, **options))


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


@functools.cache
def specimens() -> dict[str, tuple[str, bytes]]:
    """File name -> what is the matter with it, and its content."""
    jpeg, png = encode(photo(0, 300, 200), "JPEG"), encode(photo(1, 300, 200), "PNG")
    # A thumbnail, as cameras put one in, ends as a whole file does.
    thumbnail = b"\xff\xe1" + (len(jpeg) + 2).to_bytes(2, "big") + jpeg
    animation = {"save_all": True, "append_images": [photo(3), photo(4)]}
    return {
        "text.jpg": ("undecodable", b"no picture"),
        "empty.png": ("undecodable", b""),
        "header only.jpg": ("truncated", jpeg[:100]),
        "cut.jpg": ("truncated", jpeg[: len(jpeg) // 2]),
        "cut with thumbnail.jpg": ("truncated", jpeg[:2] + thumbnail + jpeg[2:-500]),
        "cut.png": ("truncated", png[: len(png) // 2]),
        "cut.gif": ("truncated", encode(photo(5, 300, 200), "GIF")[:2000]),
        "cut.bmp": ("truncated", encode(photo(6, 300, 200), "BMP")[:2000]),
        "cut.webp": ("truncated", encode(photo(7, 300, 200), "WEBP")[:1000]),
        "flipped.png": ("undecodable", png[:1000] + bytes(byte ^ 255 for byte in png[1000:1100]) + png[1100:]),
        "a side.png": ("huge", encode(Image.new("L", (8193, 2)), "PNG")),
        "area.png": ("huge", encode(Image.new("1", (6400, 6400)), "PNG")),
        "bomb.png": ("huge", encode(Image.new("1", (14000, 14000)), "PNG")),
        "bytes.bmp": ("huge", encode(Image.new("RGB", (2600, 2600)), "BMP")),
        "a png.jpg": ("wrong extension", encode(photo(8), "PNG")),
        "a jpeg.png": ("wrong extension", encode(photo(9), "JPEG")),
        "no ending": ("wrong extension", encode(photo(10), "JPEG")),
        "download.jpg_large": ("wrong extension", encode(photo(11), "WEBP")),
        "sideways.jpg": ("rotated", encode(photo(12), "JPEG", exif=exif(6))),
        "mirrored.png": ("rotated", encode(photo(13), "PNG", exif=exif(2))),
        "upside down.webp": ("rotated", encode(photo(14), "WEBP", exif=exif(3))),
        "print.jpg": ("cmyk", encode(photo(15, mode="CMYK"), "JPEG")),
        "rgba.png": ("alpha", encode(photo(16, mode="RGBA"), "PNG")),
        "grey.png": ("alpha", encode(photo(17, mode="LA"), "PNG")),
        "palette.png": ("alpha", encode(photo(18, mode="P"), "PNG", transparency=0)),
        "moving.gif": ("animated", encode(photo(2), "GIF", **animation)),
        "moving.webp": ("animated", encode(photo(20), "WEBP", **animation)),
        "icon.png": ("tiny", encode(photo(19, 15, 40), "PNG")),
        "grey.jpg": ("constant", encode(Image.new("L", (40, 30), 99), "JPEG")),
        "notes.txt": ("not an image", b"seen in May"),
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clean classes of 50 pictures, and all specimens in a class folder of their own. Read only."""
    root = tmp_path_factory.mktemp("planted") / "photos, all"
    clean(root / "cat", 1000, 50)
    clean(root / "dog", 2000, 50)
    clean(root / "odd", 3000, 30)
    for name, (_, content) in specimens().items():
        (root / "odd" / name).write_bytes(content)
    (root / "odd" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "odd" / "loop").symlink_to("..", target_is_directory=True)
    Image.open(root / "cat" / "clean 2.png").save(root / "cat" / "again.bmp")
    Image.open(root / "dog" / "clean 6.bmp").save(root / "cat" / "disputed.png")
    return root


def kinds(findings: Any, root: Path) -> set[tuple[str, str]]:
    return {(os.path.relpath(finding.file, root), finding.kind) for finding in findings}


def test_every_planted_fault_is_found_and_no_other(planted: Path) -> None:
    report = check(str(planted))
    wanted = {(f"odd/{name}", kind) for name, (kind, _) in specimens().items()} | {
        ("odd/gone.jpg", "undecodable"),
        ("odd/loop", "symlink loop"),
        ("cat/clean 2.png", "duplicate"),
        ("cat/disputed.png", "two labels"),
        ("dog/clean 6.bmp", "two labels"),
        (".", "too many unreadable"),
    }
    assert kinds(report.findings, planted) == wanted
    assert len(report.findings) == len(wanted)
    assert all(finding.reason and "\n" not in finding.reason for finding in report.findings)
    assert report.faults == sum(kind in FAULTS for _, kind in wanted)
    assert report.images == 130 + len(specimens()) - 1 + 1 + 2  # one of the specimens is no image


def test_a_clean_folder_has_no_findings(tmp_path: Path) -> None:
    for first, label in ((0, "cat"), (100, "dog")):
        clean(tmp_path / label, first)
    report = check(str(tmp_path))
    assert (report.findings, report.faults, report.duplicates, report.leaks, report.quarantine) == ((), 0, (), (), ())
    data = load(str(tmp_path))
    assert report.images == 50
    for position, label in enumerate(data.labels):
        per_split = {split: sum(found == position for _, found in examples(getattr(data, split))) for split in SPLITS}
        assert report.classes[label] == {"count": 25, **per_split}
    assert list(report.classes) == ["cat", "dog"]


def test_a_program_can_read_it(planted: Path) -> None:
    found = json.loads(json.dumps(check(str(planted)).as_json()))
    assert set(found) == {"images", "findings", "duplicates", "leaks", "classes", "left_by_systems"}
    assert all(set(row) == {"file", "kind", "reason", "fault"} for row in found["findings"])
    assert {row["kind"] for row in found["findings"] if row["fault"]} <= set(FAULTS)
    assert sorted(sorted(Path(file).name for file in group) for group in found["duplicates"]) == [
        ["again.bmp", "clean 2.png"],
        ["clean 6.bmp", "disputed.png"],
    ]
    assert not set(FAULTS) & set(NOTES)


# ---- splits and labels


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Three splits; one picture of training is in test too, one in validation, one picture of test twice in test."""
    root = tmp_path / "leaking"
    for place, split in enumerate(("train", "val", "test")):
        for position, label in enumerate(("cat", "dog")):
            clean(root / split / label, place * 1000 + position * 100, 9)
    Image.open(root / "train" / "cat" / "clean 2.png").save(root / "test" / "cat" / "seen.bmp")
    shutil.copy(root / "train" / "dog" / "clean 0.jpg", root / "val" / "dog" / "seen.jpg")
    shutil.copy(root / "test" / "dog" / "clean 0.jpg", root / "test" / "dog" / "twice.jpg")
    return root


def test_leaks_between_splits_are_found_in_the_split_to_leave_them_out_of(leaking: Path) -> None:
    report = check(str(leaking))
    assert kinds(report.findings, leaking) == {
        ("train/cat/clean 2.png", "leak"),
        ("train/dog/clean 0.jpg", "leak"),
        ("test/dog/twice.jpg", "duplicate"),
    }
    assert {tuple(sorted(os.path.relpath(file, leaking) for file in group)) for group in report.leaks} == {
        ("test/cat/seen.bmp", "train/cat/clean 2.png"),
        ("train/dog/clean 0.jpg", "val/dog/seen.jpg"),
    }
    assert len(report.duplicates) == 3
    assert sorted(report.quarantine) == ["train/cat/clean 2.png", "train/dog/clean 0.jpg"]


def test_a_quarantined_leak_is_no_leak(leaking: Path, tmp_path: Path) -> None:
    assert load(str(leaking)).notes
    checking.write(check(str(leaking)), tmp_path / "found")
    data = load(str(leaking), quarantine=tmp_path / "found" / "quarantine.txt")
    assert [note for note in data.notes if "split" in note] == []
    assert (data.train.count, data.validation.count, data.test.count) == (16, 19, 20)


def test_what_is_divided_by_content_leaks_nothing(planted: Path) -> None:
    assert check(str(planted)).leaks == ()


def test_a_class_with_a_tenth_of_the_images_is_told(tmp_path: Path) -> None:
    clean(tmp_path / "cat", 0, 60)
    clean(tmp_path / "dog", 100, 6)
    clean(tmp_path / "owl", 200, 5)
    (finding,) = check(str(tmp_path)).findings
    remedy = "`train --set balance=weights` or `balance=sample` makes up for it"
    assert finding == ("owl", "imbalance", f"5 images, where 'cat' has 60; {remedy}")


@pytest.mark.parametrize(("bees", "said"), [(20, "3 times"), (50, "1.2 times"), (60, "")])
def test_how_unequal_classes_are_is_said_and_what_makes_up_for_it(
    bees: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = {"ant": {"count": 90, "train": 60}, "bee": {"count": 90, "train": bees}, "fly": {"count": 9, "train": 0}}
    data._print_check({"images": 189, "findings": [], "classes": classes, "left_by_systems": {}}, {}, {})
    *unequal, last = capsys.readouterr().out.splitlines()
    assert last == "189 images, 3 classes: 0 faults, 0 notes"
    right = f"ant has 60 training images and bee {bees}, {said} as many"
    remedy = "; `train --set balance=weights` or `balance=sample` makes up for it" if bees == 20 else ""
    assert unequal == ([right + remedy] if said else [])


def test_other_classes_than_those_of_a_run_are_a_fault(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    known = Classifier(
        network="lenet_bn",
        arguments={},
        labels=("ant", "bee", "cat"),
        preprocessing=Preprocessing(height=32, width=32),
        recipe=None,
        versions={},
        seed=0,
        data=None,
    )
    run.classifier.write_text(known.model_dump_json())
    for first, label in ((0, "ant"), (100, "bee"), (200, "cat")):
        clean(tmp_path / "data" / label, first, 9)
    assert check(str(tmp_path / "data"), run=run.folder).findings == ()
    (tmp_path / "data" / "cat").rename(tmp_path / "data" / "dog")
    (finding,) = check(str(tmp_path / "data"), run=run.folder).findings
    assert finding.kind == "other classes"
    assert finding.reason == f"new: 'dog'; missing: 'cat', compared with {run.folder}"


def test_pictures_of_equal_bytes_and_other_shapes_are_not_the_same(tmp_path: Path) -> None:
    for first, label in ((0, "cat"), (100, "dog")):
        clean(tmp_path / label, first, 9)
    for name, size in (("tall.png", (30, 40)), ("wide.png", (40, 30))):
        Image.new("L", size, 99).save(tmp_path / "cat" / name)
    assert check(str(tmp_path)).duplicates == ()


# ---- sources


def test_what_stops_training_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for first, label in ((0, "cat"), (100, "dog")):
        clean(tmp_path / label, first, 9)
    (tmp_path / "owl").mkdir()
    closed = tmp_path / "dog" / "private"
    closed.mkdir()
    refuse(closed, monkeypatch)
    report = check(str(tmp_path))
    assert kinds(report.findings, tmp_path) == {("owl", "empty class"), ("dog/private", "unreadable folder")}
    assert report.faults == 2
    with pytest.raises(UserError, match="1 more like it"):
        load(str(tmp_path))


def test_a_manifest_is_checked(tmp_path: Path) -> None:
    for first, label in ((0, "cat"), (100, "dog")):
        clean(tmp_path / label, first, 9)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*") if path.is_file())
    rows = [f"{path},{path.parent}" for path in [*files, files[0], Path("cat/gone.png")]]
    (tmp_path / "cat" / "clean 0.jpg").write_text("no picture")
    (tmp_path / "list.csv").write_text("\n".join(["file,label", *rows]))
    report = check(str(tmp_path / "list.csv"))
    assert kinds(report.findings, tmp_path) == {
        ("cat/gone.png", "missing"),
        (str(files[0]), "named twice"),
        ("cat/clean 0.jpg", "undecodable"),
        ("list.csv", "too many unreadable"),
    }
    assert report.images == 18


def test_records_are_checked(tmp_path: Path) -> None:
    for first, label in ((0, "cat"), (100, "dog")):
        clean(tmp_path / "data" / label, first)
    (tmp_path / "data" / "cat" / "sideways.jpg").write_bytes(encode(photo(500), "JPEG", exif=exif(6)))
    data = load(str(tmp_path / "data"))
    records.write(data, tmp_path / "records", unwatched)
    report = check(f"records:{tmp_path / 'records'}")
    (turned,) = [file for file in data.files if file.path.name == "sideways.jpg"]
    place = [file.path.name for file in data.files if file.split == turned.split].index("sideways.jpg")
    assert [(finding.file, finding.kind) for finding in report.findings] == [(f"{turned.split}/{place}", "rotated")]
    assert report.images == 51
    assert report.classes["cat"]["count"] == 26


def test_records_have_no_files_to_quarantine(leaking: Path, tmp_path: Path) -> None:
    records.write(load(str(leaking)), tmp_path / "records", unwatched)
    report = check(f"records:{tmp_path / 'records'}")
    assert Counter(finding.kind for finding in report.findings) == {"leak": 2, "duplicate": 1}
    assert report.quarantine == ()


# ---- training on what was checked


def test_broken_files_change_nothing_and_are_counted(planted: Path, tmp_path: Path) -> None:
    """A folder with 4 % broken files is the folder without them."""
    for label in ("cat", "dog"):
        shutil.copytree(planted / label, tmp_path / "clean" / label)
    shutil.copytree(tmp_path / "clean", tmp_path / "broken")
    names = ("empty.png", "header only.jpg", "cut.jpg", "flipped.png")
    broken = [tmp_path / "broken" / "cat" / name for name in names]
    for path in broken:
        path.write_bytes(specimens()[path.name][1])
    data, wanted = load(str(tmp_path / "broken")), load(str(tmp_path / "clean"))
    total = sum(getattr(data, split).count for split in SPLITS)
    assert round(len(broken) / (total + len(broken)), 2) == 0.04
    assert {file for file, _ in data.unreadable} == {str(path) for path in broken}
    assert (data.labels, data.fingerprint) == (wanted.labels, wanted.fingerprint)
    for split in SPLITS:
        assert examples(getattr(data, split)) == examples(getattr(wanted, split))
        assert order(getattr(data, split), 5, 2) == order(getattr(wanted, split), 5, 2)
    left_out = [found.file for found in check(str(tmp_path / "broken")).findings if found.kind in LEFT_OUT]
    assert sorted(left_out) == sorted(str(path) for path in broken)
    assert {kind for kind, action in FAULTS.items() if action == "leaves it out"} == LEFT_OUT | {
        "not supported",
        "no class",
    }


@pytest.mark.slow
def test_training_on_broken_files_or_on_records_is_training_on_the_clean_ones(tmp_path: Path) -> None:
    for first, label in ((0, "cat"), (100, "dog")):
        clean(tmp_path / "clean" / label, first, 50)
    shutil.copytree(tmp_path / "clean", tmp_path / "broken")
    for name in ("empty.png", "header only.jpg", "cut.jpg", "flipped.png"):
        (tmp_path / "broken" / "cat" / name).write_bytes(specimens()[name][1])
    records.write(load(str(tmp_path / "clean")), tmp_path / "records", unwatched)
    settings = ("steps=3", "batch_size=8", "image_size=32", "augmentation.flip=true", "augmentation.crop_area=0.5")
    runs = [
        training.train(data, "lenet_bn", tmp_path / f"run {i}", recipe.load("default", settings), unwatched)
        for i, data in enumerate((f"{tmp_path}/clean", f"{tmp_path}/broken", f"records:{tmp_path}/records"))
    ]
    wanted, *others = (run_folder.load(run.folder).model.get_weights() for run in runs)
    for found in others:
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert [run.read_classifier().data.unreadable for run in runs] == [0, 4, 0]  # type: ignore[union-attr]
    assert len({run.metrics.read_text() for run in runs}) == 1


def test_the_quarantine_list_leaves_out_what_it_names(planted: Path, tmp_path: Path) -> None:
    report = check(str(planted))
    checking.write(report, tmp_path / "found")
    listed = (tmp_path / "found" / "quarantine.txt").read_text().splitlines()
    assert {kind for file, kind in kinds(report.findings, planted) if file in listed} == {
        "undecodable",
        "truncated",
        "huge",
        "two labels",
    }
    data = load(str(planted), quarantine=tmp_path / "found" / "quarantine.txt")
    assert data.unreadable == ()
    assert sum(getattr(data, split).count for split in SPLITS) == report.images - len(listed)
    assert not {str(planted / file) for file in listed} & {str(file.path) for file in data.files}
    assert json.loads((tmp_path / "found" / "check.json").read_text())["images"] == report.images


# ---- one file


def flip(content: bytearray, rng: np.random.Generator) -> bytes:
    for place in rng.integers(0, len(content), 8):
        content[place] = rng.integers(256)
    return bytes(content)


def begin_anew(content: bytearray, rng: np.random.Generator) -> bytes:
    content[4:40] = rng.bytes(36)
    return bytes(content)


def end_early(content: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(content[: rng.integers(1, len(content))])


@pytest.mark.parametrize("mutate", [flip, begin_anew, end_early])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_no_damage_is_too_much_to_look_at(mutate: Callable[[bytearray, np.random.Generator], bytes]) -> None:
    rng = np.random.default_rng(7)
    special = ("rotated", "cmyk", "animated", "alpha")
    sources = [content for kind, content in specimens().values() if kind in special]
    sources += [encode(photo(i), kind) for i, kind in enumerate(("JPEG", "PNG", "GIF", "BMP", "WEBP"))]
    for source in sources * 6:
        known = look("x.jpg", mutate(bytearray(source), rng))
        assert (known.picture is None) == any(kind in FAULTS for kind, _ in known.notes)
