"""``snnprof models`` and ``snnprof energy-tables``: what there is to choose from."""

from __future__ import annotations

from collections.abc import Iterator

import click
import torch

from snnprof.cli.options import echo_line
from snnprof.energy.conventions import (
    CONVENTIONS,
    Convention,
    convention_names,
    find_convention,
    shown,
)
from snnprof.energy.price_files import Constant
from snnprof.models import MODELS, list_models, nominal_macs, usual


@click.command("models")
@click.argument("name", required=False)
def models_command(name: str | None) -> None:
    """List the networks, or show the parameters of NAME."""
    from snnprof.render.terminal import show_table

    if name is not None:
        from fvcore.nn import parameter_count_table

        click.echo(parameter_count_table(usual(name), max_depth=4))
        return
    rows = []
    for name in list_models():
        info = MODELS[name]
        with torch.device("meta"):
            parameters = sum(p.numel() for p in usual(name).parameters())
        shape = f"{info.in_channels}x{info.image_size}x{info.image_size}"
        macs = f"{nominal_macs(name) / 1e6:,.1f}"
        rows.append((name, f"{parameters:,}", macs, shape, info.source))
    show_table(("model", "parameters", "MACs per step (M)", "usual input", "source"), rows)


@click.command("energy-tables")
@click.argument("name", required=False)
def energy_tables_command(name: str | None) -> None:
    """List the energy conventions, or all of NAME: constants, sources, what it leaves out.

    NAME may be at a precision (operands+int8), or a TOML file of your own.
    """
    names = [*CONVENTIONS] if name is None else convention_names(name)
    for each in names:
        convention = find_convention(each)
        prices = [f"{what} {shown(value)}" for what, value in _prices(convention)]
        of = " (training)" if convention.of_training else ""
        echo_line(f"{convention.name}{of}: {', '.join(prices) or 'a formula of its own'}")
        echo_line(f"  {convention.description}")
        if convention.suited_to:
            echo_line(f"  for: {convention.suited_to}")
        if name is not None:
            echo_line(f"  leaves out: {convention.leaves_out}")
            echo_line(f"  source: {convention.source}")
            for constant in convention.constants.values():
                echo_line(f"  {_described(constant)}")
    if name is None:
        click.echo(
            "All of one: snnprof energy-tables NAME (constants, sources, what it leaves out)"
        )


def _prices(convention: Convention) -> Iterator[tuple[str, float]]:
    accumulate = "event" if convention.formula == "events" else "AC"
    prices = (
        ("MAC", convention.mac_j),
        (accumulate, convention.ac_j),
        ("neuron update", convention.neuron_j),
        ("neuron gradient", convention.neuron_gradient_j),
    )
    yield from ((what, joules) for what, joules in prices if joules is not None)


def _described(constant: Constant) -> str:
    """A constant on one line, with all that is known of it."""
    node = None if constant.node_nm is None else f"{constant.node_nm:g} nm"
    facts = (node, constant.precision, constant.known_by, f"scope {constant.scope}")
    return (
        f"{constant.name}: {shown(constant.value_j)} per {constant.per} "
        f"({', '.join(fact for fact in facts if fact)}); leaves out: {constant.leaves_out}; "
        f"source: {constant.source}"
    )
