"""A small formant synthesiser: spoken words, many at a time, each in a voice of its own.

A word is a row of phones.  Pulses of the glottis and noise go through four resonators in a row, the formants;
noise of friction goes through one beside them (Klatt 1980, doi 10.1121/1.383940).  The vowels' formants are
the means of men of Peterson and Barney (1952, doi 10.1121/1.1906875), those of the consonants are Klatt's.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.signal import lfilter

SLOWEST: Final = 1.08  # times the length of a word's template; the quickest is as much shorter
LONG: Final = 0.18  # seconds, of vowels
PITCH: Final = (100.0, 180.0)  # Hz
TRACT: Final = (0.97, 1.08)  # times the formants of the table: a shorter vocal tract has higher ones
FALL: Final = 0.15  # of its pitch that a voice loses at most in a word
FOURTH: Final = 3500.0  # Hz, the fourth formant, which tells voices apart and not vowels
WIDTHS: Final = (60.0, 90.0, 150.0, 250.0)  # Hz, of the formants
HISS_WIDTH: Final = 600.0  # Hz
OPEN: Final = 0.6  # share of its period for which the glottis is open
HIGHEST: Final = 0.45  # of the sampling rate: higher resonators are left out, as they are hardly heard
ECHO: Final = 0.0016  # seconds
ECHOED: Final = 0.6
TICK: Final = 0.001  # seconds, of the templates
FRAME: Final = 0.005  # seconds for which the resonators stand still
GLIDE: Final = 41  # ticks in which one phone's formants become the next's
ONSET: Final = 9  # ticks in which a sound begins or ends


class Phone(NamedTuple):
    """What is held for a while: formants and frequency of the hiss in Hz, and how loud each source is."""

    formants: tuple[float, float, float]
    seconds: float
    voice: float = 0.0
    breath: float = 0.0  # noise through the formants
    hiss: float = 0.0  # noise beside them
    at: float = 2000.0


VOWELS: Final = {
    "iy": (270.0, 2290.0, 3010.0),
    "ih": (390.0, 1990.0, 2550.0),
    "eh": (530.0, 1840.0, 2480.0),
    "ae": (660.0, 1720.0, 2410.0),
    "ah": (640.0, 1190.0, 2390.0),
    "aa": (730.0, 1090.0, 2440.0),
    "ao": (570.0, 840.0, 2410.0),
    "uh": (440.0, 1020.0, 2240.0),
    "uw": (300.0, 870.0, 2240.0),
    "er": (490.0, 1350.0, 1690.0),
}
LIPS, TEETH, PALATE = (300.0, 1100.0, 2150.0), (300.0, 1600.0, 2600.0), (250.0, 1990.0, 2850.0)


def _stop(place: tuple[float, float, float], at: float, burst: float, *, voiced: bool) -> tuple[Phone, ...]:
    """A closure, a burst, and, where the voice waits, breath."""
    if voiced:
        return (Phone(place, 0.04, voice=0.2), Phone(place, 0.01, voice=0.2, hiss=burst, at=at))
    return (Phone(place, 0.04), Phone(place, 0.012, hiss=burst, at=at), Phone(place, 0.03, breath=0.12))


CONSONANTS: Final = {
    "p": _stop(LIPS, 800.0, 0.4, voiced=False),
    "t": _stop(TEETH, 3500.0, 0.06, voiced=False),
    "k": _stop(PALATE, 2000.0, 0.2, voiced=False),
    "b": _stop(LIPS, 800.0, 0.2, voiced=True),
    "d": _stop(TEETH, 3000.0, 0.08, voiced=True),
    "g": _stop(PALATE, 2000.0, 0.15, voiced=True),
    "f": (Phone((340.0, 1100.0, 2080.0), 0.08, breath=0.12),),
    "s": (Phone((320.0, 1390.0, 2530.0), 0.09, hiss=0.04, at=3500.0),),
    "sh": (Phone((300.0, 1840.0, 2750.0), 0.09, hiss=0.09, at=2600.0),),
    "m": (Phone((480.0, 1270.0, 2130.0), 0.07, voice=0.35),),
    "n": (Phone((480.0, 1340.0, 2470.0), 0.07, voice=0.35),),
    "w": (Phone((290.0, 610.0, 2150.0), 0.06, voice=0.6),),
    "y": (Phone((260.0, 2070.0, 3020.0), 0.06, voice=0.6),),
    "l": (Phone((310.0, 1050.0, 2880.0), 0.07, voice=0.6),),
}
WORDS: Final = {  # the first ten have each vowel once
    "see": "s iy",
    "ship": "sh ih p",
    "yes": "y eh s",
    "man": "m ae n",
    "shah": "sh aa",
    "law": "l ao",
    "book": "b uh k",
    "two": "t uw",
    "duck": "d ah k",
    "fur": "f er",
    "gap": "g ae p",
    "moon": "m uw n",
    "bell": "b eh l",
    "pop": "p aa p",
    "win": "w ih n",
    "teeth": "t iy f",
}


def phones(word: str) -> tuple[Phone, ...]:
    """The phones of one of `WORDS`."""
    found: list[Phone] = []
    for name in WORDS[word].split():
        found += [Phone(VOWELS[name], LONG, voice=1.0)] if name in VOWELS else CONSONANTS[name]
    return tuple(found)


def longest(words: list[str]) -> float:
    """Seconds that the longest of the words takes in the slowest voice."""
    return SLOWEST * TICK * max(template(word).shape[1] for word in words)


def template(word: str) -> Float64[np.ndarray, "7 ticks"]:
    """Three formants, frequency of the hiss, voice, breath and hiss, tick by tick; silent at both ends."""
    parts = phones(word)
    lengths = [round(part.seconds / TICK) for part in parts]
    held = np.array([[*part.formants, part.at, part.voice, part.breath, part.hiss] for part in parts])
    tracks = np.repeat(held, lengths, axis=0).T
    margin = ONSET // 2 + 1
    tracks = np.pad(tracks, ((0, 0), (margin, margin)), mode="edge")
    tracks[4:, :margin] = tracks[4:, -margin:] = 0.0
    for rows, width in ((slice(3), GLIDE), (slice(4, 7), ONSET)):
        window = np.hanning(width + 2)[1:-1] / np.hanning(width + 2).sum()
        padded = np.pad(tracks[rows], ((0, 0), (width // 2, width // 2)), mode="edge")
        tracks[rows] = [np.convolve(track, window, mode="valid") for track in padded]
    tracks[4:, [0, -1]] = 0.0
    return tracks


@dataclass(frozen=True, slots=True)
class Voices:
    """How each of n words is spoken."""

    start: Float64[np.ndarray, " n"]  # seconds
    speed: Float64[np.ndarray, " n"]  # seconds for one of the template's
    pitch: Float64[np.ndarray, " n"]  # Hz at the start
    fall: Float64[np.ndarray, " n"]  # share of it that is lost in a second
    tract: Float64[np.ndarray, "4 n"]  # times the formants of the table

    def rows(self, some: slice) -> "Voices":
        """Those of some of the words."""
        parts = (getattr(self, name)[..., some] for name in self.__slots__)
        return Voices(*parts)


def lengths(labels: Int64[np.ndarray, " n"], words: list[str]) -> Float64[np.ndarray, " n"]:
    """Seconds that the template of each word takes."""
    return np.array([template(word).shape[1] * TICK for word in words])[labels]


def drawn_voices(
    labels: Int64[np.ndarray, " n"], words: list[str], seconds: float, draw: np.random.Generator
) -> Voices:
    """Any speed, pitch and tract, and any start that leaves the word time to end."""
    n = len(labels)
    speed = draw.uniform(2 - SLOWEST, SLOWEST, n)
    return Voices(
        start=draw.random(n) * (seconds - speed * lengths(labels, words)),
        speed=speed,
        pitch=PITCH[0] * (PITCH[1] / PITCH[0]) ** draw.random(n),
        fall=draw.uniform(0, FALL, n),
        tract=draw.uniform(*TRACT, n) * draw.normal(1, 0.02, (4, n)),
    )


def spoken(
    labels: Int64[np.ndarray, " n"],
    words: list[str],
    voices: Voices,
    clip: tuple[int, int],
    draw: np.random.Generator,
) -> Float64[np.ndarray, "n samples"]:
    """Every labelled word in its voice, silent around it, with a mean square of 1 over the clip.

    labels: places in `words`.  clip: samples, and how many of them make a second.
    """
    samples, rate = clip
    tracks = _table(words)
    last = np.rint(lengths(labels, words) / TICK).astype(np.int64) - 1
    tick = (np.arange(samples)[:, None] / rate - voices.start) / voices.speed / TICK
    at = np.clip(np.rint(tick).astype(np.int64), 0, last)
    voice, breath, hiss = (tracks[row][labels, at] for row in (4, 5, 6))
    open_for = _phase(voices, samples, rate) / OPEN
    pulses = np.where(open_for < 1, 2 * open_for - 3 * open_for**2, 0.0)  # slope of Klatt and Klatt's pulse
    source = voice * pulses + breath * draw.standard_normal(at.shape)
    every = round(FRAME * rate)
    still = np.moveaxis(tracks[:4, labels, at[::every]], 0, 1)  # [frames, 4, n]
    at_hiss = still[:, 3:].copy()
    still[:, 3] = FOURTH
    wave = resonated(source, still * voices.tract, WIDTHS, rate)
    wave += resonated(hiss * draw.standard_normal(at.shape), at_hiss, (HISS_WIDTH,), rate)
    wave = _dispersed(wave, rate)
    wave[(at == 0) | (at == last)] = 0.0  # what rings on after the end
    return (wave / np.sqrt(np.square(wave).mean(0))).T


def _dispersed(wave: Float64[np.ndarray, "samples n"], rate: int) -> Float64[np.ndarray, "samples n"]:
    """The same spectrum with lower peaks, so that words can be loud: an all-pass filter, a small room."""
    delay = np.zeros(round(ECHO * rate) - 1)
    return lfilter([-ECHOED, *delay, 1.0], [1.0, *delay, -ECHOED], wave, axis=0)


def _table(words: list[str]) -> Float64[np.ndarray, "7 words ticks"]:
    """The words' templates, the shorter ones held on at their ends, where they are silent."""
    templates = [template(word) for word in words]
    most = max(track.shape[1] for track in templates)
    padded = [np.pad(track, ((0, 0), (0, most - track.shape[1])), mode="edge") for track in templates]
    return np.stack(padded, 1)


def _phase(voices: Voices, samples: int, rate: int) -> Float64[np.ndarray, "samples n"]:
    """Where in its period every glottis is, from 0 to 1."""
    time = np.arange(samples)[:, None] / rate
    return np.mod(np.cumsum(voices.pitch * (1 - voices.fall * time) / rate, axis=0), 1.0)


def resonated(
    source: Float[np.ndarray, "samples n"],
    at: Float64[np.ndarray, "frames k n"],
    widths: tuple[float, ...],
    rate: int,
) -> Float64[np.ndarray, "samples n"]:
    """The source through k resonators in a row, each of gain 1 at 0 Hz.

    at: their frequencies in Hz, frame by frame; the last frame may be short, and what is too high for the
        sampling rate is passed over.  widths: in Hz, at -3 dB.
    """
    heard = at < HIGHEST * rate
    radius = np.exp(-math.pi * np.array(widths) / rate)[:, None]
    last = np.where(heard, 2 * radius * np.cos(2 * math.pi * at / rate), 0.0)
    before = np.where(heard, -(radius**2), 0.0)
    gain = 1 - last - before
    every = -(-len(source) // len(at))
    y1, y2 = np.zeros(at.shape[1:]), np.zeros(at.shape[1:])
    wave = np.empty(source.shape)
    for t, value in enumerate(source):
        frame = t // every
        fed_back = last[frame] * y1 + before[frame] * y2
        y1, y2 = np.empty_like(y1), y1
        for k, own in enumerate(fed_back):
            value = gain[frame, k] * value + own
            y1[k] = value
        wave[t] = value
    return wave
