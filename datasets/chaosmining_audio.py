"""The published sounds of ChaosMining: a spoken word in one of several channels."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float32
from torch import Tensor

from ..benchmarks.plugin import Problem, dataset
from ..benchmarks.published import Condition, Counts, Entry, drawn
from ..benchmarks.registry import AssayError

BACKGROUND: Final = 20  # rows
FULL: Final = {"int16": 2.0**15, "int32": 2.0**31, "float32": 1.0, "float64": 1.0}  # what 1 is written as


@dataset(version=1, paper="https://arxiv.org/abs/2406.12150", noise=("condition",))
def chaosmining_audio(
    rng: torch.Generator,
    /,
    *,
    path: Path | None = None,
    condition: Condition = "RBFP",
    train: Annotated[int, Ge(2), Le(100_000)] = 1_000,
    validation: Annotated[int, Ge(1), Le(100_000)] = 100,
    test: Annotated[int, Ge(1), Le(100_000)] = 200,
    explained: Annotated[int, Ge(1), Le(100_000)] = 50,
) -> Problem:
    """Sounds of the published folder: which word is spoken in one of the channels.

    Reads `<path>/<condition>/{train,val}/metadata.csv`, which lists file_name (such as yes/clip.wav), label
    and position, the channel with the word, counted from 0.  Only the rows asked for are opened, drawn by
    the seed with as many of every class as can be: train and validation rows from `train`, test rows from
    `val`.  Whole numbers are divided by the largest that fits; floating point must be within -1 and 1.
    `masks["relevant"]` is the whole channel with the word, and each channel is a unit of perturbation.
    All clips must have one rate and length: a shorter one filled up with silence would tell of its word in
    all channels.  A clip takes 4 * channels * samples bytes: 640 kB at the published size.

    Args:
        rng: source of all random numbers.
        path: the folder of the published data set.
        condition: noise random (RB) or recorded (SB), channel fixed (FP) or random (RP).
        train: rows that fit the parameters.
        validation: rows that decide when to stop.
        test: rows that no model has seen.
        explained: test rows that are explained.

    Raises:
        NotApplicable: no path is given.
        AssayError: the folder is not as described, a clip cannot be read or is of another rate or shape than
            the others or has one channel, a position is none of the channels, or there are too few rows.
    """
    counts = Counts(train=train, validation=validation, test=test, explained=explained)
    rows = drawn(path, condition, ("file_name", "label", "position"), counts, rng)
    first = train + validation
    x, rate = _clips(rows.entries)
    channels = torch.arange(x.shape[1])
    spoken = torch.tensor([_channel(entry, x.shape[1]) for entry in rows.entries])[first : first + explained]
    relevant = (spoken[:, None] == channels)[:, :, None].expand(-1, *x.shape[1:])
    return Problem(
        x=x,
        y=rows.y,
        task="classification",
        n_train=train,
        n_validation=validation,
        n_explained=explained,
        baseline=torch.zeros(x.shape[1:]),
        background=x[: min(BACKGROUND, train)],
        masks={"relevant": relevant},
        groups=channels[:, None].expand(x.shape[1:]).contiguous(),
        facts={**rows.facts, "rate": float(rate)},
    )


def _channel(entry: Entry, channels: int) -> int:
    position = entry.whole("position")
    if position >= channels:
        raise entry.wrong(f"position is {position}, and the channels are 0 to {channels - 1}; mend it")
    return position


def _clips(entries: Sequence[Entry]) -> tuple[Float32[Tensor, "n channels time"], int]:
    """All clips, and their rate in samples a second."""
    clip, rate = _opened(entries[0])
    if len(clip) < 2:
        raise AssayError(
            f"sound {str(entries[0].file())!r} has one channel, so that none is irrelevant; "
            "give sounds of at least two."
        )
    x = torch.empty(len(entries), *clip.shape)
    for i, entry in enumerate(entries):
        found, its_rate = _opened(entry)
        if (found.shape, its_rate) != (clip.shape, rate):
            raise AssayError(
                f"sound {str(entry.file())!r} has {found.shape[0]} channels of {found.shape[1]} samples "
                f"at {its_rate} Hz, and others have {clip.shape[0]} of {clip.shape[1]} at {rate} Hz; give "
                "sounds of one shape and rate."
            )
        x[i] = torch.from_numpy(found)
    return x, rate


def _opened(entry: Entry) -> tuple[Float32[np.ndarray, "channels time"], int]:
    """The clip of this entry, and its rate."""
    from scipy.io import wavfile

    file = entry.file()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks of text beside the sound
            rate, values = wavfile.read(file)
    except Exception as error:  # scipy raises whatever the broken bytes lead to
        why = " ".join(str(error).split()) or type(error).__name__
        raise AssayError(f"sound {str(file)!r} cannot be read ({why}); replace the file.") from None
    kind = values.dtype.name
    if kind not in FULL or not values.size:
        raise AssayError(
            f"sound {str(file)!r} holds {values.size} numbers of type {kind}; give some, of type "
            f"{', '.join(FULL)}."
        )
    scaled = values.reshape(len(values), -1).T / FULL[kind]
    if not (np.abs(scaled) <= 1).all():  # which is also False for NaN
        raise AssayError(f"sound {str(file)!r} has values that are not within -1 and 1; scale it.")
    return scaled.astype(np.float32), int(rate)
