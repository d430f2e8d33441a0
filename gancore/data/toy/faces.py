"""Cartoon faces of sixteen by sixteen pixels with known factors: `faces16`."""

from functools import cache

import torch
from torch import Tensor, nn

from gancore.data.classifier import Classifier, Training, convolutions, trained
from gancore.data.dataset import Dataset

COUNT = 8_192
FACTORS = {"identity": 8, "pose": 5, "age": 4, "glasses": 2, "smile": 2}

SKIN = torch.tensor([[0.95, 0.75, 0.60], [0.55, 0.35, 0.22]])
HAIR = torch.tensor([[0.75, 0.20, 0.10], [0.10, 0.25, 0.60]])
GREY = torch.tensor([0.85, 0.85, 0.85])
DARK = torch.tensor([0.05, 0.05, 0.05])
FRAME = torch.tensor([0.10, 0.85, 0.30])
MOUTH = torch.tensor([0.85, 0.05, 0.15])


def _over(canvas: Tensor, colour: Tensor, mask: Tensor) -> Tensor:
    """The colour (3,) or (N, 3) laid over images (N, 3, H, W) with opacity mask (N, H, W)."""
    alpha = mask.clamp(0, 1)[:, None]
    return canvas * (1 - alpha) + alpha * colour.expand(len(canvas), 3)[:, :, None, None]


def render(factors: dict[str, Tensor], shift: Tensor) -> Tensor:
    """Faces (N, 3, 16, 16) in [0, 1].

    factors: FACTORS' names, (N,) int64 each. identity has three bits: skin, hair colour, width of the head. pose turns the eyes
    and the mouth to one side, age greys the hair and lets it recede. shift: (N, 2) pixels.
    """
    who = factors["identity"]
    skin, hair, wide = who & 1, (who >> 1) & 1, (who >> 2) & 1
    axis = torch.arange(16) - 7.5
    x = axis[None, None, :] - shift[:, 0, None, None]
    y = axis[None, :, None] - shift[:, 1, None, None]
    turn = 0.9 * (factors["pose"] - 2)[:, None, None]
    u = x - turn  # coordinate of what the face carries

    half = torch.where(wide == 1, 6.6, 4.6)[:, None, None]
    head = (1 - ((x / half) ** 2 + ((y - 0.5) / 6.8) ** 2).sqrt()) * 5 + 0.5
    age = factors["age"][:, None, None]
    hairline = head.clamp(0, 1) * (-1.9 - 1.0 * age - y + 0.5).clamp(0, 1)
    eyes = 1.4 - ((u.abs() - 2.2) ** 2 + (y + 0.6) ** 2).sqrt()
    ring = 0.9 - (torch.maximum((u.abs() - 2.2).abs(), (y + 0.6).abs()) - 1.7).abs()
    curve = torch.where(factors["smile"] == 1, -0.28, 0.22)[:, None, None]
    mouth = (1.0 - (y - 4.4 - curve * (u**2 - 3)).abs()) * (u.abs() < 3).float()

    canvas = torch.full((len(who), 3, 16, 16), 0.15)
    canvas = _over(canvas, SKIN[skin], head)
    fade = 0.25 * factors["age"][:, None]
    canvas = _over(canvas, HAIR[hair] * (1 - fade) + GREY * fade, hairline)
    canvas = _over(canvas, DARK, eyes)
    canvas = _over(canvas, MOUTH, mouth)
    return _over(canvas, FRAME, ring * factors["glasses"][:, None, None])


def draw(count: int, seed: int) -> dict[str, Tensor]:
    """Columns of `faces16` for `count` faces."""
    generator = torch.Generator().manual_seed(seed)
    factors = {name: torch.randint(size, (count,), generator=generator) for name, size in FACTORS.items()}
    image = render(factors, torch.rand(count, 2, generator=generator) - 0.5)
    return {"x": (255 * image).round().to(torch.uint8), "y": factors["identity"], **factors}


@cache
def faces16() -> Dataset:
    """8,192 images x (N, 3, 16, 16): identity × pose × age × glasses × smile, up to half a pixel off the centre.

    "identity" (8), "pose" (5), "age" (4), "glasses" (2) and "smile" (2) are (N,) int64 columns; "y" is the identity. Parts with
    the rows of one kind: "glasses" and "bare", "identity0" to "identity7". `held_out` holds 2,048 other faces.
    """
    columns = draw(COUNT, 23)
    kinds = {"bare": columns["glasses"] == 0, "glasses": columns["glasses"] == 1}
    kinds |= {f"identity{k}": columns["identity"] == k for k in range(8)}
    rows = {kind: {key: value[chosen] for key, value in columns.items()} for kind, chosen in kinds.items()}
    parts = {kind: Dataset(f"faces16 {kind}", fields, classes=8) for kind, fields in rows.items()}
    return Dataset("faces16", columns, classes=8, held_out=Dataset("faces16 held out", draw(2_048, 24), classes=8), parts=parts)


def _body() -> nn.Module:
    return convolutions(3)


@cache
def faces16_oracle() -> Classifier:
    """Reads all five factors of images (N, 3, 16, 16); its classes are the identities."""
    return trained("faces16", _body, lambda: faces16().all(), FACTORS, Training(steps=700, lr=4e-3, batch=64), ("identity",))
