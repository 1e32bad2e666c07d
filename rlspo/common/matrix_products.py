"""Matrix products of compiled functions by oneDNN, where the library that torch takes by itself is slow.

torch gives float32 products on the CPU to MKL, which on processors that are not Intel's does not use the widest vectors they
have. oneDNN, which is in torch too and does its convolutions, does: on an AMD EPYC with AVX-512 a product of 256 x 256 x 256
is done at 229 instead of 110 GFLOP/s (``benchmarks/products.py``). In compiled functions such products are exchanged; both
libraries are exact to float32's rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._inductor import mkldnn_ir
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.ir import FixedLayout, TensorBox
from torch._inductor.lowering import register_lowering

from rlspo.common.processor import NARROW, WORTH_IT, by_onednn, worth_exchanging

Tensor = torch.Tensor
_aten = torch.ops.aten
_library = torch.library.Library("rlspo", "DEF")
_library.define("linear(Tensor inputs, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_library, "linear", "CPU")
def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return by_onednn(inputs, weight, bias)


@torch.library.impl(_library, "linear", "Meta")
def _linear_shape(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return inputs.new_empty(inputs.shape[0], weight.shape[0])


@register_lowering(torch.ops.rlspo.linear)
def _call_onednn(inputs: TensorBox, weight: TensorBox, bias: TensorBox | None) -> TensorBox:
    # Not by torch's own lowering, which wants weights that never change, and copies what is transposed.
    parts = [_without_gaps(mkldnn_ir.LinearUnary.realize_input(part)) for part in (inputs, weight, bias) if part is not None]
    size = [inputs.get_size()[0], weight.get_size()[0]]
    layout = FixedLayout(device=inputs.get_device_or_error(), dtype=inputs.get_dtype(), size=size)
    arguments = [*([] if bias is not None else [None]), "none", [-1], ""]
    product = mkldnn_ir.LinearUnary(layout=layout, inputs=parts, constant_args=arguments)
    return TensorBox.create(mkldnn_ir._create_output_node(product))


def _without_gaps(part: Any) -> Any:
    """What is neither transposed nor as it is in memory, such as columns of a matrix, oneDNN takes ten times as long for."""
    stride = list(part.maybe_get_stride() or [])
    size = part.get_size()
    whole = [list(layout) for layout in ((size[-1], 1), (1, size[0]))] if len(size) == 2 else [[1]]
    return part if stride in whole else mkldnn_ir.LinearUnary.require_contiguous(part)


class ProductsByOneDNN(CustomGraphPass):
    """For the option ``post_grad_custom_post_pass`` of ``torch.compile``."""

    def uuid(self) -> Any:
        """Changes with this file, so that torch's cache on the disk does not mix them up."""
        return get_hash_for_files((__file__,), extra=f"{WORTH_IT} {NARROW}")

    def __call__(self, graph: torch.fx.Graph) -> None:
        for node in list(graph.nodes):
            if node.target in (_aten.mm.default, _aten.addmm.default) and not node.kwargs and _worth_it(node):
                *bias, inputs, matrix = node.args
                with graph.inserting_before(node):
                    weight = _transposed(graph, matrix)
                    product = graph.call_function(torch.ops.rlspo.linear.default, (inputs, weight, bias[0] if bias else None))
                product.meta["val"] = node.meta["val"]
                node.replace_all_uses_with(product)
                graph.erase_node(node)


def _worth_it(node: torch.fx.Node) -> bool:
    bias, inputs, matrix = ([None, *node.args])[-3:]
    left, right = (part.meta["val"] for part in (inputs, matrix))  # type: ignore[union-attr]
    if left.dtype != torch.float32 or left.device.type != "cpu":
        return False
    if node.target is _aten.addmm.default and tuple(bias.meta["val"].shape) != (right.shape[1],):  # type: ignore[union-attr]
        return False
    return worth_exchanging(left.shape, right.shape)


def _transposed(graph: torch.fx.Graph, matrix: torch.fx.Node) -> torch.fx.Node:
    if matrix.target is _aten.permute.default and list(matrix.args[1]) == [1, 0]:  # type: ignore[arg-type]
        return matrix.args[0]  # type: ignore[return-value]
    turned = graph.call_function(_aten.permute.default, (matrix, [1, 0]))
    turned.meta["val"] = matrix.meta["val"].permute(1, 0)
    return turned
