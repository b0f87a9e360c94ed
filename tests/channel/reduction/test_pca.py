"""Components against linear algebra; what they cost against the bytes that cross; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from featlink.channel.reduction.pca import Basis, Grid, Pca, encode_basis
from featlink.channel.transmit import Stream, Transmission, transmit
from featlink.cloud.finish import pyramid
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError, FrameError, ModelError
from featlink.shared.features import Sizes
from featlink.shared.fpn import FPN
from featlink.shared.frames import wire
from featlink.shared.frames.bitstream import nbytes
from featlink.shared.frames.packing import quantize
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.result import Telemetry

WEIGHTS = "0123456789abcdef"
SIZES = Sizes((60, 90), (64, 96), (64, 96))
CHANNELS = 3
ALL = 4 * 22 * CHANNELS  # of 2×2 cells of 16 + 4 + 1 + 1 samples
Levels = dict[str, np.ndarray]
GRID = Grid.of(FPN)


def orthonormal(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(size, size)))[0].astype(np.float32)


@pytest.fixture(scope="module")
def basis() -> Basis:
    """Three channels of each level, and every component of them."""
    rng = np.random.default_rng(3)
    forward = {name: rng.normal(size=(CHANNELS, 256)).astype(np.float32) for name in GRID.strides}
    return Basis(
        forward,
        {name: np.linalg.pinv(matrix).astype(np.float32) for name, matrix in forward.items()},
        {name: rng.normal(size=CHANNELS).astype(np.float32) for name in GRID.strides},
        {"p2": 1.0, "p3": 2.0, "p4": 3.0, "p5": 4.0},
        orthonormal(rng, 22 * CHANNELS),
        orthonormal(rng, ALL),
        np.ones(ALL, np.float32),
        WEIGHTS,
        "m",
    )


@pytest.fixture
def file(basis: Basis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATLINK_FITTED", str(tmp_path))
    path = tmp_path / f"pca-{WEIGHTS}.safetensors"
    path.write_bytes(encode_basis(basis))
    return path


def features(height: int = 64, width: int = 96) -> Levels:
    rng = np.random.default_rng(4)
    levels = {f"p{k}": rng.normal(size=(256, height >> k, width >> k)).astype(np.float32) for k in range(2, 6)}
    return FPN.complete(levels)


def send(condition: str, levels: Levels | None = None, weights: str = WEIGHTS) -> Transmission:
    tensors = tuple(Tensor(name, level) for name, level in (levels or features()).items())
    return transmit(Frame(Meta("feature", "m", weights, SIZES), tensors), parse(condition), Telemetry())


def projected(basis: Basis, levels: Levels) -> Levels:
    return {
        name: np.einsum("ck,kd,dhw->chw", basis.inverse[name], basis.forward[name], levels[name])
        for name in GRID.strides
    }


def test_cells_hold_every_sample_and_keep_the_energy() -> None:
    levels = {name: level[:5] for name, level in features().items() if name in GRID.strides}
    cells = GRID.join(levels)
    assert cells.shape == (5 * 22, 4, 6)
    assert np.square(cells).sum() == pytest.approx(sum(np.square(level).sum() for level in levels.values()), rel=1e-5)
    back = GRID.split(cells, dict.fromkeys(GRID.strides, 5))
    for name, level in levels.items():
        np.testing.assert_array_equal(back[name], level)
    p2, p3, p4, p5 = (levels[name] for name in GRID.strides)
    one = [p2[:, 4:8, 8:12], p3[:, 2:4, 4:6], p4[:, 1:2, 2:3], p5[:, 0:1, 1:2] / 2]
    np.testing.assert_array_equal(cells[:, 1, 2], np.concatenate([part.ravel() for part in one]))


def test_all_components_give_the_projection(basis: Basis) -> None:
    levels = features()
    components = basis.analyse(levels, ALL)
    assert components.shape == (ALL, 2, 3)
    restored = basis.synthesise(components)
    for name, level in projected(basis, levels).items():
        np.testing.assert_allclose(restored[name], level, atol=2e-4)


def test_the_first_components_are_those_of_all(basis: Basis) -> None:
    levels = features()
    np.testing.assert_allclose(basis.analyse(levels, 7), basis.analyse(levels, ALL)[:7], atol=1e-4)


@pytest.mark.usefixtures("file")
def test_fine_samples_bring_the_projection_to_the_cloud_with_p6_of_p5(basis: Basis) -> None:
    levels = features()
    sent = send(f"pca(components={ALL}) @ bit_depth=16", levels)
    received = pyramid(wire.read(b"".join(sent.parts))).levels
    for name, level in projected(basis, levels).items():
        np.testing.assert_allclose(received[name], level, atol=0.02)  # the file has the maps in half precision
    np.testing.assert_array_equal(received["p6"], received["p5"][..., ::2, ::2])
    assert set(sent.telemetry.fidelity) == {"psnr_f", "ssim_f", "spearman_f"}
    assert set(sent.telemetry.timings) == {"reduce", "restore", "distort", "serialize", "fidelity"}


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("per", ["level", "channel"])
def test_bits_are_those_of_a_frame_of_components(basis: Basis, per: str) -> None:
    sent = send(f"pca(components=11) @ bit_depth=9, range={per}")
    [latent] = sent.crossing.tensors
    assert (latent.name, latent.data.shape, latent.bits) == ("latent", (11, 2, 3), 9)
    values = Pca(components=11).reduce(features(), WEIGHTS)["latent"]
    ranges = latent.ranges
    assert ranges is not None
    assert ranges.shape == ((1, 2) if per == "level" else (11, 2))
    np.testing.assert_array_equal(latent.data, quantize(values, ranges, 9))
    data = b"".join(wire.write(Frame(sent.frame.meta, (Tensor("latent", latent.data, 9, ranges),))))
    assert sent.telemetry.bits == 8 * len(data)
    np.testing.assert_array_equal(wire.read(data).tensor("latent").data, latent.data)


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("codec", ["vvenc(qp=30, bit_depth=10)", "hevc(qp=30)", "jpeg(quality=50)", "entropy"])
@pytest.mark.parametrize("packing", ["level", "stacked"])
def test_a_codecs_bitstream_takes_the_place_of_the_samples(codec: str, packing: str) -> None:
    sent = send(f"pca(components=10) | {codec} @ packing={packing}")
    assert list(sent.bitstreams) == ["latent"]
    [latent] = sent.crossing.tensors
    whole = wire.nbytes(wire.write(sent.crossing)) - nbytes(latent.data.size, latent.bits or 0)
    assert sent.telemetry.bits == 8 * (whole + len(sent.bitstreams["latent"]))
    stages = {"reduce", "compress", "decompress", "restore", "distort", "serialize", "fidelity"}
    assert set(sent.telemetry.timings) == stages
    assert min(sent.telemetry.timings.values()) > 0


@pytest.mark.usefixtures("file")
def test_packets_of_components_are_lost() -> None:
    clean, lost = (send(f"pca(components=12) | packet_loss(rate={rate}, mtu=64)") for rate in (0, 0.9))
    assert clean.telemetry.bits == lost.telemetry.bits
    assert lost.telemetry.fidelity["psnr_f"] < clean.telemetry.fidelity["psnr_f"]


@pytest.mark.usefixtures("file")
def test_a_spatial_distortion_acts_on_tiles_of_components() -> None:
    assert send("pca(components=12) | gaussian_blur(sigma=1) | quantize(bits=4)").crossing.tensors[0].bits == 4


@pytest.mark.usefixtures("file")
def test_with_a_step_samples_are_its_multiples_with_a_dead_zone() -> None:
    sent = send("pca(components=20, step=0.5)")
    [latent] = sent.crossing.tensors
    values = Pca(components=20).reduce(features(), WEIGHTS)["latent"]
    whole = latent.data.astype(int) - 128
    assert latent.bits == 8
    assert np.abs(whole).max() < 127
    np.testing.assert_array_equal(whole, np.sign(values) * np.floor(np.abs(values) / np.float32(0.5) + 1 / 3))
    coarse = send("pca(components=20, step=0.01)").crossing.tensors[0]
    assert {0, 255} <= set(coarse.data.ravel().tolist()), "clipped at what 8 bits hold"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("quantize(bits=4) | pca", "pca reduces the levels themselves, so it comes first, and once"),
        ("pca | pca", "comes first, and once"),
        ("image: pca", "pca is for the feature domain"),
        ("pca @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=0:1", "range=fixed is for levels"),
        ("pca(components=0)", "components"),
        ("pca(step=0)", "step"),
    ],
)
def test_chains_without_a_meaning_are_refused(condition: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        chain(parse(condition))


def test_other_weights_are_refused(file: Path) -> None:
    with pytest.raises(ConditionError, match="not fitted to weights fedcba9876543210: run `featlink fit pca`"):
        send("pca", weights="fedcba9876543210")
    with pytest.raises(ConditionError, match=r"needs to know which weights .* 16 lower-case hex digits"):
        send("pca", weights="../../etc/passwd")
    file.rename(file.with_name("pca-fedcba9876543210.safetensors"))
    with pytest.raises(ModelError, match=f"fitted to weights {WEIGHTS}, not fedcba9876543210: run `featlink fit pca`"):
        send("pca", weights="fedcba9876543210")


@pytest.mark.usefixtures("file")
def test_more_components_than_the_basis_has_are_refused() -> None:
    with pytest.raises(ConditionError, match=f"has {ALL} components, not {ALL + 1}"):
        send(f"pca(components={ALL + 1})")


@pytest.mark.usefixtures("file")
def test_levels_that_do_not_fit_each_other_are_refused() -> None:
    levels = {**features(), "p3": np.zeros((256, 8, 11), np.float32)}
    with pytest.raises(FrameError, match="p3 is"):
        send("pca(components=2)", levels)


@pytest.mark.usefixtures("file")
def test_a_missing_level_is_named() -> None:
    levels = features()
    del levels["p3"]
    with pytest.raises(FrameError, match="no p3"):
        send("pca(components=3)", levels)


def test_files_that_are_no_basis_are_refused(file: Path) -> None:
    arrays = load(file.read_bytes())
    file.write_bytes(save(arrays))
    with pytest.raises(ModelError, match="is not a file that"):
        send("pca(components=2)")
    content = encode_damaged(arrays)
    file.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        send("pca(components=2)")
    file.write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match="cannot read"):
        send("pca(components=2)")


def encode_damaged(arrays: Levels) -> bytes:
    arrays["cell"] = -arrays["cell"]
    facts = {"format": "featlink-pca-1", "weights": WEIGHTS, "architecture": "m", "sha256": "0" * 64}
    return save(arrays, metadata=facts)


# --- streams -------------------------------------------------------------------------------------------------------


def drifting(count: int = 7) -> list[Levels]:
    """Levels of which a little changes from one to the next."""
    rng = np.random.default_rng(6)
    levels = {name: level for name, level in features().items() if name in GRID.strides}
    made = []
    for _ in range(count):
        made.append(FPN.complete(levels))
        levels = {
            name: level + 0.01 * rng.normal(size=level.shape).astype(np.float32) for name, level in levels.items()
        }
    return made


def stream(condition: str) -> list[Transmission]:
    meta = Meta("feature", "m", WEIGHTS, SIZES)
    with Stream(parse(condition)) as opened:
        frames = [Frame(meta, tuple(Tensor(*level) for level in levels.items())) for levels in drifting()]
        return [sent for frame in frames for sent in opened.push(frame, Telemetry())] + opened.close()


@pytest.mark.slow
@pytest.mark.usefixtures("file")
def test_a_predicted_stream_costs_less_and_its_errors_do_not_add_up() -> None:
    alone, predicted = (
        stream(f"pca(components={ALL}, step=1{gop}) | entropy @ bit_depth=10")
        for gop in ("", ", gop=low_delay, period=5")
    )
    assert [sent.key for sent in predicted] == [True, False, False, False, False, True, False]
    assert all(sent.key for sent in alone)
    for number in (0, 5):
        assert predicted[number].fidelity == alone[number].fidelity
        assert len(predicted[number].bitstreams["latent"]) < 1.02 * len(alone[number].bitstreams["latent"])
    for number in (1, 2, 3, 4, 6):
        assert len(predicted[number].bitstreams["latent"]) < 0.3 * len(alone[number].bitstreams["latent"])
        assert predicted[number].fidelity.psnr > alone[number].fidelity.psnr - 6  # type: ignore[union-attr]


@pytest.mark.usefixtures("file")
def test_the_receiver_adds_differences_up(basis: Basis) -> None:
    *_, last = stream(f"pca(components={ALL}, step=0.01, gop=low_delay) | entropy @ bit_depth=16")
    received = pyramid(wire.read(b"".join(last.parts))).levels
    for name, level in projected(basis, drifting()[-1]).items():
        np.testing.assert_allclose(received[name], level, atol=0.05)


@pytest.mark.usefixtures("file")
def test_what_is_lost_is_missing_until_the_next_that_is_sent_alone() -> None:
    """The sender does not know what the receiver has not."""
    whole, lossy = (
        stream(f"pca(components=40, step=0.1, gop=low_delay, period=5){loss} @ bit_depth=10")
        for loss in ("", " | packet_loss(rate=0.5, mtu=64, header=0)")
    )
    errors = [
        np.abs(one.frame.tensor("p4").data - other.frame.tensor("p4").data).mean()
        for one, other in zip(whole, lossy, strict=True)
    ]
    assert errors[4] > errors[0] > 0.0
    assert errors[5] < errors[4]


@pytest.mark.usefixtures("file")
def test_a_still_is_sent_alone() -> None:
    text = f"pca(components={ALL}, step=1{{}}) | entropy @ bit_depth=10"
    assert send(text.format("")).bitstreams == send(text.format(", gop=low_delay")).bitstreams


def test_differences_need_a_step() -> None:
    with pytest.raises(ConditionError):
        chain(parse("pca(components=8, gop=low_delay)"))


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("conceal", ["zero", "last"])
def test_packets_of_a_predicted_stream_are_lost_and_a_key_frame_repairs(conceal: str) -> None:
    coded = "pca(components=40, step=0.1, gop=low_delay, period=5) | entropy(stripes=2)"
    whole, lossy = (
        stream(f"{coded} | packet_loss(rate={rate}, mtu=64, header=0, conceal={conceal}) @ bit_depth=10")
        for rate in (0, 0.5)
    )
    assert all(sum(map(len, sent.bitstreams.values())) < sent.telemetry.bits / 8 for sent in whole)
    assert [sent.bitstreams for sent in whole] == [sent.bitstreams for sent in lossy]  # the sender does not know
    errors = [
        np.abs(one.frame.tensor("p4").data - other.frame.tensor("p4").data).mean()
        for one, other in zip(whole, lossy, strict=True)
    ]
    assert max(errors) > 0.0
    assert np.isfinite(errors).all()


@pytest.mark.usefixtures("file")
def test_a_link_that_loses_nothing_changes_no_sample_but_costs_the_contexts_of_frames_before() -> None:
    """What is coded with what a loss could take away is coded without, where something can be lost."""
    coded = "pca(components=40, step=0.1, gop=low_delay, period=5) | entropy(stripes=2)"
    without, linked = (stream(f"{coded}{link} @ bit_depth=10") for link in ("", " | packet_loss(rate=0, mtu=1500)"))
    for one, other in zip(without, linked, strict=True):
        np.testing.assert_array_equal(one.frame.tensor("p4").data, other.frame.tensor("p4").data)
    assert without[0].bitstreams == linked[0].bitstreams
    assert without[1].bitstreams != linked[1].bitstreams
