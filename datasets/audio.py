"""A spoken word in one channel among channels of noise or of everyday sounds."""

from typing import Annotated, Final, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..benchmarks.plugin import Problem, dataset
from ..benchmarks.registry import AssayError
from ..benchmarks.soundscape import mixed, noise, scenes
from ..benchmarks.speech import WORDS, Voices, drawn_voices, lengths, longest, spoken

BACKGROUND: Final = 20  # rows
LEVELS: Final = (0.22, 0.34)  # root mean square of a channel, over the clip: the word's, and any scene's
BLOCK: Final = 256  # rows that are drawn together


@dataset(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    noise=("background", "position", "snr_db"),
)
def audio(
    rng: torch.Generator,
    /,
    *,
    background: Literal["random", "structured"] = "random",
    position: Literal["fixed", "random"] = "fixed",
    channels: Annotated[int, Ge(2), Le(64)] = 10,
    classes: Annotated[int, Ge(2), Le(len(WORDS))] = 10,
    seconds: Annotated[float, Ge(0.1), Le(5)] = 0.4,
    rate: Annotated[int, Ge(4_000), Le(48_000)] = 4_000,
    snr_db: Annotated[float, Ge(-100), Le(200)] = 20.0,
    window: Annotated[int, Ge(0)] = 0,
    train: Annotated[int, Ge(2), Le(100_000)] = 4_000,
    validation: Annotated[int, Ge(0), Le(100_000)] = 200,
    test: Annotated[int, Ge(1), Le(100_000)] = 200,
    explained: Annotated[int, Ge(1), Le(100_000)] = 50,
) -> Problem:
    """Which word is spoken in one of several channels, the others of which tell nothing.

    Rows are [channels, time] in [-1, 1].  Words come from a formant synthesiser (`assay.benchmarks.speech`),
    each row in a voice, at a speed, a level and a start of its own; classes are equally frequent, but for
    rounding, in each part.  Every other channel holds clip(0.25 N(0, 1), -1, 1), or a scene: rain, birds or
    hum.  The word's channel holds such a background too, `snr_db` below the word.

    `masks["relevant"]` is the whole channel of the word, row by row; `masks["word"]` is the time in it from
    the word's start to its end.  A unit is a channel, or with `window` that many samples of one.

    How loud a channel is tells no class: the word with its background has, over the clip, a root mean square
    drawn from 0.22 to 0.34 whatever the word.  Scenes have theirs by the same law, so that with them loudness
    does not tell where the word is either; noise has 0.25 in every channel, so that mostly it does.  (Peaks
    beyond 1 are clipped: some samples of a few clips.)

    Unlike the source, whose words are recordings of a second (Speech Commands, 35 words, at 16 kHz) and whose
    scenes are of a rain forest, everything is synthesised, and there is a background under the word.  By
    default clips are short and hold what is below 2 kHz, two formants of most vowels, so that networks learn
    from some thousand rows in less than a minute; x takes 64 kB a row.

    Args:
        rng: source of all random numbers.
        background: noise in each sample (random), or scenes (structured).
        position: the word's channel: one for all rows, drawn by the seed (fixed), or one drawn for each row.
        channels: of every row.
        classes: words; the first so many of `assay.benchmarks.speech.WORDS`.
        seconds: length of a clip.
        rate: samples a second.
        snr_db: power of the word over that of the background in its channel, both over the clip, in dB.
        window: samples of a unit; 0: a unit is a channel.
        train: rows that fit the model.
        validation: rows that decide when to stop.
        test: rows that are predicted.
        explained: test rows that are explained.

    Raises:
        AssayError: a word does not fit into a clip, or a window does not, or there are fewer test rows than
            are to be explained, or fewer train rows than classes.
    """
    words, clip = [*WORDS][:classes], (round(seconds * rate), rate)
    _check(words, seconds, (window, clip[0]), (explained, test), train)
    draw = np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng).item()))
    y = np.concatenate([draw.permutation(np.arange(rows) % classes) for rows in (train, validation, test)])
    anywhere = draw.integers(channels, size=len(y))
    place = anywhere if position == "random" else np.full(len(y), anywhere[0])
    voices = drawn_voices(y, words, seconds, draw)
    x = np.empty((len(y), channels, clip[0]), dtype=np.float32)
    of_words, of_scenes = draw.spawn(2)  # the words do not hang on what is behind them
    for first in range(0, len(y), BLOCK):
        some = slice(first, first + BLOCK)
        for channel in range(channels):
            x[some, channel] = _background(background, len(y[some]), clip, of_scenes)
        word = spoken(y[some], words, voices.rows(some), clip, of_words)
        at = np.arange(len(y))[some], place[some]
        x[at] = _levels(len(word), of_words) * mixed(word, x[at], snr_db)
    np.clip(x, -1, 1, out=x)
    shown = slice(train + validation, train + validation + explained)
    relevant = torch.from_numpy(place[shown])[:, None, None] == torch.arange(channels)[:, None]
    relevant = relevant.expand(-1, -1, clip[0]).contiguous()
    return Problem(
        x=torch.from_numpy(x),
        y=torch.from_numpy(y),
        task="classification",
        n_train=train,
        n_validation=validation,
        n_explained=explained,
        baseline=torch.zeros(channels, clip[0]),
        background=torch.from_numpy(x[: min(BACKGROUND, train)]),
        masks={"relevant": relevant, "word": relevant & _sounding(y[shown], words, voices.rows(shown), clip)},
        groups=_units(channels, clip[0], window or clip[0]),
        facts={"snr_db": snr_db, "chance": 1 / classes, "classes": ", ".join(words), "rate": float(rate)},
    )


def _check(
    words: list[str], seconds: float, window: tuple[int, int], explained: tuple[int, int], train: int
) -> None:
    """Whether such rows can be."""
    needed = longest(words)
    if needed > seconds:
        raise AssayError(
            f"seconds = {seconds} is too short for the longest of the {len(words)} words; "
            f"give at least {needed:.2f} or fewer classes."
        )
    if window[0] > window[1]:
        raise AssayError(
            f"window = {window[0]} is more than the {window[1]} samples of a clip (seconds x rate); "
            f"give at most {window[1]}, or 0 for whole channels."
        )
    if explained[0] > explained[1]:
        raise AssayError(
            f"explained = {explained[0]} is more than test = {explained[1]}; explain at most {explained[1]} "
            "rows or draw more."
        )
    if train < len(words):
        raise AssayError(
            f"train = {train} rows cannot show all of classes = {len(words)}; give at least {len(words)}."
        )


def _background(
    kind: str, n: int, clip: tuple[int, int], draw: np.random.Generator
) -> Float[np.ndarray, "n samples"]:
    """One channel's sound in every row, where there is no word."""
    return noise(n, clip[0], draw) if kind == "random" else _levels(n, draw) * scenes(n, clip, draw)


def _levels(n: int, draw: np.random.Generator) -> Float[np.ndarray, "n 1"]:
    """Root mean squares, even in dB."""
    return LEVELS[0] * (LEVELS[1] / LEVELS[0]) ** draw.random((n, 1))


def _sounding(
    labels: Int64[np.ndarray, " n"], words: list[str], voices: Voices, clip: tuple[int, int]
) -> Bool[Tensor, "n 1 samples"]:
    """The time from every word's start to its end."""
    time = np.arange(clip[0]) / clip[1]
    end = voices.start + voices.speed * lengths(labels, words)
    return torch.from_numpy((time >= voices.start[:, None]) & (time < end[:, None]))[:, None]


def _units(channels: int, samples: int, window: int) -> Int64[Tensor, "channels samples"]:
    """A unit for every channel and window; the last window of a channel may be short."""
    windows = -(-samples // window)
    return torch.arange(channels)[:, None] * windows + torch.arange(samples) // window
