"""``featlink conditions``, ``steps``, ``decode`` and ``check-model``: what goes over the link, and whether it holds."""

from __future__ import annotations

import inspect
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlink.errors import CommandError
from featlink.options import takes_network
from featlink.report.table import say
from featlink.shared.files import replace
from featlink.shared.models.config import ModelConfig

if TYPE_CHECKING:
    from featlink.shared.conditions.registry import Step

_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


def conditions(
    names: Annotated[str, typer.Argument(help="Only these, e.g. 'paper.table3' or 'paper+equal'.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print {name: text} as JSON.")] = False,
) -> None:
    """List the named conditions. Use a name wherever a condition is asked for."""
    from featlink.shared.conditions.names import NAMED, select

    chosen = select(names) if names else NAMED
    if not chosen:
        raise CommandError(f"no condition is named {names!r}; 'featlink conditions' lists all")
    if as_json:
        typer.echo(json.dumps(chosen, indent=1))
        return
    width = max(map(len, chosen))
    for name, text in chosen.items():
        typer.echo(f"{name:<{width}}  {text}")


def steps(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON schema of a condition, and what could not be loaded.")
    ] = False,
) -> None:
    """List the steps a condition can have, with their parameters, ranges and defaults."""
    from featlink.shared.conditions import registry

    if as_json:
        typer.echo(json.dumps({**registry.schema(), "x-featlink-failures": dict(registry.failures())}, indent=1))
        return
    for step in registry.steps().values():
        for line in describe(step):
            say(line)
        typer.echo()
    if failures := registry.failures():
        typer.echo("Could not be loaded:")
        for name, why in failures.items():
            say(f"  {name}: {why}")


def describe(step: type[Step]) -> Iterator[str]:
    """A step in lines: what it is, what it does, and each of its parameters.

    Example:
        >>> from featlink.channel.distortions.quantize import Quantize
        >>> print("\\n".join(describe(Quantize)))
        quantize: distortion, for features and images
          Keep 'bits' bits per sample.
          strength: bits, which trades bits for accuracy
          bits: whole number from 1 to 16, required – bits per sample
    """
    schema = step.model_json_schema()
    whole = " and ".join(f"{domain}s" for domain in step.domains)
    yield f"{schema['properties']['type']['const']}: {'random ' if step.random else ''}{step.kind}, for {whole}"
    if summary := inspect.cleandoc(step.__doc__ or "").split("\n\n")[0]:
        yield f"  {_plain(summary)}"
    if step.strength is not None:
        yield f"  strength: {step.strength}" + (", which trades bits for accuracy" if step.changes_bits else "")
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        if name == "type":
            continue
        default = "required" if name in required else f"{_word(field.get('default'))} by default"
        described = field.get("description", "").rstrip(".")
        yield f"  {name}: {values(field, schema.get('$defs', {}))}, {default}" + (
            f" – {_plain(described)}" if described else ""
        )


def values(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a parameter's JSON schema allows, in words.

    Example:
        >>> values({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {}), values({"enum": [2, 4, 8]}, {})
        ('number above 0, up to 1', '2, 4 or 8')
    """
    if "$ref" in field:
        return values(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if options := field.get("anyOf"):
        return " or ".join(values(option, definitions) for option in options)
    if "const" in field:
        return _word(field["const"])
    if choices := field.get("enum"):
        *most, last = map(_word, choices)
        return f"{', '.join(most)} or {last}" if most else last
    name = str(field.get("type", "anything"))
    return _TYPES.get(name, name) + _range(field)


def _plain(text: str) -> str:
    """A docstring's text on one line, without its markup."""
    return " ".join(re.sub(r":\w+:`~?([^`]*)`|``", lambda match: match[1] or "'", text).split())


def _range(field: dict[str, Any]) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f" from {_word(low)} to {_word(high)}"
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}
    parts = [f"{word} {_word(field[key])}" for key, word in words.items() if key in field]
    if "multipleOf" in field:
        parts.append(f"in steps of {_word(field['multipleOf'])}")
    return f" {', '.join(parts)}" if parts else ""


def _word(value: object) -> str:
    """A value as a condition's text has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


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
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(decoded.image.transpose(1, 2, 0)).save(file, "PNG")
        replace(out, file.getvalue())
        what = "×".join(map(str, decoded.image.shape))
    typer.echo(f"{out}: {decoded.side.condition}: {what}")


@takes_network()
def check_model(*, config: ModelConfig) -> None:
    """Prove that a model's halves, built apart, are the whole network bit for bit; name every tensor that crosses.

    The model's code is run. Exit code 1 if anything is wrong.
    """
    from featlink.model_check import check_model as check
    from featlink.report.table import MISSING, Column, Table, number, show

    found = check(config)
    columns = [Column("tensor", number=False), Column("channels"), Column("stride"), Column("shape", number=False)]
    columns += [Column("kB of float32"), Column("", number=False), Column("detections need it", number=False)]
    lines = []
    for one in found.crossing:
        size = 4 * one.shape[0] * one.shape[1] * one.shape[2] / 1000 if len(one.shape) == 3 else None
        made = f"of {one.source}, need not be sent" if one.source else ""
        needed = MISSING if one.needed is None else "yes" if one.needed else "no"
        shape = "×".join(map(str, one.shape)) or MISSING
        channels = str(one.shape[0]) if one.shape else MISSING
        lines.append([one.name, channels, str(one.stride), shape, number(size, 0), made, needed])
    height, width = found.picture
    if lines:
        caption = f"What crosses the link of {found.name} ({found.weights}), of {width}×{height} pixels"
        show(Table(caption, columns, lines))
        typer.echo()
    if found.multiply_adds is not None:
        edge, cloud = found.multiply_adds
        typer.echo(f"multiply-adds: edge {edge / 1e6:,.1f} million, cloud {cloud / 1e6:,.1f} million")
    for name, why in found.reductions.items():
        typer.echo(f"{name}: {why or 'works'}")
    for text in found.remarks:
        typer.echo(f"note: {text}")
    for text in found.proven:
        typer.echo(f"holds: {text}")
    if found.conditions and not any(found.conditions.values()):
        typer.echo(f"holds: it goes through {', '.join(found.conditions)}")
    for text in found.faults:
        typer.echo(f"wrong: {text}")
    if found.faults:
        raise CommandError(f"{found.name} is not a network in two halves yet")
