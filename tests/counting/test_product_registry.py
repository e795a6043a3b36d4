"""Products that are registered from outside, after the import."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

import snnprof
from snnprof.counting.products import PRODUCTS, Product, Reading, product

from ..support.counting import Function, count, count_row


@pytest.fixture(autouse=True)
def registered_only_here() -> Iterator[None]:
    before = dict(PRODUCTS)
    yield
    PRODUCTS.clear()
    PRODUCTS.update(before)


def similarity(q: Tensor, k: Tensor) -> Tensor:
    """A user's function, as Python: q k^T."""
    if has_torch_function((q, k)):
        return handle_torch_function(similarity, (q, k), q, k)
    return q @ k.mT


def read_similarity(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    q, k = args
    return (Product("similarity", q, k, ("i", "f"), ("j", "f"), frozenset("f")),)


Q = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])  # non-zeros of the columns: 1 0 2
K = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])  # of the columns: 2 1 1


def test_a_product_is_counted_once_it_is_registered():
    model = Function(similarity)
    assert count(model, (Q, K)).rows == ()
    product("similarity", similarity)(read_similarity)
    row = count_row(model, (Q, K))
    assert (row.name, row.op) == ("Function.similarity", "similarity")
    assert row.synops == 4  # 1*2 + 0*1 + 2*1
    assert row.nominal_macs == 12  # 2 * 2 * 3


def test_a_counter_made_before_the_registration_counts_from_its_start_on():
    model = Function(similarity)
    counter = snnprof.SopCounter(model)
    product("similarity", similarity)(read_similarity)
    with counter:
        model(Q, K)
    assert counter.result().total("synops") == 4


def test_a_function_of_torchs_own_that_was_not_counted():
    def listed() -> tuple[tuple[str, str], ...]:
        return count(Function(torch.chain_matmul), (Q, K.mT)).not_counted

    assert listed() == (("Function", "chain_matmul: not counted yet"),)
    product("chain_matmul", torch.chain_matmul)(
        lambda args, kwargs: (
            Product("chain_matmul", *args, ("i", "f"), ("f", "j"), frozenset("f")),
        )
    )
    assert listed() == ()
    assert count_row(Function(torch.chain_matmul), (Q, K.mT)).synops == 4


def test_one_reader_of_several_functions():
    def other(q: Tensor, k: Tensor) -> Tensor:
        if has_torch_function((q, k)):
            return handle_torch_function(other, (q, k), q, k)
        return q @ k.mT

    assert product("similarity", similarity, other)(read_similarity) is read_similarity
    for function in (similarity, other):
        assert count_row(Function(function), (Q, K)).synops == 4


def test_what_a_reader_cannot_read_is_listed_with_its_reason():
    product("similarity", similarity)(lambda args, kwargs: "of that shape")
    result = count(Function(similarity), (Q, K))
    assert result.rows == ()
    assert result.not_counted == (("Function", "similarity: of that shape"),)
    left_out = count(Function(similarity), (Q, K), layers=("conv", "linear"))
    assert left_out.not_counted == (("Function", "similarity: left out by layers="),)


def test_a_reader_that_fails_is_listed_and_the_model_runs():
    def failing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
        raise KeyError("no such thing")

    product("similarity", similarity)(failing)
    model = Function(similarity)
    with snnprof.SopCounter(model) as counter:
        assert torch.equal(model(Q, K), Q @ K.mT)
    ((name, reason),) = counter.result().not_counted
    assert name == "Function"
    assert reason == "similarity: counting it failed (KeyError: 'no such thing')"


def test_a_product_is_registered_once():
    with pytest.raises(ValueError, match="product 'bmm' is already registered"):
        product("mine", torch.bmm)(read_similarity)
