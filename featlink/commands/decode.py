"""``featlink decode``: kept bitstreams back to the pyramid, or to the picture, that they were sent as."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError


def decode(
    folder: Annotated[Path, typer.Argument(help="Of one image under one condition: bitstreams and side.json.")],
    out: Annotated[
        Path, typer.Option(help="File to write: .safetensors with p2, p3, … for features, .png for an image.")
    ],
    threads: Annotated[int, typer.Option(min=0, help="Of the decoders; 0: one a core.")] = 0,
) -> None:
    """Decode kept bitstreams as the receiver does. Whatever the number of threads, the result is the same."""
    from featlink.channel.bitstream_archive import decode as read
    from featlink.channel.codecs.base import Tools
    from featlink.shared.files import replace

    decoded = read(folder, Tools(threads=threads))
    expected = ".safetensors" if decoded.image is None else ".png"
    if out.suffix != expected:
        raise CommandError(f"{folder} decodes to a {expected} file, not {out.name}")
    if decoded.image is None:
        from safetensors.numpy import save

        facts = {"condition": decoded.side.condition, "weights": decoded.side.weights}
        replace(out, save(decoded.levels, metadata=facts))
        what = ", ".join(f"{name} {'×'.join(map(str, level.shape))}" for name, level in decoded.levels.items())
    else:
        import io

        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(decoded.image.transpose(1, 2, 0)).save(file, "PNG")
        replace(out, file.getvalue())
        what = "×".join(map(str, decoded.image.shape))
    typer.echo(f"{out}: {decoded.side.condition}: {what}")
