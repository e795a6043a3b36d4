"""The modules of a model as a tree, with what was counted in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from snnprof.results.counts import SOFTMAX_PRODUCT, CountResult, LayerCount, NeuronRate
from snnprof.results.energy import EnergyResult
from snnprof.results.modules import ModuleRow


@dataclass
class Node:
    """A module, or an operation that ran in one and has a row of its own (a product).

    Attributes:
        name: the whole of it.
        kind: class of the module; the operation, of what is none.
        output_shape, parameters: as of :class:`~snnprof.results.ModuleRow`; None where unknown.
        children: in the order of the model.
        layers, neurons: rows of the counts that are its own.
    """

    name: str
    kind: str
    output_shape: str | None = None
    parameters: int | None = None
    children: list[Node] = field(default_factory=list)
    layers: list[LayerCount] = field(default_factory=list)
    neurons: list[NeuronRate] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """It, and all below it, from the top."""
        yield self
        for child in self.children:
            yield from child.walk()

    def figures(self, counts: CountResult, energies: Sequence[EnergyResult]) -> Figures:
        """The figures of it and all below it, per sample."""
        nodes = [*self.walk()]
        return figures_of(
            [layer for node in nodes for layer in node.layers],
            [neuron for node in nodes for neuron in node.neurons],
            counts.samples,
            energies,
        )


@dataclass(frozen=True)
class Figures:
    """Figures of one or several layers, per sample; None where there are none.

    Attributes:
        firing_rate: share of non-zero elements in the outputs of neurons.
        input_density: share of non-zero elements in the inputs; of several layers without the
            stem and softmax weights.
        kinds: of input and weight, each once: ``"BINARY x REAL"``.
        events: AC, MAC, or both.
        synops, nominal_macs: sums.
        energy_j: by convention.
    """

    firing_rate: float | None
    input_density: float | None
    kinds: tuple[str, ...]
    events: tuple[str, ...]
    synops: float | None
    nominal_macs: float | None
    energy_j: Mapping[str, float | None]


def figures_of(
    layers: Sequence[LayerCount],
    neurons: Sequence[NeuronRate],
    samples: int,
    energies: Sequence[EnergyResult],
) -> Figures:
    """The figures of these rows together; ``samples`` were counted."""
    outputs = sum(row.outputs for row in neurons)
    spiking = [row for row in layers if not row.stem and row.op != SOFTMAX_PRODUCT]
    read = layers if len(layers) == 1 else spiking
    inputs = sum(row.inputs for row in read)
    names = {row.name for row in layers} | {row.name for row in neurons}
    billed = {
        energy.table: [row.energy_j for row in energy.rows if row.name in names]
        for energy in energies
    }
    return Figures(
        firing_rate=sum(row.nonzeros for row in neurons) / outputs if outputs else None,
        input_density=sum(row.nonzeros for row in read) / inputs if inputs else None,
        kinds=tuple(dict.fromkeys(f"{row.input_kind} x {row.weight_kind}" for row in layers)),
        events=tuple(sorted({row.operation for row in layers})),
        synops=sum(row.synops for row in layers) / samples if layers else None,
        nominal_macs=sum(row.nominal_macs for row in layers) / samples if layers else None,
        energy_j={table: sum(joules) if joules else None for table, joules in billed.items()},
    )


def module_tree(name: str, modules: Sequence[ModuleRow], counts: CountResult) -> Node:
    """The tree: of the modules, or else of what the names of the counts say of them.

    Args:
        name: of the whole, where the modules are not known.
        modules: the model's own first.
        counts: every row of them is somewhere in the tree.
    """
    root = Node(name, "")
    nodes: dict[str, Node] = {}
    if modules:
        first, *rest = modules
        root = Node(first.name, first.kind, first.output_shape, first.parameters)
        for row in rest:
            node = Node(row.name, row.kind, row.output_shape, row.parameters)
            _above(row.name, nodes, root).children.append(node)
            nodes[row.name] = node
        nodes.setdefault(root.name, root)
    for layer in counts.rows:
        _place(layer.name, layer.op, nodes, root, known=bool(modules)).layers.append(layer)
    for neuron in counts.neurons:
        _place(neuron.name, "neuron", nodes, root, known=bool(modules)).neurons.append(neuron)
    return root


def _place(name: str, kind: str, nodes: dict[str, Node], root: Node, known: bool) -> Node:
    """The node of that name, made where there is none; those above it too, if not ``known``."""
    if name not in nodes:
        above = name.rpartition(".")[0]
        if above and not known:
            _place(above, "", nodes, root, known)
        nodes[name] = Node(name, kind)
        _above(name, nodes, root).children.append(nodes[name])
    return nodes[name]


def _above(name: str, nodes: Mapping[str, Node], root: Node) -> Node:
    """The innermost module that the name lies in."""
    above = name.rpartition(".")[0]
    while above and above not in nodes:
        above = above.rpartition(".")[0]
    return nodes.get(above, root)
