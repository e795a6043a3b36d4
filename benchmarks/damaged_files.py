"""Damaged files of every kind that snnprof reads, and what becomes of them.

A file is damaged at random: bytes flipped, cut off, put in, doubled; and where it has structure,
in that: values of another type, keys twice, brackets a thousand deep, numbers of thousands of
digits. Reading it must end in a SnnprofError of one line, or in the value that the whole file
holds. A format without a checksum (prices in TOML, which a user writes; files of others) cannot
tell a digit from another: there, a value that is what the damaged file says is right as well.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import snnprof
from snnprof.energy.conventions import CONSTANTS
from snnprof.energy.price_files import read_file
from snnprof.experiment.checkpoint import load_checkpoint, saved_configuration
from snnprof.experiment.safetensors_file import to_bytes
from snnprof.render.output_files import load
from snnprof.results import CountResult, LayerCount, NeuronRate, Report, ReportRow, StepProfile
from snnprof.results.serialization import from_json, to_json
from snnprof.results.values import Values

REFUSED, EQUAL, AS_IT_SAYS = "refused", "equal", "as it says"
_STRANGE: tuple[Any, ...] = (
    None, True, False, "", "x", "nan", "\ud800", "a\nb", 0, -1, 0.5, 1e308, 10**30, [], {}, [[]],
    [None], {"": 0}, [0] * 70, 2**63, "9" * 500,
)  # fmt: skip
# What JSON's own writer does not write, put in the place of a value.
_RAW = (
    "Infinity", "-Infinity", "NaN", "1e999", "9" * 5000, "[" * 1000, "[" * 100_000,
    "[Infinity]", "[" + "1," * 99_999 + "1]", '{"a":' * 1000, '{"names": 1, "names": 1}', "",
)  # fmt: skip
_VALUE = re.compile(r'(?<=[:\[,])\s*("(?:[^"\\]|\\.)*"|-?[\d.]+(?:e[+-]?\d+)?|null|true|false)')
PRICES = """
[constants.mac]
value_pj = 1.5
per = "op"
node_nm = 7
evidence = "simulated"
scope = "per_op"
leaves_out = "memory"
source = "ours"

[conventions.damaged]
formula = "operands"
mac = "mac"
ac = "ac-45nm-int8"
description = "exact events, {mac} a MAC"
leaves_out = "memory"
source = "ours"
suited_to = "our chip"
"""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: for the table.
        whole: a file that is whole.
        read: from a path to something that can be compared; SnnprofError for a damaged file.
        summed: whether the file has a checksum, so that no other value can be right.
        damage: damages of this kind beside those of bytes.
    """

    name: str
    whole: bytes
    read: Callable[[Path], object]
    summed: bool
    damage: Callable[[random.Random, bytes], bytes] | None = None


def flip(chance: random.Random, content: bytes) -> bytes:
    """One to eight bytes changed."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= chance.randrange(1, 256)
    return bytes(changed)


def cut(chance: random.Random, content: bytes) -> bytes:
    """The beginning, or all but a piece."""
    begin, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    return content[:begin] + chance.choice((b"", content[end:]))


def put_in(chance: random.Random, content: bytes) -> bytes:
    """Bytes put in: random ones, zeros, or a piece of the file."""
    place, begin = chance.randrange(len(content) + 1), chance.randrange(len(content))
    piece = chance.choice(
        (chance.randbytes(chance.randrange(1, 64)), bytes(64), content[begin : begin + 64], b"\xff")
    )
    return content[:place] + piece + content[place:]


def of_json(chance: random.Random, text: str) -> str:
    """A document with one value of another kind, a key gone, doubled or renamed."""
    if chance.random() < 0.3:
        found = chance.choice([*_VALUE.finditer(text)])
        return text[: found.start()] + chance.choice(_RAW) + text[found.end() :]
    document = json.loads(text)
    if chance.random() < 0.5 and isinstance(document, dict):
        document.pop("crc32", None)
    for _ in range(chance.choice((1, 1, 3))):
        holder, key = chance.choice([*_places(document)])
        action = chance.randrange(4)
        if isinstance(holder, dict) and action == 0:
            del holder[key]
        elif isinstance(holder, dict) and action == 1:
            holder[key[::-1] + "x"] = holder.pop(key)
        elif isinstance(holder, list) and action == 0:
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(chance.choice(_STRANGE))
    return json.dumps(document)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and its key or number."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _json_damage(chance: random.Random, content: bytes) -> bytes:
    return of_json(chance, content.decode()).encode("utf-8", "surrogatepass")


def _header_damage(before: int, length: int) -> Callable[[random.Random, bytes], bytes]:
    """Damage in a JSON header, behind ``before`` bytes and its length in so many."""

    def damage(chance: random.Random, content: bytes) -> bytes:
        start = before + length
        end = start + int.from_bytes(content[before:start], "little")
        header = of_json(chance, content[start:end].decode()).encode("utf-8", "surrogatepass")
        return content[:before] + len(header).to_bytes(length, "little") + header + content[end:]

    return damage


def _toml_damage(chance: random.Random, content: bytes) -> bytes:
    """A value of another kind, a line gone or twice."""
    lines = content.decode().splitlines()
    line = chance.randrange(len(lines))
    strange = (
        "-1", "0", "inf", "nan", "true", '""', "[]", "{}", "1e-320", "1e400", "9" * 5000,
        "0x" + "f" * 5000, "[" * 1000, "1979-05-27", '"\\u0000"', "'a'", "{a" + ".a" * 3000 + "=1}",
    )  # fmt: skip
    key = lines[line].split("=")[0]
    lines[line : line + 1] = chance.choice(
        ([], [lines[line]] * 2, [f"{key}= {chance.choice(strange)}"], [f"{key}x = 1"])
    )
    return "\n".join(lines).encode()


def network() -> nn.Module:
    """A small network with a layer of each coding."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    return snnprof.quantize(layers, "1.5bit", skip=["0"])


def report() -> Report:
    """A report with a figure in most fields."""
    layer = LayerCount(
        "conv", "conv2d", "BINARY", "REAL", "AC", False, 2, 0.25, 30, 30, 30.0, 120, 100, 5, 20,
        input_density_by_step=(0.2, 0.3), values=Values.of(1.0, 1e-7),
    )  # fmt: skip
    counts = CountResult(
        (layer,), samples=2, timesteps=2, not_counted=(("att", "matmul"),),
        neurons=(NeuronRate("lif", 0.25, (0.2, 0.3), 40, 10, 4),),
    )  # fmt: skip
    profile = StepProfile(
        "stbp", "cpu", 8, 2, (0.1,), (0.2, float("inf")), (0.3,), (0.6,), 2**20, None, 2**10, None,
        1, 1,
    )  # fmt: skip
    row = ReportRow(
        "net", "lif", "fp32", "stbp", 2, parameters=10, size_bytes=40, accuracy=0.5, counts=counts,
        energies=(snnprof.price(counts, "operands"),), profile=profile, more={"own": 1.5},
    )  # fmt: skip
    return Report((row,), environment={"device": "CPU"}, notes=("A note.",))


def _tensors(model: nn.Module) -> dict[str, tuple[torch.dtype, bytes]]:
    return {
        key: (value.dtype, value.reshape(-1).view(torch.uint8).numpy().tobytes())
        for key, value in model.state_dict().items()
    }


def _loaded(path: Path) -> object:
    model = network()
    saved_configuration(path)
    load_checkpoint(model, path)
    return _tensors(model)


def _unpacked(path: Path) -> object:
    model = network()
    snnprof.unpack(path, model)
    return _tensors(model)


def _read_report(path: Path) -> object:
    found = load(path)
    text = to_json(found)  # compared as text: NaN is no equal of itself
    if to_json(from_json(text)) != text:
        raise AssertionError("it is not what it is after saving and loading")
    return found


def _read_prices(path: Path) -> object:
    found = read_file(path, CONSTANTS)
    for each in found:
        for constant in each.constants.values():
            if not 0 < constant.value_j < float("inf"):
                raise AssertionError(f"a price of {constant.value_j}")
    return found


def kinds(folder: Path) -> tuple[Kind, ...]:
    """Every kind of file; some are written to the folder first."""
    model = network()
    snnprof.pack(model).save(folder / "packed")
    state = model.state_dict()
    settings = {"settings": {"model": "vgg5", "timesteps": 4, "variants": {"seca": True}}}
    metadata = {"snnprof": json.dumps(settings)}
    of_torch = io.BytesIO()
    torch.save(state, of_torch)
    text = to_json(report())
    unsummed = json.loads(text)
    del unsummed["crc32"]
    packed = (folder / "packed").read_bytes()
    tensors = to_bytes(state, metadata)
    return (
        Kind("report (.json)", text.encode(), _read_report, True, _json_damage),
        Kind(
            "report without its checksum", json.dumps(unsummed).encode(), _read_report, False,
            _json_damage,
        ),
        Kind("packed weights", packed, _unpacked, True, _header_damage(8, 4)),
        Kind("checkpoint (.safetensors of ours)", tensors, _loaded, True, _header_damage(0, 8)),
        Kind("checkpoint (torch.save)", of_torch.getvalue(), _loaded, True),
        Kind("prices (.toml)", PRICES.encode(), _read_prices, False, _toml_damage),
    )  # fmt: skip


def outcome(kind: Kind, content: bytes, path: Path, whole: object) -> str:
    """What reading a file of that content comes to.

    Raises:
        AssertionError: anything but what it may: the damage is left at the path.
    """
    path.write_bytes(content)
    try:
        found = kind.read(path)
    except snnprof.SnnprofError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            raise AssertionError(f"{kind.name}: no line: {str(error)[:200]!r}") from error
        return REFUSED
    except Exception as error:
        raise AssertionError(f"{kind.name}: {type(error).__name__}: {error}"[:500]) from error
    if found == whole:
        return EQUAL
    if kind.summed and (b"crc32" in content or kind.name.startswith(("packed", "checkpoint (t"))):
        raise AssertionError(f"{kind.name}: another value than the original")
    return AS_IT_SAYS


def tried(
    kind: Kind, inputs: int, seed: int, folder: Path, told: Callable[[str], None]
) -> Counter[str]:
    """How many inputs ended how; what must not happen is told, and counted under "wrong"."""
    chance = random.Random(f"{kind.name} {seed}")
    path = folder / "file"
    path.write_bytes(kind.whole)
    whole = kind.read(path)
    found: Counter[str] = Counter()
    damages = [flip, cut, put_in] + ([kind.damage] * 3 if kind.damage else [])
    for _ in range(inputs):
        content = chance.choice(damages)(chance, kind.whole)
        try:
            found[outcome(kind, content, path, whole)] += 1
        except AssertionError as error:
            found["wrong"] += 1
            told(str(error))
    return found
