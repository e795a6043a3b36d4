"""``snnprof models`` and ``snnprof energy-tables``: what there is to choose from."""

from __future__ import annotations

import click
import torch

from snnprof.energy.conventions import CONVENTIONS
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
def energy_tables_command() -> None:
    """List the energy conventions: constants, what they leave out, sources."""
    for convention in CONVENTIONS.values():
        mac, ac = (
            "none" if joules is None else f"{joules * 1e12:g} pJ"
            for joules in (convention.mac_j, convention.ac_j)
        )
        click.echo(f"{convention.name}: MAC {mac}, AC {ac}")
        click.echo(f"  {convention.description}")
        click.echo(f"  leaves out: {convention.leaves_out}")
        click.echo(f"  source: {convention.source}")
