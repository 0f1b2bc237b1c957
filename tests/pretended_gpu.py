"""A pretended CUDA device, so that code made for a GPU runs, with values, where there is none.

torch's FakeTensorMode says of every operation on which device its result lies, and refuses those that mix devices; it
knows shapes alone. So each tensor of the pretended device keeps its values in a tensor on the CPU, on which the same
operation is done: conditions, masks and indices that depend on values take the way that they take on a GPU. The places
in the package where they do so, for which the host waits for the device, are recorded by name.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Set

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

if not hasattr(torch, "get_autocast_dtype"):
    pytest.skip("needs torch 2.4 or newer installed", allow_module_level=True)

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")
_parse_to: Any = vars(torch._C)["_nn"]._parse_to
HIDDEN = torch.device("lazy", 0)
"""By which torch's C++ side knows the pretended device: a kind that nothing uses, and whose gradients are computed in
the calling thread. Those of CUDA have threads of their own, which there are only with a driver."""
PACKAGE = "fewshot_ns."
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")


_REDUCED = {
    torch.nn.functional.linear,
    torch.nn.functional.scaled_dot_product_attention,
    *(torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose2d, torch.nn.functional.conv2d),
    *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm),
}
"""What autocast does in fewer bits on CUDA..."""
_WHOLE = {
    *(torch.nn.functional.layer_norm, torch.nn.functional.group_norm, torch.nn.functional.softplus),
    *(torch.nn.functional.softmax, torch.softmax, torch.exp, torch.pow, torch.sum, torch.cumsum, torch.norm),
    *(Tensor.softmax, Tensor.exp, Tensor.pow, Tensor.__pow__, Tensor.sum, Tensor.cumsum, Tensor.norm),
}
"""...and in float32."""


class DeviceFault(RuntimeError):
    """What a GPU would refuse, and FakeTensorMode does not know of."""


class PretendedTensor(Tensor):
    """A tensor on the pretended device."""

    value: Tensor
    """The same on the CPU."""
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: Any, value: Tensor) -> PretendedTensor:  # noqa: D102
        # Sparse ones have no strides; their values have the layout.
        strides: Any = (value.stride(), value.storage_offset()) if value.layout == torch.strided else ()
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, value.size(), *strides, dtype=value.dtype, device=HIDDEN
        )
        made.value = value
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise DeviceFault(f"{func}: a tensor of the pretended device outside of it")

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def get_device(self) -> int:
        return 0

    def to(self, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """Itself where nothing changes, as torch has it."""
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, _, _ = _parse_to(*args, **{k: v for k, v in kwargs.items() if k != "copy"})
        if not kwargs.get("copy") and (device or CUDA).type == "cuda" and (dtype or self.dtype) == self.dtype:
            return self
        return super().to(*args, **kwargs)

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or CUDA, requires_grad=requires_grad)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Checkpoints hold the values."""
        return self.value.__reduce_ex__(protocol)

    def tolist(self) -> Any:  # type: ignore[override]
        return self.detach().cpu().tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        raise DeviceFault("can't convert a CUDA tensor to numpy; use Tensor.cpu() first")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return self.numpy()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def __repr__(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        return f"PretendedTensor({tuple(self.shape)}, {self.dtype})"


class _Autocast(TorchFunctionMode):
    """What autocast does to tensors of CUDA, which C++ does not take those of the pretended device for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.backward:
            return self._backward(*args, **kwargs)
        if torch.is_autocast_enabled("cuda") and (func in _REDUCED or func in _WHOLE):
            few = torch.get_autocast_dtype("cuda")
            old, new = (torch.float32, few) if func in _REDUCED else (few, torch.float32)
            args, kwargs = tree_map(lambda value: _cast(value, old, new), (args, kwargs))
        return func(*args, **kwargs)

    def _backward(
        self,
        loss: Tensor,
        gradient: Any = None,
        retain_graph: Any = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """torch's own, with the mode on for what checkpointing computes anew in there."""
        given = torch.ones_like(loss) if gradient is None else gradient
        kept = create_graph if retain_graph is None else retain_graph
        with self:
            torch.autograd.Variable._execution_engine.run_backward(
                (loss,), (given,), kept, create_graph, tuple(inputs or ()), allow_unreachable=True, accumulate_grad=True
            )


def _cast(value: Any, old: torch.dtype, new: torch.dtype) -> Any:
    return value.to(new) if isinstance(value, PretendedTensor) and value.dtype == old else value


class _Pretence(TorchDispatchMode):
    """Does every operation twice: fake, for its device, and on the values."""

    def __init__(self, fakes: FakeTensorMode) -> None:
        super().__init__()
        self.fakes = fakes
        self.places: Dict[str, Set[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        if not any(isinstance(value, PretendedTensor) for value in tensors) and not _asks_for_cuda(kwargs):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        device = self._device(func, args, kwargs, tensors)
        _check(func, args, kwargs, device)
        with unset_fake_temporarily():
            found = func(*tree_map(_value, args), **tree_map(_value, kwargs))
        mine = {id(_value(value)): value for value in tensors}
        return tree_map(lambda out: _given(out, device, mine), found)

    def _device(self, func: Any, args: Any, kwargs: Any, tensors: List[Tensor]) -> torch.device:
        """Where the result lies; FakeTensorMode raises where devices are mixed."""
        kwargs = {name: CUDA if _is_cuda(value) else value for name, value in kwargs.items()}
        if "sparse" in func._schema.name or any(_value(value).layout != torch.strided for value in tensors):
            # Which FakeTensorMode has no rules for.
            return _common_device(func, tensors)
        try:
            with self.fakes:
                found = func(*tree_map(self._fake, args), **tree_map(self._fake, kwargs))
        except (DataDependentOutputException, DynamicOutputShapeException):
            self._note(func)
            indexes = func._schema.name.removeprefix("aten::") in _INDEXING
            return tensors[0].device if indexes else _common_device(func, tensors)
        fakes = [value for value in _tensors(found) if isinstance(value, FakeTensor)]
        return fakes[0].fake_device if fakes else CPU

    def _note(self, func: Any) -> None:
        """Notes an operation that depends on values by the place in the package that it comes from."""
        frame = sys._getframe(2)
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            # Comprehensions are functions of their own in some Pythons.
            if module.startswith(PACKAGE) and not frame.f_code.co_name.startswith("<"):
                place = f"{module.removeprefix(PACKAGE)}:{frame.f_code.co_name}"
                self.places.setdefault(place, set()).add(func._schema.name.removeprefix("aten::"))
                return
            frame = frame.f_back

    def _fake(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        made = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
        return FakeTensor(self.fakes, made, value.device)


def _common_device(func: Any, tensors: List[Tensor]) -> torch.device:
    found = {value.device for value in tensors if value.dim() > 0} or {tensors[0].device}
    if len(found) > 1:
        raise DeviceFault(f"{func}: expected tensors of one device, found {sorted(map(str, found))}")
    return found.pop()


def _check(func: Any, args: Any, kwargs: Any, device: torch.device) -> None:
    """Refuses what a GPU refuses and FakeTensorMode does not."""
    generator = next((v for v in (*args, *kwargs.values()) if isinstance(v, torch.Generator)), None)
    if generator is not None and generator.device.type != device.type:
        raise DeviceFault(f"{func}: expected a '{device.type}' generator, found '{generator.device.type}'")
    if func._schema.name.removeprefix("aten::") in _INDEXING and args[0].device.type == "cpu":
        if any(isinstance(value, PretendedTensor) for value in args[1] if value is not None):
            raise DeviceFault(f"{func}: indices have to be on the CPU, as what they index")


def _tensors(values: Any) -> List[Tensor]:
    found: List[Tensor] = []
    tree_map(lambda value: found.append(value) if isinstance(value, Tensor) else None, values)
    return found


def _is_cuda(value: Any) -> bool:
    # `to` of another tensor asks for the device by which C++ knows that one.
    return isinstance(value, torch.device) and value.type in ("cuda", HIDDEN.type)


def _asks_for_cuda(kwargs: Dict[str, Any]) -> bool:
    return any(_is_cuda(value) for value in kwargs.values())


def _value(value: Any) -> Any:
    if isinstance(value, PretendedTensor):
        return value.value
    return CPU if _is_cuda(value) else value


def _given(out: Any, device: torch.device, mine: Dict[int, Tensor]) -> Any:
    """What an operation returns for what it gave on the values: an argument itself where it was changed in place."""
    if not isinstance(out, Tensor):
        return out
    known = mine.get(id(out))
    if known is not None and known.device.type == device.type:
        return known
    return PretendedTensor(out) if device.type == "cuda" else out


@contextmanager
def pretended_gpu() -> Iterator[Dict[str, Set[str]]]:
    """A device "cuda" inside; gives the places in the package that wait for it, `module:function` -> operations."""
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    load = torch.load

    def loaded(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        # Inside of a FakeTensorMode torch loads shapes alone.
        with unset_fake_temporarily():
            found = load(file, map_location="cpu", **kwargs)
        on_gpu = map_location is not None and torch.device(map_location).type == "cuda"
        return tree_map(lambda value: value.to(CUDA) if on_gpu and isinstance(value, Tensor) else value, found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", loaded)
        patch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *args: True)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        with fakes, _Pretence(fakes) as pretence, _Autocast():
            yield pretence.places
