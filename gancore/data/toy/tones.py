"""Waveforms of 64 samples, envelope times tone: `tones64`."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gancore.data.dataset import Dataset

LENGTH = 64
COUNT = 8_192
CYCLES = (5, 8, 11, 15)  # of the four speakers, in a waveform
NOISE = 0.2


def _envelopes() -> Tensor:
    """Decay, swell, bump and two bumps (4, 64)."""
    t = (torch.arange(LENGTH) + 0.5) / LENGTH
    bump = lambda centre, width: torch.exp(-(((t - centre) / width) ** 2))
    return torch.stack([torch.exp(-3 * t), torch.exp(-3 * (1 - t)), bump(0.5, 0.22), bump(0.22, 0.13) + bump(0.78, 0.13)])


@cache
def tones64() -> Dataset:
    """8,192 waveforms x (N, 1, 64) float32 in [-1, 1], and "noisy" (N, 1, 64), the same with Gaussian noise of deviation 0.2.

    "y" is the speaker (pitch, 4), "content" the envelope (4), both (N,) int64; "envelope" (N, 1, 64). Phase and loudness vary.
    Parts "speaker0" to "speaker3" hold the rows of one speaker each; `held_out` holds 1,024 other waveforms.
    """
    columns = _columns(COUNT, 64)
    speakers = {f"speaker{k}": {key: value[columns["y"] == k] for key, value in columns.items()} for k in range(len(CYCLES))}
    parts = {key: Dataset(f"tones64 {key}", rows, classes=4) for key, rows in speakers.items()}
    held_out = Dataset("tones64 held out", _columns(1_024, 65), classes=4)
    return Dataset("tones64", columns, classes=4, held_out=held_out, parts=parts)


def _columns(count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (count,), generator=generator)
    content = torch.randint(4, (count,), generator=generator)
    phase = 2 * math.pi * torch.rand(count, 1, generator=generator)
    loudness = 0.7 + 0.3 * torch.rand(count, 1, generator=generator)
    t = torch.arange(LENGTH) / LENGTH
    envelope = loudness * _envelopes()[content]
    x = envelope * torch.sin(2 * math.pi * torch.tensor(CYCLES)[y][:, None] * t + phase)
    noisy = x + NOISE * torch.randn(count, LENGTH, generator=generator)
    waves = {"x": x[:, None], "noisy": noisy[:, None], "envelope": envelope[:, None]}
    return {**waves, "y": y, "content": content}


@dataclass(frozen=True)
class Ear:
    """Reads waveforms (N, 1, 64) by their spectrum."""

    def frequency(self, waves: Tensor) -> Tensor:
        """Strongest frequency (N,), in cycles a waveform, 1 to 32."""
        return torch.fft.rfft(waves.flatten(1))[:, 1:].abs().argmax(1) + 1

    def pitch(self, waves: Tensor) -> Tensor:
        """Speaker (N,) whose pitch lies nearest to the strongest frequency."""
        return (self.frequency(waves)[:, None] - torch.tensor(CYCLES, device=waves.device)).abs().argmin(1)

    def envelope(self, waves: Tensor) -> Tensor:
        """Envelope (N, 64): size of the analytic signal."""
        spectrum = torch.fft.fft(waves.flatten(1))
        spectrum[:, LENGTH // 2 + 1 :] = 0
        spectrum[:, 1 : LENGTH // 2] *= 2
        return torch.fft.ifft(spectrum).abs()

    def content(self, waves: Tensor) -> Tensor:
        """Index (N,) of the envelope that correlates best."""
        return correlation(self.envelope(waves)[:, None], _envelopes().to(waves.device)[None]).argmax(1)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation along the last dimension of a and b (..., T), which broadcast; 0 where one is constant."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-12)


@cache
def tones64_oracle() -> Ear:
    """Reads pitch and envelope."""
    return Ear()
