"""Spoken words among channels of noise or scenes, the synthesiser behind them, and the share of channels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import solve_toeplitz
from sklearn.linear_model import LogisticRegression

from assay import metrics
from assay.benchmarks import soundscape, speech
from assay.benchmarks.plugin import METRICS, Case, Evidence, NotApplicable
from assay.benchmarks.registry import AssayError
from assay.benchmarks.speech import VOWELS, WORDS, Voices
from assay.datasets.audio import audio

torch.set_num_threads(1)
METRICS.discover(metrics)
RATE = 8000
BANDS = ((0, 1000), (1000, 2000))  # Hz: hum, and birds
SMALL = {"channels": 3, "train": 40, "validation": 10, "test": 40, "explained": 30}


def drawn(seed=0, **given):
    return audio(torch.Generator().manual_seed(seed), **(SMALL | given))


def places(problem):
    """The word's channel in every explained row."""
    return problem.masks["relevant"].any(2).long().argmax(1)


def channel_of_word(problem):
    """What the explained rows hold there."""
    rows = problem.x[problem.explained]
    return rows[torch.arange(len(rows)), places(problem)].double().numpy()


def log_power(problem):
    return problem.x.double().square().mean(2).log().numpy()


def accuracy(features, labels, half):
    found = LogisticRegression(max_iter=1000).fit(features[:half], labels[:half])
    return found.score(features[half:], labels[half:])


# ---- the problem ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["random", "structured"])
@pytest.mark.parametrize("snr_db", [-6.0, 12.0])
def test_the_word_stands_so_far_above_its_background(background, snr_db):
    """By least squares on the word alone and the background alone, which other SNRs of the same seed show."""
    word, behind, both = (
        channel_of_word(drawn(3, background=background, snr_db=db)) for db in (200.0, -100.0, snr_db)
    )
    found = []
    for w, b, mixed in zip(word, behind, both, strict=True):
        parts = np.stack([w, b], 1)
        share = np.linalg.lstsq(parts, mixed, rcond=None)[0]
        power = np.square(parts * share).mean(0)
        found.append(10 * np.log10(power[0] / power[1]))
        assert np.abs(parts @ share - mixed).max() < 0.5  # clipped peaks
    assert np.median(np.abs(np.array(found) - snr_db)) < 0.02
    assert found == pytest.approx([snr_db] * len(found), abs=0.6)


def test_what_is_behind_a_word_does_not_change_it():
    word, other = (channel_of_word(drawn(background=b, snr_db=200.0)) for b in ("random", "structured"))
    assert np.abs(word - other).max() < 1e-5
    assert np.abs(word - channel_of_word(drawn(seed=1, snr_db=200.0))).max() > 0.1


@pytest.mark.parametrize("background", ["random", "structured"])
def test_how_loud_the_channels_are_does_not_tell_the_class(background):
    given = drawn(background=background, classes=4, train=600, validation=2, test=598)
    power, labels = log_power(given), given.y.numpy()
    limit = 0.25 + 4 * (0.25 * 0.75 / 600) ** 0.5
    assert accuracy(power, labels, 600) < limit
    at = int(places(given)[0])
    spectrum = np.abs(np.fft.rfft(given.x[:, at].numpy()))[:, :800].reshape(len(labels), 32, -1)
    assert accuracy(np.log(np.square(spectrum).mean(2)), labels, 600) > 0.8  # the words themselves do


@pytest.mark.parametrize(("background", "told"), [("structured", False), ("random", True)])
def test_scenes_hide_by_their_loudness_where_the_word_is_and_noise_does_not(background, told):
    given = drawn(background=background, position="random", test=500, explained=500)
    rows = log_power(given)[given.explained]
    odd = np.abs(rows - np.median(rows, 1, keepdims=True)).argmax(1)
    for found in (odd, rows.argmin(1), rows.argmax(1)):
        share = (found == places(given).numpy()).mean()
        assert told or abs(share - 1 / 3) < 0.09
    assert not told or (odd == places(given).numpy()).mean() > 0.7


def test_the_words_channel_is_one_or_any():
    fixed, anywhere = (drawn(position=p) for p in ("fixed", "random"))
    for given in (fixed, anywhere):
        relevant = given.masks["relevant"]
        assert relevant.shape == (30, 3, 1600)
        assert (relevant.all(2) == relevant.any(2)).all()
        assert (relevant.any(2).sum(1) == 1).all()
    assert len(places(fixed).unique()) == 1
    assert len(places(anywhere).unique()) == 3
    assert len({int(places(drawn(seed))[0]) for seed in range(8)}) > 1  # drawn by the seed


def test_the_mask_of_the_word_is_where_it_sounds():
    given = drawn(position="random", snr_db=200.0)
    word, relevant = given.masks["word"], given.masks["relevant"]
    assert not (word & ~relevant).any()
    rows = given.x[given.explained]
    assert rows[relevant & ~word].abs().max() < 1e-6
    assert rows[word].square().mean() > 0.02
    share = word.sum((1, 2)) / 1600
    assert share.min() > 0.4
    assert share.max() < 1.0


def test_rows_of_one_class_are_spoken_differently():
    given = drawn(classes=2, snr_db=200.0)
    clips, labels = channel_of_word(given), given.y[given.explained].numpy()
    for label in (0, 1):
        spectra = np.fft.rfft(clips[labels == label], n=6400)
        size = np.sqrt(np.square(clips[labels == label]).sum(1))
        for i in range(len(size)):
            alike = np.fft.irfft(spectra * spectra[i].conj()).max(1) / size / size[i]  # at the best lag
            assert alike[i] == pytest.approx(1.0)
            assert np.delete(alike, i).max() < 0.95


def test_classes_are_even_in_each_part_and_facts_say_what_is_known():
    given = drawn(classes=5, snr_db=7.0)
    for part in (given.train, given.validation, given.test):
        count = given.y[part].bincount(minlength=5)
        assert count.max() == count.min()
    assert given.facts["chance"] == 0.2
    assert (given.facts["snr_db"], given.facts["rate"]) == (7.0, 4000.0)
    assert given.facts["classes"] == "see, ship, yes, man, shah"
    assert given.x.abs().max() <= 1
    assert not given.baseline.any()
    assert len(given.background) == 20


def test_units_are_channels_or_windows_of_them():
    assert drawn().groups[:, ::800].tolist() == [[0, 0], [1, 1], [2, 2]]
    units = drawn(window=700).groups
    assert units[:, [0, 699, 700, 1400, 1599]].tolist() == [
        [3 * c + w for w in (0, 0, 1, 2, 2)] for c in range(3)
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seconds": 0.3}, "seconds = 0.3 is too short"),
        ({"window": 1601}, "window = 1601 is more than the 1600 samples"),
        ({"explained": 41}, "explained = 41 is more than test = 40"),
        ({"train": 9}, "train = 9 rows cannot show all of classes = 10"),
    ],
)
def test_what_cannot_be_is_refused(given, says):
    with pytest.raises(AssayError, match=says):
        drawn(**given)


def test_a_word_that_just_fits_is_spoken_to_its_end():
    needed = speech.longest([*WORDS][:10])
    given = drawn(seconds=round(needed + 0.001, 3), snr_db=200.0)
    assert given.masks["word"].any((1, 2)).all()


@pytest.mark.parametrize("rate", [8000, 22050])
def test_other_rates_speak_the_same_words(rate):
    given = drawn(rate=rate, classes=16, train=16, validation=0, test=16, explained=16)
    assert given.x.shape == (32, 3, round(0.4 * rate))
    assert given.x.isfinite().all()


# ---- the synthesiser ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vowel", VOWELS)
def test_resonators_ring_at_the_formants_of_the_table(vowel):
    impulse = np.zeros((RATE, 1))
    impulse[0] = 1.0
    at = np.array(VOWELS[vowel])[None, :, None]
    heard = np.abs(np.fft.rfft(speech.resonated(impulse, at, speech.WIDTHS[:3], RATE)[:, 0]))  # 1 Hz a bin
    peaks = np.flatnonzero((heard[1:-1] > heard[:-2]) & (heard[1:-1] > heard[2:])) + 1
    assert heard[0] == pytest.approx(1.0, abs=1e-3)
    for formant in VOWELS[vowel]:
        assert np.abs(peaks - formant).min() < 0.05 * formant


def test_a_resonator_too_high_for_the_sampling_rate_is_passed_over():
    source, at = np.random.default_rng(0).standard_normal((400, 1)), np.array([500.0, 1500.0, 1900.0])
    both = [speech.resonated(source, at[None, :k, None], speech.WIDTHS[:k], 4000) for k in (2, 3)]
    assert np.array_equal(*both)


def formants_of(wave, order=10):
    """Frequencies and widths of the poles of a linear prediction."""
    wave = np.diff(wave) * np.hamming(len(wave) - 1)
    power = np.correlate(wave, wave, mode="full")[len(wave) - 1 :][: order + 1]
    roots = np.roots([1, *-solve_toeplitz(power[:order], power[1:])])
    return np.sort(np.angle(roots[(roots.imag > 0) & (np.abs(roots) > 0.9)])) * RATE / 2 / np.pi


@pytest.mark.parametrize("word", [*WORDS][:10])
def test_the_vowel_of_a_spoken_word_has_its_formants(word):
    even = Voices(*(np.array([v]) for v in (0.02, 1.0, 100.0, 0.0)), tract=np.ones((4, 1)))
    wave = speech.spoken(np.array([0]), [word], even, (3200, RATE), np.random.default_rng(0))[0]
    assert np.square(wave).mean() == pytest.approx(1.0)
    parts = speech.phones(word)
    at = next(i for i, part in enumerate(parts) if part.voice == 1.0)
    middle = 0.02 + 0.005 + sum(part.seconds for part in parts[:at]) + parts[at].seconds / 2
    found = formants_of(wave[int((middle - 0.025) * RATE) : int((middle + 0.025) * RATE)])
    for formant in parts[at].formants[:2]:
        assert np.abs(found - formant).min() < max(60, 0.1 * formant)


def test_a_voice_has_its_pitch_and_its_tract():
    def said(pitch, tract):
        voice = Voices(*(np.array([v]) for v in (0.0, 1.0, pitch, 0.0)), tract=np.full((4, 1), tract))
        return speech.spoken(np.array([0]), ["shah"], voice, (3200, RATE), np.random.default_rng(0))[0]

    vowel = said(160.0, 1.0)[1000:1800]
    alike = np.correlate(vowel, vowel, mode="full")[799:]
    assert abs(alike[30:80].argmax() + 30 - RATE / 160) <= 1
    low, high = (formants_of(said(100.0, tract)[1200:1700])[0] for tract in (1.0, 1.15))
    assert 1.05 < high / low < 1.25


def test_words_are_silent_at_both_ends_and_ten_vowels_are_told_first():
    for word in WORDS:
        assert not speech.template(word)[4:, [0, -1]].any()
    assert {word.split()[1] for word in [*WORDS.values()][:10]} == set(VOWELS)


# ---- what is behind them --------------------------------------------------------------------------------


def test_scenes_are_of_one_loudness_and_differ_in_kind():
    draw = np.random.default_rng(0)
    clip = (4000, RATE)
    assert np.square(soundscape.scenes(30, clip, draw)).mean(1) == pytest.approx(np.ones(30), rel=1e-4)
    share = {}
    for make in (soundscape.rain, soundscape.birds, soundscape.hum):
        power = np.square(np.abs(np.fft.rfft(make(20, clip, draw)))).mean(0)[1:]  # 2 Hz a bin
        share[make.__name__] = [power[low // 2 : high // 2].sum() / power.sum() for low, high in BANDS]
    assert min(share["rain"]) > 0.1  # at all frequencies
    assert share["birds"][1] > 0.85
    assert share["hum"][0] > 0.9
    assert soundscape.scenes(0, clip, draw).shape == (0, 4000)


def test_noise_is_that_of_the_paper():
    heard = soundscape.noise(50, 4000, np.random.default_rng(0))
    assert heard.std() == pytest.approx(0.25, abs=2e-3)
    assert heard.min() == -1.0
    assert heard.max() == 1.0


def test_a_mixture_has_its_ratio_exactly():
    draw = np.random.default_rng(0)
    word, behind = draw.standard_normal((2, 5, 400))
    got = soundscape.mixed(word, behind, 6.0)
    unit = [part / np.sqrt(np.square(part).mean(1, keepdims=True)) for part in (word, behind)]
    want = unit[0] + 10**-0.3 * unit[1]
    assert got == pytest.approx(want / np.sqrt(np.square(want).mean(1, keepdims=True)))


# ---- the share of channels ------------------------------------------------------------------------------


def evidence(a, relevant):
    a = torch.as_tensor(a, dtype=torch.float64)
    case = Case(
        model=torch.nn.Flatten(),
        x=a,
        target=torch.zeros(len(a), dtype=torch.int64),
        baseline=torch.zeros_like(a[0]),
        background=a[:1],
        groups=None,
        rng=torch.Generator(),
    )
    made = {"empty": torch.zeros(len(a)), "other": None, "explain": lambda _: a, "rng": torch.Generator()}
    return Evidence(case=case, attribution=a, masks={"relevant": torch.as_tensor(relevant)}, truth=a, **made)


def share(a, relevant, metric="channel_share", **given):
    return METRICS[metric].function(evidence(a, relevant), **given).tolist()


def test_the_share_is_of_sizes_and_of_whole_channels():
    a = [[[1.0, -2.0], [0.0, 3.0], [-4.0, 0.0]]]
    assert share(a, [[[False, False], [True, True], [False, False]]]) == [0.3]
    assert share(a, [[[False, True], [False, False], [False, True]]]) == [0.7]
    assert share(a, [[[False, True], [False, False], [False, True]]], "attribution_mass") == [0.2]


def test_the_net_share_is_of_what_each_channel_adds_up_to():
    """What cancels within a channel counts for nothing; an even map scores as its sizes do."""
    a, last = [[[1.0, -2.0], [0.0, 3.0], [-4.0, 4.0]]], [[[False, False], [True, True], [False, False]]]
    assert share(a, last, net=True) == [3 / 4]
    assert share(a, last) == [3 / 14]
    even = [[[2.0, 2.0], [-5.0, -5.0], [0.5, 0.5]]]
    assert share(even, last, net=True) == pytest.approx(share(even, last))
    assert share([[[1.0, -1.0], [2.0, -2.0], [0.0, 0.0]]], last, net=True) == pytest.approx(
        [1 / 3]
    )  # nothing


def test_zero_and_constant_maps_score_the_share_of_relevant_channels():
    mask = torch.zeros(2, 5, 4, dtype=torch.bool)
    mask[0, 1], mask[1, 2:4] = True, True
    for value in (0.0, 3.0):
        assert share(torch.full((2, 5, 4), value), mask) == pytest.approx([0.2, 0.4])


def test_on_whole_channels_it_is_the_mass_and_the_mask_scores_one():
    given = drawn(position="random")
    relevant = given.masks["relevant"]
    noise = torch.randn(relevant.shape, generator=torch.Generator().manual_seed(0))
    assert share(noise, relevant) == pytest.approx(share(noise, relevant, "attribution_mass"))
    assert np.mean(share(noise, relevant)) == pytest.approx(1 / 3, abs=0.02)
    assert share(relevant.double(), relevant) == [1.0] * len(relevant)


def test_axes_of_one_place_are_passed_over_and_one_channel_is_refused():
    a, mask = torch.rand(2, 3, 4), torch.rand(1, 3, 4) < 0.3
    assert share(a[:, None], mask[:, None]) == share(a, mask)
    for shape in ((6,), (1, 6), (1, 1, 6)):
        with pytest.raises(NotApplicable, match="not laid out in several"):
            share(torch.rand(2, *shape), torch.ones(1, *shape, dtype=torch.bool))


def test_a_mask_for_all_rows_serves():
    a = torch.rand(3, 2, 4)
    mask = torch.zeros(1, 2, 4, dtype=torch.bool)
    mask[:, 1] = True
    one = evidence(a, mask)
    each = replace(one, masks={"relevant": mask.expand(3, -1, -1)})
    assert share(a, mask) == METRICS["channel_share"].function(each).tolist()
