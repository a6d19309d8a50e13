"""How many processes train together, on which devices, and by which of Lightning's strategies."""

import os
from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from emodet.errors import EmodetError
from emodet.training.starting import Started, started_by

__all__ = ["on_devices"]

_STRATEGIES = ("auto", "ddp")
# torch 2.14 has a new name for it.
_SYNCS_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel.__init__).parameters
)


def on_devices(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """`TrainerConfig`'s values as `lightning.Trainer` takes them: devices and nodes counted, and how they train.

    ``devices: auto`` is what torchrun or srun started, else every GPU, else one process.

    Raises:
        EmodetError: There are fewer devices, other processes were started than are wanted, or a value is not known.
    """
    arguments = dict(trainer)
    strategy = arguments.pop("strategy", "auto")
    if strategy not in _STRATEGIES:
        raise EmodetError(
            f"trainer.strategy={strategy}: there are {', '.join(_STRATEGIES)}. Strategies that cut up a net are for "
            "nets that no single device holds"
        )
    started = started_by()
    gpus = _gpus(arguments.get("accelerator", "auto"))
    devices = arguments.get("devices", "auto")
    every = devices in ("auto", -1, "-1")
    if every:
        devices = started.per_node if started else max(1, gpus or 1)
    nodes = arguments.get("num_nodes", started.nodes if started else 1)
    per_node = _count(devices)
    _require_that_many(devices, per_node, nodes, started)
    _require_devices(devices, per_node, gpus, started)
    arguments.update(devices=devices, num_nodes=nodes)
    if per_node * nodes > 1:
        if arguments.get("sync_batchnorm") and gpus is None:
            raise EmodetError("trainer.sync_batchnorm=true: torch synchronises batch norm on GPUs only")
        # Batch norm's running averages are the first process's; they are passed on before they are used, see
        # `EmotionClassifier.on_validation_epoch_start`, and not with each batch.
        buffers: dict[str, Any] = {_SYNCS_BUFFERS: False}
        arguments["strategy"] = DDPStrategy(**buffers)
    arguments["plugins"] = [_environment(started)]
    return arguments


def _environment(started: Started | None) -> ClusterEnvironment:
    if started is None:
        return LightningEnvironment()
    # Signals and the queue are `emodet.training.interruption`'s, of which Lightning has handlers of its own.
    return TorchElasticEnvironment() if started.by == "torchrun" else SLURMEnvironment(auto_requeue=False)


def _gpus(accelerator: str) -> int | None:
    """How many GPUs this process sees; None where it does not train on CUDA GPUs."""
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        # With accelerator=gpu on a machine without one it is Lightning that says so.
        return torch.cuda.device_count() if torch.cuda.is_available() else None
    return None


def _count(devices: Any) -> int:
    if isinstance(devices, list):
        return len(devices)
    try:
        number = int(devices)
    except (TypeError, ValueError):
        return len([part for part in str(devices).split(",") if part.strip()])
    if number < 1:
        raise EmodetError(f"trainer.devices={devices}: a number from 1, a list such as [0,2], or auto was expected")
    return number


def _require_that_many(devices: Any, per_node: int, nodes: int, started: Started | None) -> None:
    if started is None:
        if nodes > 1:
            raise EmodetError(
                f"trainer.num_nodes={nodes}: nobody starts the processes of the other nodes. Start the command with "
                "torchrun on each node, or with srun in a SLURM job (README, More than one process)"
            )
        return
    for key, wanted, given in (("devices", per_node, started.per_node), ("num_nodes", nodes, started.nodes)):
        if wanted != given:
            where = "processes on each node" if key == "devices" else "nodes"
            raise EmodetError(
                f"trainer.{key}={devices if key == 'devices' else nodes}, but {started.by} started {given} {where}: "
                f"use trainer=ddp, which takes what was started, or trainer.{key}={given}"
            )


def _require_devices(devices: Any, per_node: int, gpus: int | None, started: Started | None) -> None:
    if gpus is not None:
        highest = max((int(number) for number in devices), default=0) + 1 if isinstance(devices, list) else per_node
        if highest > gpus:
            bound = started is not None and started.by == "srun" and gpus == 1
            way_out = (
                "each task sees only its own: ask for them with --gres=gpu:N or --gpus-per-node=N, without "
                "--gpus-per-task and --gpu-bind"
                if bound
                else f"at most trainer.devices={gpus}"
            )
            raise EmodetError(f"trainer.devices={devices}: this process sees {gpus} GPU(s); {way_out}")
    elif started is None and per_node > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if per_node > cores:
            raise EmodetError(
                f"trainer.devices={devices}: without a GPU a device is a process on the CPU, and this machine has "
                f"{cores} core(s); at most trainer.devices={cores}"
            )
