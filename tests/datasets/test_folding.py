"""The parts of a cross-validation."""

from collections import Counter
from pathlib import Path

import pytest

from app.datasets.dataset import ImageFile, Picture
from app.datasets.files import folding
from app.datasets.index import Known
from app.program.errors import UserError


def picture(name: str, label: str, encoded: str, shown: str = "") -> Picture:
    return Picture(ImageFile(Path(name), label, None), Known(1, 1, encoded, shown or encoded))


def some(label: str, count: int) -> list[Picture]:
    return [picture(f"{label}{i}", label, f"{(i * 7919 + len(label)) % 997:03}{label}") for i in range(count)]


PICTURES = [*some("ants", 23), *some("bees", 12), *some("wasps", 5)]


def test_every_picture_is_held_out_once_and_each_class_is_dealt_out_evenly() -> None:
    found = folding.folds(PICTURES, 5)
    assert sorted(Counter(found).values()) == [8, 8, 8, 8, 8]
    for label, count in (("ants", 23), ("bees", 12), ("wasps", 5)):
        shares = Counter(fold for one, fold in zip(PICTURES, found, strict=True) if one.file.label == label)
        assert set(shares.values()) <= {count // 5, -(-count // 5)}
    held_out = [
        one.file.path for members in folding.divided(PICTURES, 5) for one in members if one.file.split == "test"
    ]
    assert sorted(held_out) == sorted(one.file.path for one in PICTURES)


def test_the_order_of_the_files_does_not_decide() -> None:
    forwards = dict(zip((one.file.path for one in PICTURES), folding.folds(PICTURES, 3), strict=True))
    backwards = dict(zip((one.file.path for one in PICTURES[::-1]), folding.folds(PICTURES[::-1], 3), strict=True))
    assert forwards == backwards


def test_each_training_has_all_classes_and_some_of_each_for_validation() -> None:
    for fold, members in enumerate(folding.divided(PICTURES, 5)):
        counts = Counter((one.file.label, one.file.split) for one in members)
        assert [one.file.split == "test" for one in members] == [there == fold for there in folding.folds(PICTURES, 5)]
        for label, least in (("ants", 17), ("bees", 8), ("wasps", 3)):
            assert counts[label, "train"] >= least
            # 8 % of 18 or 19 are 1.44 or 1.52; of 10 and of 4 it is at least one.
            others = counts[label, "train"] + counts[label, "validation"]
            assert counts[label, "validation"] == {19: 2}.get(others, 1)


def test_equal_pictures_are_never_divided_whatever_their_labels() -> None:
    pairs = (("ants", "500"), ("bees", "001"), ("ants", "900"))
    twins = [picture(encoded, label, encoded, "same") for label, encoded in pairs]
    for members in folding.divided([*PICTURES, *twins], 4):
        assert len({one.file.split for one in members[-3:]}) == 1


def patients(both: int, healthy: int) -> list[Picture]:
    """Each with a healthy picture, and so many of them with a sick one, too."""
    found = []
    for number in range(both + healthy):
        labels = ("healthy", "sick") if number < both else ("healthy",)
        for label in labels:
            file = ImageFile(Path(f"{number} {label}"), label, None, group=f"patient {number}")
            found.append(Picture(file, Known(1, 1, f"{number} {label}", f"{number} {label}")))
    return found


def test_a_class_that_shares_its_groups_with_another_is_in_every_fold_and_every_training() -> None:
    for some_ in (patients(10, 90), patients(100, 0), patients(5, 0)):
        folding.check("xrays", some_, 5)
        sick = [one.file.path for one in some_ if one.file.label == "sick"]
        held_out = []
        for members in folding.divided(some_, 5):
            counts = Counter((one.file.label, one.file.split) for one in members)
            assert counts["sick", "test"] == len(sick) // 5
            assert counts["healthy", "test"] == len(some_) // 5 - len(sick) // 5
            assert counts["sick", "train"] > 0
            for group in {one.file.group for one in members}:
                assert len({one.file.split for one in members if one.file.group == group}) == 1
            held_out += [one.file.path for one in members if (one.file.label, one.file.split) == ("sick", "test")]
        assert sorted(held_out) == sorted(sick)
    folding.check("xrays", patients(2, 10), 2)
    for members in folding.divided(patients(2, 10), 2):
        assert Counter(one.file.split for one in members if one.file.label == "sick") == {"test": 1, "train": 1}
        assert sum(one.file.split == "validation" for one in members) == 1
    with pytest.raises(UserError, match=r"'sick' of xrays has 4 groups beside those of the test, too few for 5 folds"):
        folding.check("xrays", patients(4, 90), 5)


def test_a_class_with_fewer_pictures_than_folds_is_refused() -> None:
    folding.check("photos", PICTURES, 5)
    with pytest.raises(UserError, match=r"'wasps' of photos has 5 different pictures beside .* too few for 6 folds"):
        folding.check("photos", PICTURES, 6)
