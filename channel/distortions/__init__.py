"""The distortions, by name. To add one: a file, its test, and a line here."""

from __future__ import annotations

from channel.distortions.base import Distortion
from channel.distortions.bit_error import BitError
from channel.distortions.gaussian_blur import GaussianBlur
from channel.distortions.gaussian_noise import GaussianNoise
from channel.distortions.monotone import Monotone
from channel.distortions.packet_loss import PacketLoss
from channel.distortions.quantize import Quantize
from channel.distortions.rank_shuffle import RankShuffle
from channel.distortions.resize import Resize

DISTORTIONS: dict[str, type[Distortion]] = {
    "gaussian_blur": GaussianBlur,
    "gaussian_noise": GaussianNoise,
    "resize": Resize,
    "quantize": Quantize,
    "packet_loss": PacketLoss,
    "bit_error": BitError,
    "rank_shuffle": RankShuffle,
    "monotone": Monotone,
}
