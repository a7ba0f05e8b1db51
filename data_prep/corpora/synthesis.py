"""A source-filter voice: (speaker, emotion) -> samples.

Pulses of a glottis with jitter, shimmer and breath excite four formants that
glide between vowels; fricatives, closures and pauses part the syllables
(Fant, Acoustic Theory of Speech Production, 1960). What emotions do to pitch,
loudness, rate and tilt follows Scherer, Speech Communication 40, 2003.
"""

import dataclasses

import numpy as np
import scipy.signal
from jaxtyping import Float

RATE = 16000
BLOCK = 160  # samples between updates of the formants

# First three formants of a man's vowels, in Hz (Peterson and Barney, 1952).
VOWELS = np.array(
  [
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
    (660, 1720, 2410),
    (490, 1350, 1690),
  ],
  np.float64,
)
FOURTH_FORMANT = 3500.0
BANDWIDTHS = np.array([80.0, 100.0, 140.0, 220.0])


@dataclasses.dataclass(frozen=True)
class Voice:
  """What a speaker brings to every utterance.

  Attributes:
    pitch: resting F0 in Hz.
    tract: formants as a multiple of an average man's.
    tilt: how much high frequencies are damped, 0..1.
    breath: aspiration noise, relative to the pulses.
    pace: syllables a second.
    gain: of the microphone, in dB.
    expression: how strongly emotions show.
  """

  pitch: float
  tract: float
  tilt: float
  breath: float
  pace: float
  gain: float
  expression: float


def make_voice(rng: np.random.Generator, gender: str) -> Voice:
  """Draws a speaker.

  Args:
    rng: the speaker's own generator.
    gender: female or male.

  Returns:
    The voice.
  """
  pitch, tract = (205.0, 1.16) if gender == "female" else (118.0, 1.0)
  return Voice(
    pitch=pitch * 2 ** rng.normal(0, 0.15),
    tract=tract * rng.uniform(0.96, 1.04),
    tilt=rng.uniform(0.5, 0.65),
    breath=rng.uniform(0.02, 0.08),
    pace=rng.uniform(4.2, 5.2),
    gain=rng.normal(0, 2.5),
    expression=rng.uniform(0.8, 1.2),
  )


def speak(
  rng: np.random.Generator,
  voice: Voice,
  felt: Float[np.ndarray, "3"],
  contour: Float[np.ndarray, "frames 2"],
  step: float,
) -> Float[np.ndarray, "samples"]:
  """Says a sentence of nonsense.

  Args:
    rng: the utterance's own generator.
    voice: who speaks.
    felt: valence, activation and dominance, 1..5.
    contour: arousal and valence in time, -1..1.
    step: seconds between frames of the contour.

  Returns:
    Samples in -1..1 at `RATE`, as long as the contour.
  """
  valence, activation, dominance = (felt - 3) / 2 * voice.expression
  size = int(len(contour) * step * RATE)
  time = np.arange(size) / RATE
  frames = np.arange(len(contour)) * step
  arousal = np.interp(time, frames, contour[:, 0])

  pace = voice.pace * 2 ** (0.25 * activation + rng.normal(0, 0.12))
  syllables = _syllables(rng, size, pace)
  mouth = _envelope(syllables, size)
  pitch = _pitch(rng, voice, syllables, arousal, valence, size)
  # A displeased voice is rough, and rougher when aroused.
  jitter = 0.008 + 0.06 * max(-valence, 0) * (1 + max(activation, 0))
  pulses, opened = _glottis(rng, pitch, jitter=jitter)
  breath = voice.breath * 2 ** (-1.5 * dominance)
  source = pulses + breath * rng.standard_normal(size) * (0.3 + opened)
  tilt = np.clip(voice.tilt - 0.25 * activation - 0.1 * dominance, 0.1, 0.95)
  source = scipy.signal.lfilter([1 - tilt], [1, -tilt], source * mouth)
  # A smile shortens the tract, a sad face rounds it; low arousal slurs.
  tract = voice.tract * (1 + 0.12 * valence)
  clarity = np.clip(0.8 + 0.3 * activation, 0.3, 1.2)
  formants = _formants(rng, syllables, size, tract, clarity)
  speech = _resonate(source, formants)
  speech /= np.sqrt(np.mean(speech**2)) + 1e-9
  speech += 0.5 * _fricatives(rng, syllables, size)

  loudness = (
    -26 + voice.gain + rng.normal(0, 2) + 6 * arousal * voice.expression
  )
  speech *= 10 ** (loudness / 20)
  room = 10 ** ((-62 + rng.uniform(0, 12)) / 20)
  speech += room * rng.standard_normal(size)
  # A soft limiter, as in a recorder: nothing clips.
  return np.tanh(speech)


def _syllables(
  rng: np.random.Generator, size: int, pace: float
) -> list[tuple[int, int, float, str]]:
  """Start and end in samples, stress, and onset of each syllable."""
  syllables = []
  start = int(rng.uniform(0.05, 0.15) * RATE)
  until_pause = rng.integers(4, 9)
  while True:
    length = int(RATE / pace * np.clip(rng.normal(1, 0.22), 0.5, 1.8))
    if start + length > size - int(0.05 * RATE):
      break
    onset = rng.choice(["none", "fricative", "closure"], p=[0.3, 0.35, 0.35])
    stress = rng.choice([0.6, 1.0], p=[0.6, 0.4])
    syllables.append((start, start + length, float(stress), str(onset)))
    start += length
    until_pause -= 1
    if until_pause == 0:
      start += int(rng.uniform(0.12, 0.35) * RATE)
      until_pause = rng.integers(4, 9)
  return syllables


def _onset(start: int, end: int, onset: str) -> int:
  """Samples of a syllable before its vowel."""
  share = {"none": 0.0, "fricative": 0.35, "closure": 0.25}[onset]
  return int(share * (end - start))


def _envelope(syllables, size: int) -> Float[np.ndarray, "samples"]:
  """How far the mouth lets the voice out."""
  envelope = np.zeros(size)
  for start, end, stress, onset in syllables:
    vowel = start + _onset(start, end, onset)
    shape = scipy.signal.windows.tukey(end - vowel, 0.5)
    envelope[vowel:end] = shape * (0.55 + 0.45 * stress)
  return envelope


def _pitch(
  rng: np.random.Generator, voice: Voice, syllables, arousal, valence, size: int
) -> Float[np.ndarray, "samples"]:
  """F0 in Hz: declination, accents on stressed syllables, and a last fall.

  Arousal raises mean and range; sadness narrows the range; a pleasant voice
  ends higher.
  """
  time = np.linspace(0, 1, size)
  knots, octaves = [0.0], [0.0]
  for start, end, stress, _ in syllables:
    knots.append((start + end) / 2 / size)
    octaves.append((stress - 0.6) * rng.uniform(0.3, 0.9) + rng.normal(0, 0.05))
  knots.append(1.0)
  octaves.append(-0.15 + 0.15 * valence)
  accents = np.interp(time, knots, octaves)
  lively = 2 ** (0.7 * arousal * voice.expression)
  shift = 0.3 * arousal * voice.expression - 0.15 * (time - 0.5)
  shift += rng.normal(0, 0.06)
  return voice.pitch * 2 ** (shift + accents * lively)


def _glottis(
  rng: np.random.Generator, pitch: Float[np.ndarray, "samples"], jitter: float
) -> tuple[Float[np.ndarray, "samples"], Float[np.ndarray, "samples"]]:
  """Flow derivative of each cycle, and how far the glottis is open.

  A raised-cosine opening and a faster closing (Rosenberg, JASA 49, 1971);
  each cycle's length and strength is a little off.
  """
  cycle = np.cumsum(pitch) / RATE
  count = int(cycle[-1]) + 2
  wobble = np.cumsum(jitter * rng.standard_normal(count))
  wobble -= np.linspace(0, wobble[-1], count)
  cycle = cycle + np.interp(cycle, np.arange(count), wobble)
  number = np.clip(cycle.astype(int), 0, count - 1)
  phase = cycle - np.floor(cycle)
  opening, closing = 0.4, 0.2
  rising = 0.5 * (1 - np.cos(np.pi * phase / opening))
  falling = np.cos(np.pi * (phase - opening) / (2 * closing))
  flow = np.where(phase < opening, rising, falling)
  flow = np.where(phase < opening + closing, flow, 0.0)
  shimmer = 1 + 4 * jitter * rng.standard_normal(count)
  return np.diff(flow, prepend=0.0) * shimmer[number] * 8, flow


def _formants(
  rng: np.random.Generator, syllables, size: int, tract: float, clarity: float
) -> Float[np.ndarray, "blocks 4"]:
  """Formants in Hz, gliding from vowel to vowel.

  Clarity 1 reaches the vowels, 0 stays in their middle.
  """
  blocks = -(-size // BLOCK)
  targets = VOWELS[rng.integers(len(VOWELS), size=len(syllables) + 2)]
  middle = VOWELS.mean(axis=0)
  targets = middle + clarity * (targets - middle)
  targets = targets * (1 + 0.04 * rng.standard_normal(targets.shape))
  middles = [(start + end) / 2 / BLOCK for start, end, *_ in syllables]
  knots = np.array([0, *middles, blocks])
  at = np.arange(blocks)
  glide = [np.interp(at, knots, column) for column in targets.T]
  glide.append(np.full(blocks, FOURTH_FORMANT))
  return np.minimum(np.stack(glide, axis=1) * tract, 0.46 * RATE)


def _resonate(
  source: Float[np.ndarray, "samples"], formants: Float[np.ndarray, "blocks 4"]
) -> Float[np.ndarray, "samples"]:
  """A cascade of resonators whose coefficients change every block."""
  radius = np.exp(-np.pi * BANDWIDTHS / RATE)
  cosine = np.cos(2 * np.pi * formants / RATE)
  sections = np.zeros((len(formants), 4, 6))
  sections[:, :, 3] = 1
  sections[:, :, 4] = -2 * radius * cosine
  sections[:, :, 5] = radius**2
  sections[:, :, 0] = sections[:, :, 3:].sum(axis=2)  # unit gain at 0 Hz
  state = np.zeros((4, 2))
  out = np.empty_like(source)
  for number, section in enumerate(sections):
    part = slice(number * BLOCK, (number + 1) * BLOCK)
    out[part], state = scipy.signal.sosfilt(section, source[part], zi=state)
  return out


def _fricatives(
  rng: np.random.Generator, syllables, size: int
) -> Float[np.ndarray, "samples"]:
  """Hiss before the vowels that a fricative opens."""
  hiss = np.zeros(size)
  for start, end, _, onset in syllables:
    length = _onset(start, end, onset)
    if onset == "fricative" and length > 8:
      centre = rng.uniform(2500, 6000)
      b, a = scipy.signal.iirpeak(centre, 2.0, fs=RATE)
      noise = scipy.signal.lfilter(b, a, rng.standard_normal(length))
      hiss[start : start + length] = noise * np.hanning(length)
  return hiss
