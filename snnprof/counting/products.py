"""Products of two tensors: torch's ways of writing one, each read as an einsum.

A reader takes the arguments of a call and says which two tensors meet over which indices.
Where it cannot, it answers with the reason, which is listed in the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.core.registry import ByFunction
from snnprof.counting.call_site import Site
from snnprof.counting.linear_ops import called_directly
from snnprof.counting.operation_mode import why_not_countable

Index = tuple[str, ...]
Reading = tuple["Product", ...] | str
Reader = Callable[[tuple[Any, ...], dict[str, Any]], Reading]


@dataclass(frozen=True)
class Product:
    """A sum of products of the elements of two tensors.

    Attributes:
        op: what to call it: ``"matmul"``, ``"sdpa.qk"``, ...
        a, b: the operands; dimensions of size 1 are broadcast.
        a_index, b_index: a letter for each dimension; equal letters run together.
        summed: letters that the output lacks.
        note: what is assumed; ``a`` then only holds which of its elements may be non-zero.
    """

    op: str
    a: Tensor
    b: Tensor
    a_index: Index
    b_index: Index
    summed: frozenset[str]
    note: str | None = None

    def sizes(self) -> Mapping[str, int]:
        """How far each letter runs.

        Raises:
            ValueError: dimensions of one letter differ, and none of them is 1.
        """
        found: dict[str, int] = {}
        dims = (*zip(self.a_index, self.a.shape, strict=True),)
        for letter, size in (*dims, *zip(self.b_index, self.b.shape, strict=True)):
            if found.setdefault(letter, size) == 1:
                found[letter] = size
            elif size not in (1, found[letter]):
                raise ValueError(f"{self.op} of shapes {self.a.shape} and {self.b.shape}")
        return found

    @property
    def nominal_macs(self) -> int:
        """Multiplications if nothing is zero: M * K * N * batch."""
        return math.prod(self.sizes().values())

    @property
    def leading(self) -> int:
        """How many first dimensions of a are not summed over: samples and steps are among them."""
        kept = [letter not in self.summed for letter in self.a_index]
        return (*kept, False).index(False)

    def swapped(self) -> Product:
        """The same with b first."""
        return replace(self, a=self.b, b=self.a, a_index=self.b_index, b_index=self.a_index)


class ProductForm(NamedTuple):
    """One way of writing a product: its name, and the reader of its calls."""

    name: str
    read: Reader


PRODUCTS: ByFunction[ProductForm] = ByFunction("product")


def product(
    name: str, function: Callable[..., Any], *others: Callable[..., Any]
) -> Callable[[Reader], Reader]:
    """Decorator of a reader; counters entered from then on count these functions' calls.

    The reader takes a call's arguments and keywords, and returns the products that the call
    computes, or the reason why they cannot be counted.

    Args:
        name: the function's name in a list of what was not counted.
        function, others: functions that a :class:`torch.overrides.TorchFunctionMode` receives,
            as for :func:`~snnprof.counting.linear_ops.linear_operation`.

    Raises:
        ValueError: one of the functions is registered already.
    """

    def add(reader: Reader) -> Reader:
        for each in (function, *others):
            PRODUCTS.register(each)(ProductForm(name, reader))
        return reader

    return add


def _spellings(name: str) -> list[Callable[..., Any]]:
    """torch's function and the tensors' method of that name, in place too, and the operator."""
    found = (
        getattr(space, name + ending, None)
        for space in (torch, torch.Tensor)
        for ending in ("", "_")
    )
    return [*(function for function in found if function is not None), *called_directly(name)]


_UNKNOWN_FORM = "a form of the call that is not known"


# Names of arguments that come first and second; the second factor has many.
_PLACES = {"input": 0, "x": 0, "a": 0, "mat": 1, "mat1": 1, "batch1": 1, "vec1": 1}


def _place(name: str) -> int:
    return _PLACES.get(name, 2)


def _pair(
    args: tuple[Any, ...], kwargs: dict[str, Any], first: int = 0
) -> tuple[Tensor, Tensor] | None:
    """The two factors, which follow ``first`` tensors that are only added."""
    named = [kwargs[key] for key in sorted(kwargs, key=_place) if key != "out"]
    factors = [value for value in (*args, *named) if isinstance(value, Tensor)][first:]
    return (factors[0], factors[1]) if len(factors) == 2 else None


def _batch(dims: int) -> Index:
    """Letters of leading dimensions, the same from the right."""
    return tuple(f"batch {n}" for n in reversed(range(dims)))


def _matmul_index(a: Tensor, b: Tensor) -> tuple[Index, Index]:
    left = ("k",) if a.dim() == 1 else (*_batch(a.dim() - 2), "i", "k")
    right = ("k",) if b.dim() == 1 else (*_batch(b.dim() - 2), "k", "j")
    return left, right


def _as_matmul(op: str, pair: tuple[Tensor, Tensor] | None, *summed: str) -> Reading:
    if pair is None or min(x.dim() for x in pair) == 0:
        return _UNKNOWN_FORM
    return (Product(op, *pair, *_matmul_index(*pair), frozenset(("k", *summed))),)


def _matmul(op: str, first: int = 0) -> Reader:
    return lambda args, kwargs: _as_matmul(op, _pair(args, kwargs, first))


for _op in ("matmul", "mm", "bmm", "mv", "dot", "vdot"):
    product(_op, *_spellings(_op))(_matmul(_op))
for _op in ("addmm", "addmv", "baddbmm"):
    product(_op, *_spellings(_op))(_matmul(_op, first=1))
product("matmul", torch.Tensor.__matmul__, torch.linalg.matmul)(_matmul("matmul"))


@product("rmatmul", torch.Tensor.__rmatmul__)
def _rmatmul(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    pair = _pair(args, kwargs)
    return _as_matmul("matmul", pair and pair[::-1])


@product("addbmm", *_spellings("addbmm"))
def _addbmm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    return _as_matmul("addbmm", _pair(args, kwargs, first=1), *_batch(1))


def _as_outer(op: str, pair: tuple[Tensor, Tensor] | None) -> Reading:
    if pair is None:
        return _UNKNOWN_FORM
    return (Product(op, *pair, ("i",), ("j",), frozenset()),)


@product("outer", *_spellings("outer"), *_spellings("ger"))
def _outer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    return _as_outer("outer", _pair(args, kwargs))


@product("addr", *_spellings("addr"))
def _addr(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    return _as_outer("addr", _pair(args, kwargs, first=1))


@product("inner", *_spellings("inner"))
def _inner(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    pair = _pair(args, kwargs)
    if pair is None or min(x.dim() for x in pair) == 0:
        return _UNKNOWN_FORM
    a, b = pair
    left = (*(f"a{n}" for n in range(a.dim() - 1)), "k")
    right = (*(f"b{n}" for n in range(b.dim() - 1)), "k")
    return (Product("inner", a, b, left, right, frozenset("k")),)


@product("vecdot", torch.linalg.vecdot)
def _vecdot(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    pair = _pair(args, kwargs)
    if pair is None:
        return _UNKNOWN_FORM
    dim = args[2] if len(args) > 2 else kwargs.get("dim", -1)
    rank = max(x.dim() for x in pair)
    letters = _batch(rank)
    a, b = (letters[rank - x.dim() :] for x in pair)
    return (Product("vecdot", *pair, a, b, frozenset((letters[dim],))),)


@product("tensordot", torch.tensordot)
def _tensordot(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    pair = _pair(args, {k: v for k, v in kwargs.items() if k in ("a", "b")})
    dims = args[2] if len(args) > 2 else kwargs.get("dims", 2)
    if pair is None or isinstance(dims, Tensor):
        return _UNKNOWN_FORM
    a, b = pair
    if isinstance(dims, int):
        dims = (range(a.dim() - dims, a.dim()), range(dims))
    left = [f"a{n}" for n in range(a.dim())]
    right = [f"b{n}" for n in range(b.dim())]
    summed: list[str] = []
    for i, j in zip(*dims, strict=True):
        left[i] = right[j] = f"k{len(summed)}"
        summed.append(left[i])
    return (Product("tensordot", a, b, tuple(left), tuple(right), frozenset(summed)),)


@product("einsum", torch.einsum)
def _einsum(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    equation, *given = args
    if len(given) == 1 and isinstance(given[0], list | tuple):
        given = list(given[0])
    if not isinstance(equation, str):
        return _UNKNOWN_FORM
    if len(given) < 2:
        return ()  # one operand is rearranged or summed: nothing is multiplied
    if len(given) > 2:
        return f"{len(given)} operands: write it as products of two"
    a, b = given
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    left, right = (_spell(term, x.dim()) for term, x in zip(inputs.split(","), (a, b), strict=True))
    both = (*left, *right)
    if arrow:
        kept = set(output) | {letter for letter in both if "..." in output and len(letter) > 1}
    else:
        kept = {letter for letter in both if both.count(letter) == 1 or len(letter) > 1}
    return (Product("einsum", a, b, left, right, frozenset(both) - kept),)


def _spell(term: str, rank: int) -> Index:
    """The letters of one operand, the ellipsis spelt out."""
    before, dots, after = term.partition("...")
    hidden = _batch(rank - len(before) - len(after)) if dots else ()
    return (*before, *hidden, *after)


_WEIGHTS_UNSEEN = (
    "zeros among the softmax's weights: all are taken to be non-zero where the mask lets them "
    "be; those of underflow and dropout are not seen"
)


@product(
    "scaled_dot_product_attention",
    F.scaled_dot_product_attention,
    *called_directly("scaled_dot_product_attention"),
)
def _sdpa(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
    """softmax(q k^T + mask) v: two products; the softmax's weights are not seen."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, args, strict=False)) | kwargs
    q, k, v = (given[name] for name in names[:3])
    grouped = bool(given.get("enable_gqa"))
    if grouped and k.shape[-3] != v.shape[-3]:
        return "keys and values of different numbers of heads"
    batch = torch.broadcast_shapes(q.shape[:-2], () if grouped else k.shape[:-2])
    shape = (*batch, q.shape[-2], k.shape[-2])
    allowed = _allowed(given.get("attn_mask"), bool(given.get("is_causal")), shape, q.device)
    if grouped:  # each head of k and v serves a group of q's
        heads = (k.shape[-3], -1)
        q, allowed = q.unflatten(-3, heads), allowed.unflatten(-3, heads)
        k, v = k.unsqueeze(-3), v.unsqueeze(-3)
    summed = frozenset("k")
    scores = Product("sdpa.qk", q, k.mT, *_matmul_index(q, k), summed)
    index = _matmul_index(allowed, v)
    return scores, Product("sdpa.av", allowed, v, *index, summed, note=_WEIGHTS_UNSEEN)


def _allowed(
    mask: Tensor | None, causal: bool, shape: tuple[int, ...], device: torch.device
) -> Tensor:
    """Where a softmax's weights may be non-zero, of the given shape [..., L, S]."""
    allowed = torch.ones((), dtype=torch.bool, device=device)
    if causal:
        allowed = torch.ones(shape[-2:], dtype=torch.bool, device=device).tril_()
    if mask is not None:
        mask = mask.detach()
        allowed = allowed & (mask if mask.dtype == torch.bool else mask != -math.inf)
        shape = torch.broadcast_shapes(shape, mask.shape)
    return allowed.expand(shape)


# nn.utils.spectral_norm computes the weight in a hook, which is in a file of its own.
_SPECTRAL_NORM = nn.utils.spectral_norm.__code__.co_filename


def why_no_product(where: str, site: Site, given: Iterable[object]) -> str | None:
    """The reason why a product that was seen is not counted, or None."""
    by_hook = any(file == _SPECTRAL_NORM for file, *_ in site)
    if by_hook or "parametrizations" in where.split("."):
        return "makes a weight, no activation takes part"
    flat = [x for value in given for x in (value if isinstance(value, list | tuple) else (value,))]
    reasons = (why_not_countable(x, x) for x in flat if isinstance(x, Tensor))
    return next((reason for reason in reasons if reason is not None), None)
