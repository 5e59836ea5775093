"""A network whose weights, gradients and optimiser states are shared out among the processes of a training.

Fully sharded data parallel (FSDP2 of PyTorch, through Fabric's `ModelParallelStrategy`): each process holds a
part of every weight, and puts a unit of the network together only while that computes. What is kept of a
training is whole, as if one process had trained.

Paper: Zhao et al., PyTorch FSDP: experiences on scaling fully sharded data parallel, VLDB 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from osr.devices import make_fabric, num_processes
from osr.errors import InputError
from osr.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

UNIT = 1_000_000  # weights that are worth an exchange of their own


def fabric_of(settings: TrainSettings) -> Fabric:
    """The devices, their sharing and the precision that the settings ask for."""
    strategy: str | ModelParallelStrategy = settings.strategy
    if strategy == "fsdp":
        processes = num_processes(settings.accelerator, settings.devices, settings.num_nodes)
        strategy = ModelParallelStrategy(_shard_step, data_parallel_size=processes, tensor_parallel_size=1)
    return make_fabric(
        settings.accelerator,
        precision=settings.precision,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=strategy,
    )


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Keep a part of each weight alone, in place.

    Units are elements of `nn.Sequential` and `nn.ModuleList`, such as the blocks of a transformer, with at
    least `UNIT` weights that lie in no smaller unit. The rest goes with the model, whose own weights stay
    together from the forward pass until the gradients are there, for the losses that use the head.

    Raises:
        InputError: a weight cannot be shared out.
    """
    told = "train.strategy is 'fsdp', but this network cannot be shared out"
    for name, parameter in model.named_parameters():
        if not parameter.is_contiguous():
            raise InputError(f"{told}: the numbers of its weight {name} do not lie in their usual order.")
    try:
        for unit in _units(model):
            fully_shard(unit, mesh=mesh)
        fully_shard(model, mesh=mesh, reshard_after_forward=False)
    except ValueError as error:
        raise InputError(f"{told}: {error}") from error


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` had it."""
    return isinstance(model, FSDPModule)


def whole(value: Any, *, keep: bool = True) -> Any:
    """A state dict with whole tensors in place of shared ones; all processes must call it.

    Args:
        value: state dicts, lists and tensors in each other.
        keep: False takes part and has None in place of what was shared: other processes keep it.
    """
    if isinstance(value, DTensor):
        gathered: Tensor = value.full_tensor()
        return gathered.detach().cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: whole(item, keep=keep) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item, keep=keep) for item in value]
    return value


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor; the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shared_state(part: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """What `whole` gave of the state of a module or optimiser, shared out as it is.

    Args:
        part: has a `state_dict`.
        state: of whole tensors.
    """
    if not isinstance(part, Optimizer):
        like = part.state_dict()
        return {name: _as(like.get(name), value) for name, value in state.items()}
    parameters = [parameter for group in part.param_groups for parameter in group["params"]]
    moments = {
        number: {name: _as(parameters[number], value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": moments}


def clip_gradients(parameters: Iterable[Tensor], *, max_norm: float) -> None:
    """Shorten the gradient of all parameters together, in place, shared or not, to `max_norm` at most."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    shared = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    alone = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    squares = torch.stack([part.square().sum() for part in shared]).sum()
    torch.distributed.all_reduce(squares)
    norm = torch.stack([squares, *(part.square().sum() for part in alone)]).sum().sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
    for part in (*shared, *alone):
        part.mul_(factor)


def share_gradients(module: nn.Module) -> None:
    """The mean over processes of the gradients of a module that each holds as a whole."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()


@contextmanager
def together(*models: nn.Module) -> Iterator[None]:
    """Have the weights whole that lie in no unit, for whoever uses them beside the forward pass."""
    shared = [model for model in models if isinstance(model, FSDPModule)]
    for model in shared:
        model.unshard()
    yield
    for model in shared:
        model.reshard()


def _shard_step(step: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """The network of a `Step`; a loss has few parameters, and each process all of them."""
    shard(step.get_submodule("model"), mesh["data_parallel"])
    return step


def _units(model: nn.Module) -> list[nn.Module]:
    """Inner ones first, as `fully_shard` wants them."""
    units: list[nn.Module] = []

    def rest(module: nn.Module, *, is_element: bool) -> int:
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        in_sequence = isinstance(module, nn.Sequential | nn.ModuleList)
        own += sum(rest(child, is_element=in_sequence) for child in module.children())
        if not is_element or own < UNIT or isinstance(module, nn.ModuleList | nn.ModuleDict):
            return own
        units.append(module)
        return 0

    rest(model, is_element=False)
    return units


def _as(like: Any, value: Any) -> Any:
    """A value shared out as `like`, where that is a shared tensor of its shape."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    mesh = like.device_mesh
    placed = distribute_tensor(value.to(mesh.device_type), mesh, like.placements, src_data_rank=None)
    return placed.clone()  # no view of the whole
