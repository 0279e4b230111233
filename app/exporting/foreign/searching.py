"""Asks a file in every way that it may be meant, and the run with every mistake that may have been made, and compares.

The other way round, what was done to pictures inside a file cannot be undone from outside: of a file that takes whole
numbers, or resizes by itself, no input gives what the run gives. But the run can make the same mistake.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.datasets import loading
from app.datasets.dataset import spread
from app.exporting.foreign import comparing, mistakes, saying
from app.exporting.foreign.comparing import Scores, Told, Way
from app.exporting.foreign.feeding import BYTES, OTHER_RESIZE, Feed, output_of, ways_to_feed
from app.exporting.foreign.mistakes import Deviation, Floats, Inside
from app.exporting.foreign.process import Foreign, RefusedError
from app.images import plain
from app.program.errors import UserError
from app.program.progress import Watch, unwatched
from app.run_folder import trained as trained_networks
from app.run_folder.folder import Run
from app.run_folder.golden import read_golden, specimens
from app.run_folder.trained import Trained
from models.batch_normalization import BatchNormalization

VARIED = 0.1  # of a probability, between pictures
PICTURES = 32  # that are asked about: the golden ones, and test images where these are fewer
NORMALISATIONS = (BatchNormalization, keras.layers.BatchNormalization)
SEARCH = 60.0  # seconds for pairs of mistakes inside a file
TRAINING = Deviation(
    "batch norm in training mode",
    f"{mistakes.RUN_TOO}normalises each picture by its own statistics",
    "convert it again for inference, with training=False",
)


def compare(
    file: Path,
    run: Path,
    range_: str | None = None,
    layout: str | None = None,
    output: str | None = None,
    watch: Watch = unwatched,
) -> dict[str, Any]:
    """Asks the file about pictures in a process of its own. `range_`, one of `mistakes.RANGES`, and `layout` say how
    it is used; they are found out where they are None, and so is the `output`.

    `ok` where it agrees as it is used. `as_it_is` and `explained`, or None, have `difference`, the largest of a
    probability, and `agreement`, the share of pictures with the same best class; `mistakes` and `remedies` say what
    explains the difference, `alike` what explains it as well, and `unseen` what these pictures do not show; `closer`
    with what a file that agrees would do so better; `labels` are those of outputs in another order; `sentences` say
    it all.

    Raises:
        UserError: the file does not load or cannot be asked; not a finished run, or one of several labels a picture or
            for grey ones.
    """
    trained = trained_networks.load(run)
    Run(run).read_classifier().check_one_label(
        run, "the comparison with a file of somebody else, which tries a softmax,"
    )
    if trained.preprocessing.colour == "grey":
        raise UserError(
            f"The network of {run} takes grey pictures, and the comparison with a file of somebody else is for colours."
        )
    with Foreign(file) as asked:
        feeds = ways_to_feed(asked, trained.preprocessing, run, range_, layout)
        name = output_of(asked, len(trained.labels), run, output)
        found = _Search(asked, name, trained, feeds, _pictures(Run(run), watch), watch).result()
    return {"file": str(file), "run": str(run), **found, "sentences": saying.sentences(found, str(file), str(run))}


def _pictures(run: Run, watch: Watch) -> list[bytes]:
    """Encoded."""
    found = [(run.golden / image["file"]).read_bytes() for image in read_golden(run)]
    if len(found) < PICTURES:
        try:
            test = loading.of_run(run, watch).test
        except UserError:  # imported, or its data is gone
            return found
        found += [encoded for encoded, _ in test.at(spread(test.count, PICTURES - len(found))).as_numpy_iterator()]
    return found


class _Search:
    def __init__(
        self, file: Foreign, output: str, trained: Trained, feeds: Sequence[Feed], encoded: list[bytes], watch: Watch
    ) -> None:
        self.file, self.output, self.trained, self.feeds, self.watch = file, output, trained, feeds, watch
        decode = trained.preprocessing.decode
        self.encoded_too = feeds[0] is BYTES
        if self.encoded_too:  # how a file decodes shows on what programs prepare differently
            encoded = [*encoded, *specimens(decode(encoded[0]).numpy()).values()]
        self.encoded = encoded
        self.pictures = [decode(one).numpy() for one in encoded]
        self.plain = [plain.decode(one) for one in self.encoded] if self.encoded_too else []
        self.answers: dict[Feed, Scores] = {}
        self.refused = ""
        self.run: dict[bool, tuple[Floats, Scores]] = {}  # what the network is given and answers, by Feed.resized
        self.alike: set[str] = set()  # mistakes that change nothing on these pictures
        self.seconds = 0.0  # that the network takes for all of them

    def result(self) -> dict[str, Any]:
        honest = [feed for feed in self.feeds if not feed.deviations]
        swapped = [feed for feed in self.feeds if feed.swapped and len(feed.deviations) == 1]
        found = self._ways([*honest, *swapped], self._own)
        answered = [feed for feed in honest if feed in self.answers]
        if not answered:
            ways = " or ".join(f"({feed.said})" for feed in honest[:3])
            raise UserError(f"{self.file.file} does not take pictures as {ways}: {self.refused.rstrip('.')}.")
        if self._differs_from_itself(answered[0]):
            return self._told(found, [], random=True)
        if (exact := comparing.explaining(found, self.file.computes)) and exact[0].is_exact:
            self._ways_inside(self._feed(exact[0]).resized)
            return self._told(found, exact)
        found = self._ways(self.feeds, self._own) + self._ways(self.feeds, self._with_one)
        explaining = comparing.explaining(found, self.file.computes)
        if not explaining or any(len(way.deviations) > 1 and OTHER_RESIZE in way.names for way in explaining):
            found += self._ways(honest, self._with_two)
        # A resize that is known says more than that there is another one, and what can be mended outside comes first.
        found.sort(key=lambda way: (len(way.deviations), OTHER_RESIZE in way.names, way.inside, way.feed))
        return self._told(found, comparing.explaining(found, self.file.computes))

    def _ways(self, feeds: Sequence[Feed], rights: Callable[[bool], list[Told]]) -> list[Way]:
        self._ask_all(feeds)
        found = []
        asked = [each for each in enumerate(self.answers.items()) if each[1][0] in feeds]
        of_run = {is_resized: rights(is_resized) for is_resized in sorted({feed.resized for _, (feed, _) in asked})}
        for number, (feed, answers) in asked:
            told = [each for each in of_run[feed.resized] if not self._says_nothing(feed, each)]
            found += comparing.ways((number, feed.deviations, answers), told, self.file.computes)
        return found

    def _says_nothing(self, feed: Feed, told: Told) -> bool:
        """Whether the run with this mistake is no proof of it: it is given what the file is given, and the network
        alone would answer so to whatever both are given; or it says the same to all pictures, as networks do that are
        given far too large numbers, where the file need not."""
        if not told.deviations:
            return False
        if told.inside and feed.resized and not self.file.takes_whole_numbers and told.inside.gives(feed.values):
            return True
        right_way_round = [answers for each, answers in self.answers.items() if not each.swapped]
        return not _vary(told.scores) and any(map(_vary, right_way_round))

    def _feed(self, way: Way) -> Feed:
        return [*self.answers][way.feed]

    # ---- the file

    def _ask_all(self, feeds: Sequence[Feed]) -> None:
        """Each once. Those that the file does not take have no answers."""
        new = [feed for feed in feeds if feed not in self.answers]
        for feed in self.watch(new, len(new), "Asking the file"):
            try:
                self.answers[feed] = self._ask(feed, slice(None))
            except RefusedError as error:
                self.refused = str(error)

    def _ask(self, feed: Feed, which: slice) -> Scores:
        if feed is BYTES:
            inputs: list[NDArray[Any]] = [np.frombuffer(one, np.uint8) for one in self.encoded[which]]
        else:
            inputs = feed.prepare(self.pictures[which], self.trained.preprocessing, self.file.takes_whole_numbers)
        scores, names = self.file.answers(inputs, self.output)
        return scores if names is None else self._by_label(scores, names)

    def _by_label(self, scores: Scores, names: NDArray[np.str_]) -> Scores:
        """Of a file that names its classes; NaN for those that it leaves out."""
        places = {label: place for place, label in enumerate(self.trained.labels)}
        if unknown := sorted({*names.ravel().tolist()} - places.keys() - {""}):
            listed = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if unknown[5:] else "")
            raise UserError(f"{self.file.file} names classes that are no labels of the run: {listed}.")
        found = np.full((len(scores), len(places)), np.nan)
        for row, (labels, values) in enumerate(zip(names.tolist(), scores.tolist(), strict=True)):
            for label, score in zip(labels, values, strict=True):
                if label:
                    found[row, places[label]] = score
        return found

    def _differs_from_itself(self, feed: Feed) -> bool:
        """Whether the same picture is answered differently each time."""
        first, again = self.answers[feed][0], self._ask(feed, slice(1))[0]
        return bool(np.nanmax(np.abs(first - again)) > comparing.EXACT)

    # ---- the run

    def _own(self, is_resized: bool) -> list[Told]:
        if is_resized not in self.run:
            inputs = mistakes.own(*self._of(is_resized)).inputs(self.pictures)
            answers = self._answer(inputs)
            started = time.perf_counter()
            self.run[is_resized] = (inputs, answers)
            self._answer(inputs)
            self.seconds = time.perf_counter() - started
        return [Told((), self.run[is_resized][1])]

    def _of(self, is_resized: bool) -> tuple[Any, bool]:
        """The preprocessing, and whether its pixels are rounded, since no others can be given to the file."""
        return self.trained.preprocessing, is_resized and self.file.takes_whole_numbers

    def _answer(self, inputs: Floats) -> Scores:
        return np.asarray(self.trained.model.predict_on_batch(inputs), np.float64)

    def _with_one(self, is_resized: bool) -> list[Told]:
        found = self._answers_to(self._ways_inside(is_resized))
        inputs, _ = self.run[is_resized]
        if any(isinstance(layer, NORMALISATIONS) for layer in _layers(self.trained.model)):
            found.append(Told((TRAINING,), self._in_training(inputs)))
        return found

    def _with_two(self, is_resized: bool) -> list[Told]:
        pairs = mistakes.pairs(*self._of(is_resized), whole=not is_resized, encoded=self.encoded_too)
        return self._answers_to(pairs) if len(pairs) * self.seconds < SEARCH else []

    def _ways_inside(self, is_resized: bool) -> list[Inside]:
        """The mistakes inside that change anything on these pictures; the others are `alike`."""
        inputs, _ = self.run[is_resized]
        found = []
        for inside in mistakes.singles(*self._of(is_resized), whole=not is_resized, encoded=self.encoded_too):
            if np.allclose(self._inputs(inside), inputs, rtol=0, atol=1e-5 * float(np.ptp(inputs))):
                self.alike |= {each.name for each in inside.deviations}
            else:
                found.append(inside)
        return found

    def _inputs(self, inside: Inside) -> Floats:
        return inside.inputs(self.plain if inside.plain else self.pictures)

    def _answers_to(self, ways: Sequence[Inside]) -> list[Told]:
        watched = self.watch(ways, len(ways), "Asking the run, with the mistakes that are known")
        return [Told(each.deviations, self._answer(self._inputs(each)), each) for each in watched]

    def _in_training(self, inputs: Floats) -> Scores:
        """One picture after the other, each normalised by its own statistics, without dropout."""
        model = self.trained.model
        for layer in _layers(model):
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
        weights = (
            [each.value for each in model.trainable_variables],
            [each.value for each in model.non_trainable_variables],
        )
        found = [model.stateless_call(*weights, image[np.newaxis], training=True)[0] for image in inputs]
        return np.concatenate([np.asarray(each, np.float64) for each in found])

    # ---- what came of it

    def _told(self, found: Sequence[Way], explaining: Sequence[Way], *, random: bool = False) -> dict[str, Any]:
        as_it_is = min((way for way in found if not way.deviations), key=lambda way: way.mean)
        chosen = explaining[0] if explaining else None
        nearest = min((way for way in found if len(way.deviations) == 1), key=lambda way: way.mean, default=None)
        deviations = chosen.deviations if chosen else ()
        # What is said of a way to feed the file can be said of its inside as well, and is no other explanation.
        equal = [way for way in explaining if chosen and way.inside == chosen.inside]
        others = {name for way in equal for name in way.names} | self._equal(found, chosen)
        labels = self.trained.labels
        is_left = chosen and nearest and not deviations and not chosen.is_exact
        closer = nearest if chosen and nearest and is_left and nearest.is_nearer(chosen) else None
        return {
            "ok": chosen is not None and not deviations,
            "runtime": self.file.runtime,
            "computes": self.file.computes,
            "pictures": len(self.pictures),
            "input": self._feed(chosen or as_it_is).said,
            "as_it_is": saying.figures(as_it_is),
            "explained": saying.figures(chosen) if chosen else None,
            "random": random,
            "mistakes": [each.name for each in deviations],
            "when": [each.when for each in deviations],
            "remedies": [each.remedy for each in deviations],
            "alike": sorted(others - {each.name for each in deviations}),
            "unseen": sorted(self.alike - others),
            "labels": [labels[place] for place in chosen.order] if chosen and chosen.order else None,
            "closer": {"when": closer.deviations[0].when, **saying.figures(closer)} if closer else None,
            "nearest": {"mistakes": [*nearest.names], **saying.figures(nearest)} if nearest and not chosen else None,
        }

    def _equal(self, found: Sequence[Way], chosen: Way | None) -> set[str]:
        """Single mistakes that explain the answers as well as none does."""
        if chosen is None or chosen.deviations:
            return set()
        as_well = max(comparing.EXACT, chosen.difference)
        near = [way for way in found if len(way.deviations) == 1 and way.difference <= as_well]
        return {way.names[0] for way in near if chosen.is_exact or not way.is_nearer(chosen)}


def _vary(scores: Scores) -> bool:
    return not np.isfinite(scores).all() or bool(np.ptp(scores, axis=0).max() >= VARIED)


def _layers(model: keras.Model) -> list[Any]:
    return list(model._flatten_layers(include_self=False))
