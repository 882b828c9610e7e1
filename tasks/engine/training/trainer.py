"""The engine's `transformers.Trainer`: it trains on packs, saves only trained tensors, and steps with or without gradients."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from tasks.core.compute import Compute
from tasks.core.training import Training
from tasks.engine import device
from tasks.engine.training import fsdp
from tasks.engine.training.batches import Batches, PackDataset
from tasks.engine.training.checkpointing import KEPT, WEIGHTS
from tasks.engine.training.compose import Attached


class PackTrainer(Trainer):
    """A Trainer whose checkpoints hold only the trained and kept tensors, and which can step without a gradient."""

    def __init__(
        self,
        attached: Attached,
        batches: Batches,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        arguments: TrainingArguments,
        callbacks: list[TrainerCallback],
        *,
        gradient_free: bool,
        floor: float,
        settle: Callable[[], None],
        objective_state: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Set up Trainer.

        A step whose loss is below `floor` is left out. `settle` makes a step that is still due. `objective_state` returns the tensors that the
        objective's loss receives in every forward pass.
        """
        with _known_to_train(attached.model):
            super().__init__(
                model=attached.model,
                args=arguments,
                train_dataset=PackDataset(batches),
                data_collator=_first,
                callbacks=callbacks,
            )
        self.remove_callback(PrinterCallback)
        self.optimizer, self.lr_scheduler = optimizer, scheduler  # under FSDP, Trainer refuses them as arguments
        self._trainable, self._kept, self._floor = attached.trainable, attached.kept, floor
        self._estimate: Callable[[Callable[[], Tensor]], Tensor] | None = None
        if gradient_free:
            self._estimate = optimizer.estimate  # type: ignore[attr-defined]
        self._settle, self._objective_state = settle, objective_state

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        if self._floor:
            return self._step_above_floor(model, inputs, num_items_in_batch)
        if self._estimate is None:
            return super().training_step(model, inputs, num_items_in_batch)
        row = self._prepare_inputs(inputs)

        def loss() -> Tensor:
            # Autocast caches cast weights until its context ends, and here weights change between two calls.
            with self.compute_loss_context_manager():
                return self.compute_loss(model, row, num_items_in_batch=num_items_in_batch)

        model.eval()
        with torch.no_grad():
            return self._estimate(loss)

    def _step_above_floor(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items: Tensor | int | None
    ) -> Tensor:
        """Return the loss of the step's only pack, and run the backward pass if the loss is not below the floor.

        Without a backward pass, gradients are None and the optimizer skips the parameters; zero gradients would still move them.
        """
        model.train()
        row = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss: Tensor = self.compute_loss(model, row, num_items_in_batch=num_items)
        if loss.item() >= self._floor:
            self.accelerator.backward(loss)
        return loss.detach()

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return super()._prepare_inputs(inputs | {"objective_state": self._objective_state()})

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        self._settle()
        if not self.args.should_save:
            return
        tensors = self._trainable if state_dict is None else state_dict
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensors[name].detach().contiguous() for name in self._trainable}, folder / WEIGHTS)
        if self._kept:
            save_file({name: tensor.contiguous() for name, tensor in self._kept.items()}, folder / KEPT)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = fsdp.optimizer_state(self.optimizer, keep=self.args.should_save)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        read = partial(torch.load, map_location="cpu", weights_only=True, mmap=True)
        fsdp.load_optimizer_state(self.optimizer, read(Path(checkpoint) / OPTIMIZER_NAME))
        self.lr_scheduler.load_state_dict(read(Path(checkpoint) / SCHEDULER_NAME))

    @torch.no_grad()
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        tensors = {**self._trainable, **self._kept}
        if self.is_fsdp_enabled:  # `attached` holds whole tensors, while the model is sharded by now
            parameters = dict(self.model.named_parameters(remove_duplicate=False))
            tensors |= {name: parameters[name] for name in tensors.keys() & parameters.keys()}
        saved = load_file(folder / WEIGHTS) | (load_file(folder / KEPT) if (folder / KEPT).is_file() else {})
        if unmatched := sorted(saved.keys() ^ tensors.keys()):
            difference = f"{unmatched[0]} is on one side alone"
        elif unmatched := sorted(name for name in saved if saved[name].shape != tensors[name].shape):
            difference = f"{unmatched[0]} is {_size(saved[unmatched[0]])} there, and {_size(tensors[unmatched[0]])} now"
        else:
            difference = ""
        if difference:
            raise ValueError(
                f"{folder} holds other weights than train now ({difference}): another choice of weights was made. "
                f"Remove {folder.parent} to begin anew."
            )
        for name, tensor in saved.items():
            tensors[name].copy_(fsdp.sharded(tensor, tensors[name]))


@contextmanager
def _known_to_train(model: Any) -> Iterator[None]:
    """Make Trainer accept a quantised model with an adapter that is not peft's, by setting the attribute that it checks.

    `compose.check` has checked the adapter. The attribute is removed at the end, since transformers would look for peft's config otherwise.
    """
    model._hf_peft_config_loaded = True
    try:
        yield
    finally:
        del model._hf_peft_config_loaded


def training_arguments(
    config: Training, compute: Compute, *, steps: int, work: Path, gradient_free: bool
) -> TrainingArguments:
    """Return Trainer's arguments for a training of `steps` steps with its checkpoints in `work`."""
    arguments = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=1,  # an item is a pack
        gradient_accumulation_steps=config.accumulation,
        max_steps=steps,
        max_grad_norm=0.0 if gradient_free else config.clip,
        bf16=device.precision(compute) == "bf16",
        fsdp=compute.fsdp,
        use_cpu=compute.device == "cpu",
        seed=config.seed,
        data_seed=config.seed,
        dataloader_num_workers=config.workers,
        train_sampling_strategy="sequential",  # the packs are already shuffled, epoch by epoch
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not finite must be visible
        save_strategy="steps" if config.save_every else "no",
        save_steps=config.save_every or 1,
        save_total_limit=2,
        ignore_data_skip=False,
        report_to=[],
        disable_tqdm=True,
    )
    # With several GPUs, Trainer would split each pack among them by DataParallel. Here processes share a training instead.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _size(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def _first(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the only row, which is a batch already."""
    (row,) = rows
    return row
