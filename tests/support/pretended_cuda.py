"""A CUDA device that is pretended in a CPU build of torch: real values, the rules of a GPU, and every wait noticed.

torch's own FakeTensorMode has no values, so that nothing which looks at data can run under it. In a CPU build it cannot
even take a slice of a tensor on `cuda`, and it lets `.cpu()` pass. Here a tensor on `cuda` is one in the host's memory
that says so. The mode sees every operation: it refuses to mix devices, and it knows which operations wait for a device.
Tensors are dense. What it cannot show: speed, the order of sums, operations that CUDA has no kernel for, and waits
inside libraries other than those in `WAITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
DEVICES, MEMORY = 8, 80 << 30
# Operations whose kernels for CUDA copy a number or a size to the host, as `torch.cuda.set_sync_debug_mode` tells them
# on a GPU. The last two ask whether an iteration has converged.
WAITS = frozenset(
    (
        aten._local_scalar_dense,
        aten.is_nonzero,
        aten.equal,
        aten.nonzero,
        aten.masked_select,
        aten._unique2,
        aten.unique_dim,
        aten.unique_consecutive,
        aten.bincount,
        aten._linalg_check_errors,
        aten._linalg_svd,
        aten._linalg_eigh,
    )
)
INDEXING = frozenset((aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_))


class WaitsForDeviceError(AssertionError):
    """Work that must not wait for the device has done so."""


class PretendedTensor(Tensor):
    """A tensor on a pretended device: `values` in the host's memory, which it shares."""

    values: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, values: Tensor, place: torch.device) -> PretendedTensor:
        tensor = Tensor._make_subclass(cls, values)
        tensor.values, tensor.place = values, place
        return tensor

    @property
    def device(self) -> torch.device:
        return self.place

    @property
    def is_cuda(self) -> bool:
        return True

    def __repr__(self, **_options: Any) -> str:
        return f"{self.values!r} on {self.place}"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} of a tensor on a pretended device, outside of `pretended_cuda`")


TENSOR, TO, NUMPY, TOLIST, SET = torch.tensor, Tensor.to, Tensor.numpy, Tensor.tolist, Tensor.__setitem__


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    target, dtype = _place(device or tensor.device), dtype or tensor.dtype
    if tensor.device == target:
        return tensor if tensor.dtype == dtype else TO(tensor, dtype)
    return aten._to_copy.default(tensor, dtype=dtype, device=target)


def _cpu(tensor: Tensor) -> Tensor:
    return _to(tensor, CPU)


def _numpy(tensor: Tensor, **options: Any) -> Any:
    if tensor.device != CPU:
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy. Use Tensor.cpu() first")
    return NUMPY(tensor, **options)


def _tolist(tensor: Tensor) -> Any:
    return TOLIST(_cpu(tensor))


def _set(tensor: Tensor, at: Any, value: Any) -> None:
    """A number is written by a kernel; torch's C++, which takes the tensor for one on the host, would copy it."""
    if isinstance(tensor, PretendedTensor) and not isinstance(value, Tensor):
        if isinstance(at, Tensor) and at.dtype == torch.bool:
            tensor.masked_fill_(at, value)
            return
        value = torch.full((), value, dtype=tensor.dtype, device=tensor.device)
    SET(tensor, at, value)


def _tensor(values: Any, *, device: Any = CPU, **options: Any) -> Tensor:
    """On a GPU too it is made in the host's memory first, and copied."""
    return _to(TENSOR(values, **options), device)


# For torch's C++ a pretended device is the host; what it decides by the device is decided here.
METHODS = {"to": _to, "cpu": _cpu, "numpy": _numpy, "tolist": _tolist, "__setitem__": _set}


class PretendedGenerator(torch.Generator):
    """A generator for a pretended device. On which device it is, torch forgets."""

    def __new__(cls, _device: Any = CPU) -> PretendedGenerator:
        return super().__new__(cls, CPU)

    def __init__(self, _device: Any = CPU) -> None:
        pass


class PretendedCuda(TorchDispatchMode):
    """Runs every operation on the host and says on which device its result is.

    Attributes:
        waits: the operations so far that have waited for a device.
        allowed: those that may; None for all.
        recording: what is replayed, while a graph is captured.
    """

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # so that torch does not look for a driver

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # what skips it imports it first, which takes seconds

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.allowed: frozenset[str] | None = None
        self.recording: PretendedGraph | None = None

    @contextmanager
    def no_waits(self, *allowed: str) -> Iterator[None]:
        """Whatever waits for a device in this block, other than the operations of these names, raises."""
        before, self.allowed = self.allowed, frozenset(allowed)
        try:
            yield
        finally:
            self.allowed = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = list(_tensors((args, *kwargs.values())))
        places = {tensor.device for tensor in tensors if not _is_number(func, tensor)}
        target = _place(kwargs["device"]) if kwargs.get("device") is not None else _of_all(func, places or {CPU})
        if self._waits(func, args, kwargs, places | {target}):
            self._wait(func)
        if "device" in kwargs:
            kwargs["device"] = CPU
        wrappers = {id(leaf.values): leaf for leaf in tensors if isinstance(leaf, PretendedTensor)}
        args = _mapped(_values_of, args)
        kwargs = {name: _mapped(_values_of, value) for name, value in kwargs.items()}
        found = func(*args, **kwargs) if self.recording is None else self.recording.add(func, args, kwargs)
        return _mapped(lambda value: _on(target, value, wrappers), found)

    def _waits(self, func: Any, args: Any, kwargs: Any, places: set[torch.device]) -> bool:
        if not any(place.type == "cuda" for place in places):
            return False
        packet = func.overloadpacket
        if packet in INDEXING:
            masks = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
            return masks or len(places) > 1
        if packet is aten.repeat_interleave:
            return kwargs.get("output_size") is None
        return packet in WAITS or (packet in (aten._to_copy, aten.copy_) and len(places) > 1)

    def _wait(self, func: Any) -> None:
        name = func.overloadpacket.__name__
        self.waits.append(name)
        if self.recording is not None or (self.allowed is not None and name not in self.allowed):
            raise WaitsForDeviceError(f"{func} waits for the device")


class PretendedGraph:
    """Operations that were seen and not run, to be run again with the tensors that they had then."""

    def __init__(self) -> None:
        self._steps: list[tuple[Any, Any, Any, Any]] = []

    def add(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What would change a tensor is only noted; the results of the others are held, as a graph holds its memory."""
        if not func._schema.is_mutable:
            found = func(*args, **kwargs)
        else:
            named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
            changed = [named[a.name] for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
            found = changed[0] if func._schema.returns else None
        self._steps.append((func, args, kwargs, found))
        return found

    def replay(self) -> None:
        with no_dispatch():
            for func, args, kwargs, held in self._steps:
                again = func(*args, **kwargs)
                if not func._schema.is_mutable:
                    for old, new in zip(_tensors(held), _tensors(again), strict=True):
                        if old.data_ptr() != new.data_ptr():  # else it is a view of what has been overwritten
                            old.copy_(new)


class _Stream:
    def __init__(self, device: Any = None) -> None:
        pass

    def wait_stream(self, _stream: Any) -> None:
        pass


@contextmanager
def _capturing(graph: PretendedGraph) -> Iterator[None]:
    mode = _current()
    mode.recording = graph
    try:
        yield
    finally:
        mode.recording = None


@contextmanager
def _nothing(*_args: Any) -> Iterator[None]:
    yield


_running: list[PretendedCuda] = []


def _current() -> PretendedCuda:
    return _running[-1]


@contextmanager
def pretended_cuda() -> Iterator[PretendedCuda]:
    """In this block, on this thread, there are CUDA devices."""
    cuda: dict[str, Any] = {
        "is_available": lambda: True,
        "mem_get_info": lambda _device=None: (MEMORY, MEMORY),
        "max_memory_allocated": lambda _device=None: 0,
        "device_count": lambda: DEVICES,
        "synchronize": lambda _device=None: None,
        "current_stream": lambda _device=None: _Stream(),
        "stream": _nothing,
        "Stream": _Stream,
        "CUDAGraph": PretendedGraph,
        "graph": _capturing,
    }
    mode, threads = PretendedCuda(), torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are small
    _running.append(mode)
    try:
        with ExitStack() as stack:
            stack.enter_context(mock.patch.multiple(torch.cuda, **cuda))
            stack.enter_context(mock.patch.multiple(Tensor, **METHODS))
            stack.enter_context(mock.patch.multiple(torch, tensor=_tensor, Generator=PretendedGenerator))
            yield stack.enter_context(mode)
    finally:
        _running.pop()
        torch.set_num_threads(threads)


def _place(device: Any) -> torch.device:
    device = torch.device(device)
    return CUDA if device == torch.device("cuda") else device


def _is_number(func: Any, tensor: Tensor) -> bool:
    """A 0-dimensional tensor on the host is a number to operations that work number by number."""
    takes = torch.Tag.pointwise in func.tags or func.overloadpacket in (aten.fill_, aten.masked_fill, aten.masked_fill_)
    return tensor.dim() == 0 and tensor.device == CPU and takes


def _of_all(func: Any, places: set[torch.device]) -> torch.device:
    """The device of an operation: that of all its tensors."""
    if len(places) == 1:
        return next(iter(places))
    cuda = [place for place in places if place != CPU]
    if len(cuda) == 1 and func.overloadpacket in (aten.copy_, *INDEXING):
        return cuda[0]
    raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {sorted(map(str, places))}")


def _tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors in nested lists and tuples."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from _tensors(part)


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Nested lists and tuples with `function` of each leaf; torch's own pytree takes longer than an operation."""
    return type(tree)(_mapped(function, part) for part in tree) if type(tree) in (list, tuple) else function(tree)


def _values_of(leaf: Any) -> Any:
    return leaf.values if isinstance(leaf, PretendedTensor) else leaf


def _on(target: torch.device, value: Any, wrappers: dict[int, PretendedTensor]) -> Any:
    if not isinstance(value, Tensor):
        return value
    known = wrappers.get(id(value))
    if known is not None:
        if known.shape != value.shape:  # changed in place, as `squeeze_` does
            with no_dispatch():
                known.as_strided_(value.size(), value.stride(), value.storage_offset())
        return known
    return value if target == CPU else PretendedTensor(value, target)
