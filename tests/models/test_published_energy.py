"""Energies that papers print, from the stems of our networks and the papers' SOPs."""

import pytest
import torch

import snnprof
from snnprof.models import usual
from snnprof.results import CountResult, LayerCount


def layer(name: str, stem: bool, macs: int, sops: float) -> LayerCount:
    return LayerCount(
        name=name,
        op="conv2d",
        input_kind="REAL" if stem else "BINARY",
        weight_kind="REAL",
        operation="MAC" if stem else "AC",
        stem=stem,
        calls=1,
        input_density=1.0,
        synops=int(sops),
        unrolled_synops=None if stem else int(sops),
        rate_synops=sops,
        nominal_macs=macs,
        dense_macs=macs,
        nonzeros=1,
        inputs=1,
    )


@pytest.mark.parametrize(
    ("name", "stem_runs", "giga_sops", "millijoules"),
    [
        # 4.6 pJ * 4 * 86.7 M + 0.9 pJ * 11.09 G: the stem runs at every step
        ("spikformer_8_512", 4, 11.09, 11.577),
        # 4.6 pJ * 118.0 M + 0.9 pJ * 3.88 G: the stem runs once
        ("sew_resnet34", 1, 3.88, 4.035),
    ],
)
def test_published_energy(name: str, stem_runs: int, giga_sops: float, millijoules: float) -> None:
    network = usual(name, timesteps=4).eval()
    stem = network.get_submodule(network.full_precision[0])
    seen: list[torch.Size] = []
    stem.register_forward_hook(lambda module, given, out: seen.append(out.shape))
    with torch.device("meta"):
        network.to("meta")(torch.empty(1, *network.image_shape))
    (shape,) = seen
    assert shape[0] == stem_runs  # time steps * one sample
    macs = stem.weight[0].numel() * shape.numel()  # type: ignore[index, operator, union-attr]
    rows = (layer("stem", True, macs, macs), layer("rest", False, 0, giga_sops * 1e9))
    energy = snnprof.price(CountResult(rows, samples=1, timesteps=4), "spikformer")
    # The SOPs are printed to 0.01 G: half of that is 0.0045 mJ.
    assert energy.total_j * 1e3 == pytest.approx(millijoules, abs=0.0045)
