"""A max-pooled convolution that is trained without its zeros, on a CPU.

Max-pooling hands the gradient of each cell to one of its values: of the notebook's cells of 3 x 4,
eleven of twelve gradients of the convolution are zero, and the ReLU behind the pooling and dropout
make more of them so. torch's backward pass multiplies them all.
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hwr.networks.base import traced
from hwr.stopping import unstopped

Sums = Callable[[int, Sequence[int], Sequence[Tensor]], None]


def pooled(maps: Tensor, stage: nn.Sequential) -> Tensor:
    """What a stage makes of maps: ReLU, padding where there is any, convolution, max-pooling.

    In training on a CPU the backward pass leaves out the zeros, where numba is installed and torch
    works with GNU's OpenMP, as on Linux. Its sums are torch's, in another order. The layers aren't
    called one by one then, nor are their hooks.

    Args:
        maps: Shape (N, C, H, W).
        stage: Its convolution has a bias, one group, and a stride and dilation of one; it does not
            pad. Its pooling does neither pad nor overlap. Its padding adds zeros.

    Returns:
        One value for each cell, shape (N, O, H', W').
    """
    *padding, convolution, pool = list(stage)[1:]
    plain = maps.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    ours = maps.device.type == "cpu" and plain and not traced()
    if not (ours and pool.training and maps.requires_grad) or (sums := _compiled()) is None:
        found: Tensor = stage(maps)
        return found
    sides = padding[0].padding if padding else (0, 0, 0, 0)
    found = _Pooled.apply(maps, convolution.weight, convolution.bias, sides, pool.kernel_size, sums)
    return found


class _Pooled(torch.autograd.Function):
    """The stage as one function, whose gradients numba's code sums."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor,
        sides: tuple[int, ...],
        cell: tuple[int, int] | int,
        sums: Sums,
    ) -> Tensor:
        padded = functional.pad(maps, sides).relu_() if any(sides) else maps.relu()
        found, place = functional.max_pool2d(
            functional.conv2d(padded, weight, bias), cell, return_indices=True
        )
        ctx.save_for_backward(padded, weight, place)
        ctx.shape, ctx.sides, ctx.sums = maps.shape, sides, sums
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        padded, weight, place, gradient = (
            tensor.contiguous(memory_format=torch.channels_last)
            for tensor in (*ctx.saved_tensors, gradient)
        )
        of_maps = torch.empty(
            ctx.shape, dtype=padded.dtype, device="cpu", memory_format=torch.channels_last
        )
        of_weight = torch.empty_like(weight)
        threads = torch.get_num_threads()
        scratch = padded.new_empty(threads, padded[:1].numel())
        left, _, top, _ = ctx.sides
        cells = gradient.shape[2] * gradient.shape[3]
        sizes = (*padded.shape, *weight.shape[2:], *ctx.shape[2:], top, left, len(weight), cells)
        ctx.sums(threads, sizes, (padded, weight, gradient, place, of_maps, of_weight, scratch))
        return of_maps, of_weight, gradient.sum((0, 2, 3)), None, None, None


@cache
@unstopped()  # numba would make an error of a stop
def _compiled() -> Sums | None:
    """What sums both gradients, compiled for this processor in a second; None where it can't be.

    It works in torch's own threads: any others would wait for a core while these look for work.
    """
    try:
        from numba import carray, cfunc, types

        team = ctypes.CDLL(None).GOMP_parallel
    except (ImportError, AttributeError, TypeError, OSError):
        return None
    team.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    thread = types.ExternalFunction("omp_get_thread_num", types.int32())
    threads = types.ExternalFunction("omp_get_num_threads", types.int32())

    def work(data: Any) -> None:
        # One function, whose inner loops go along slices: parts of it, called, would take half as
        # long again to compile, and loops over indices would not use the processor's vectors.
        size = carray(data[0], 12, np.int64)
        count, channels, height, width = size[0], size[1], size[2], size[3]
        rows, columns, high, wide = size[4], size[5], size[6], size[7]
        top, left, outs, cells = size[8], size[9], size[10], size[11]
        line, length, across = width * channels, columns * channels, width - columns + 1
        padded = carray(data[1], (count, height, line), np.float32)
        weight = carray(data[2], (outs, rows, length), np.float32)
        gradient = carray(data[3], (count, cells, outs), np.float32)
        place = carray(data[4], (count, cells, outs), np.int64)
        of_maps = carray(data[5], (count, high, wide * channels), np.float32)
        of_weight = carray(data[6], (outs, rows, length), np.float32)
        me, all = np.int64(thread()), np.int64(threads())
        whole = carray(data[7], (all, height, line), np.float32)[me]
        for one in range(count * me // all, count * (me + 1) // all):  # my share of the pictures
            for row in range(height):
                into = whole[row]
                for k in range(line):
                    into[k] = 0
            for cell in range(cells):
                for out in range(outs):
                    share = gradient[one, cell, out]
                    if share != 0:
                        at = place[one, cell, out]
                        first, start = at // across, at % across * channels
                        for row in range(rows):
                            into = whole[first + row, start : start + length]
                            kernel = weight[out, row]
                            for k in range(length):
                                into[k] += share * kernel[k]
            for row in range(high):
                into, inner = of_maps[one, row], whole[top + row, left * channels :]
                seen = padded[one, top + row, left * channels :]
                for k in range(len(into)):
                    into[k] = np.float32(0) if seen[k] <= 0 else inner[k]
        mine = range(outs * me // all, outs * (me + 1) // all)  # and of the output channels
        for out in mine:
            for row in range(rows):
                into = of_weight[out, row]
                for k in range(length):
                    into[k] = 0
        for one in range(count):
            for out in mine:
                for cell in range(cells):
                    share = gradient[one, cell, out]
                    if share != 0:
                        at = place[one, cell, out]
                        first, start = at // across, at % across * channels
                        for row in range(rows):
                            into = of_weight[out, row]
                            seen = padded[one, first + row, start : start + length]
                            for k in range(length):
                                into[k] += share * seen[k]

    signature = types.void(types.CPointer(types.voidptr))
    compiled = cfunc(signature, fastmath={"contract", "reassoc"})(work)

    def sums(most: int, sizes: Sequence[int], tensors: Sequence[Tensor]) -> None:
        numbers = (ctypes.c_int64 * len(sizes))(*sizes)
        data = (ctypes.c_void_p * (1 + len(tensors)))(
            ctypes.addressof(numbers), *(tensor.data_ptr() for tensor in tensors)
        )
        team(compiled.address, ctypes.addressof(data), most, 0)

    return sums
