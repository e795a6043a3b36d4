"""The layer tables of docs/networks.md against the networks, layer by layer."""

from pathlib import Path

import pytest

from .structure import FORMS, layer_table

DOCS = Path(__file__).parent.parent.parent / "docs" / "networks.md"


@pytest.mark.parametrize("title", FORMS)
def test_layer_tables_are_those_of_the_networks(title: str) -> None:
    # Written by python -m tests.models.structure
    written = DOCS.read_text().partition(f"### {title}\n\n")[2].partition("\n\n")[0].rstrip()
    assert written == layer_table(*FORMS[title])
