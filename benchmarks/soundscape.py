"""Sounds that go on behind a word: noise, rain, birds and hum, many at a time; and how they are mixed."""

import math
from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

SPREAD: Final = 0.25  # standard deviation of noise before it is clipped to [-1, 1]
DROPS: Final = (100.0, 800.0)  # of rain in a second, of every size
SIZES: Final = ((400.0, 200.0), (900.0, 300.0), (1600.0, 500.0))  # Hz: what drops of a size ring at, how wide
SONG: Final = (1100.0, 1900.0)  # Hz, of birds
CHIRPS: Final = (5.0, 14.0)  # in a second
REST: Final = 0.3  # share of chirps left out
MAINS: Final = (50.0, 60.0)  # Hz
HARMONICS: Final = 16
PERIOD: Final = 512  # points of one period of a hum
FLOOR: Final = 0.1  # of faint noise in birds and hum, as a share of the amplitude

Clips = Float[np.ndarray, "n samples"]


def noise(n: int, samples: int, draw: np.random.Generator) -> Clips:
    """clip(0.25 N(0, 1), -1, 1)."""
    return np.clip(SPREAD * draw.standard_normal((n, samples), dtype=np.float32), -1, 1)


def scenes(n: int, clip: tuple[int, int], draw: np.random.Generator) -> Clips:
    """Clips of rain, birds or hum, each as likely, with a mean square of 1.

    clip: samples, and how many of them make a second.
    """
    kind = draw.integers(3, size=n)
    found = np.empty((n, clip[0]), dtype=np.float32)
    for number, make in enumerate((rain, birds, hum)):
        found[kind == number] = make(int((kind == number).sum()), clip, draw)
    return found / rms(found)


def rms(clips: Clips) -> Float[np.ndarray, "n 1"]:
    """The root of the mean square of every clip."""
    return np.sqrt(np.square(clips).mean(1, keepdims=True))


def rain(n: int, clip: tuple[int, int], draw: np.random.Generator) -> Clips:
    """Drops of three sizes, each with a ring of its own, that fall at random."""
    samples, rate = clip
    found = np.zeros((n, samples), dtype=np.float32)
    for at, width in SIZES:
        often = DROPS[0] * (DROPS[1] / DROPS[0]) ** draw.random(n) * samples / rate
        cloud = np.repeat(np.arange(n), draw.poisson(often))
        drops = np.zeros((n, samples), dtype=np.float32)
        drops[cloud, draw.integers(samples, size=len(cloud))] = draw.standard_normal(len(cloud))
        radius = math.exp(-math.pi * width / rate)
        poles = [1.0, -2 * radius * math.cos(2 * math.pi * at / rate), radius**2]
        found += lfilter([1.0, 0.0, -1.0], poles, drops)
    return found


def birds(n: int, clip: tuple[int, int], draw: np.random.Generator) -> Clips:
    """Chirps, one after the other with rests, whose pitch glides."""
    samples, rate = clip
    time = np.arange(samples, dtype=np.float32) / rate
    beat = draw.uniform(*CHIRPS, (n, 1)).astype(np.float32) * time + draw.random((n, 1), dtype=np.float32)
    chirp = beat.astype(np.int64)
    each = (n, int(chirp.max(initial=0)) + 1)
    start, end = draw.uniform(*SONG, (2, *each)).astype(np.float32)
    loud = draw.uniform(0.3, 1.0, each).astype(np.float32) * (draw.random(each) > REST)
    start, end, loud = (np.take_along_axis(values, chirp, 1) for values in (start, end, loud))
    within = beat - chirp
    turns = np.cumsum(start + (end - start) * within, axis=1) / rate
    return loud * np.sin(math.pi * within) ** 2 * np.sin(2 * math.pi * turns) + _faint(n, samples, draw)


def hum(n: int, clip: tuple[int, int], draw: np.random.Generator) -> Clips:
    """The mains and its harmonics, each as loud as it comes."""
    samples, rate = clip
    spectrum = np.zeros((n, PERIOD // 2 + 1), dtype=np.complex128)
    shape = (n, HARMONICS)
    size = draw.random(shape) / np.arange(1, HARMONICS + 1)
    spectrum[:, 1 : HARMONICS + 1] = size * np.exp(2j * math.pi * draw.random(shape))
    wave = np.fft.irfft(spectrum, axis=1)
    wave /= np.maximum(rms(wave), 1e-12)
    turns = draw.choice(MAINS, (n, 1)) * draw.uniform(0.99, 1.01, (n, 1)) * np.arange(samples) / rate
    place = (np.mod(turns, 1.0) * PERIOD).astype(np.int64)
    return np.take_along_axis(wave, place, 1) + _faint(n, samples, draw)


def _faint(n: int, samples: int, draw: np.random.Generator) -> Clips:
    """So that no clip is silent."""
    return FLOOR * draw.standard_normal((n, samples), dtype=np.float32)


def mixed(word: Clips, background: Clips, snr_db: float) -> Clips:
    """The word over its background, `snr_db` above it in power over the clip; a mean square of 1 in all."""
    both = word / rms(word) + 10 ** (-snr_db / 20) * background / rms(background)
    return both / rms(both)
