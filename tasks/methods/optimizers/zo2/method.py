"""Functions of ZO2. Equations and the legend of symbols are in the card, `__init__.py`."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tasks.core.training import Group
from tasks.core.weights import surgery
from tasks.methods.optimizers import Optimizer, param_groups
from tasks.methods.optimizers._mezo import Mezo, Move, draw
from tasks.methods.optimizers.zo2.blocks import Block, Blocks, in_host_memory, on_disk
from tasks.methods.optimizers.zo2.config import Zo2Config
from tasks.methods.optimizers.zo2.passes import Pass

MB = 1_000_000
TRAVELLING = 3
"""Blocks in memory at a time so that none waits for another: one arrives, one computes, one leaves."""


class Zo2(Mezo):
    """MeZO whose two passes go through the blocks side by side, and whose step is applied during the next pass.

    Before `stream` is called, the whole model counts as outside of the blocks.
    """

    def __init__(self, groups: list[dict[str, Any]], config: Zo2Config, seed: int) -> None:
        super().__init__(groups, config.eps, config.directions, seed)
        self._resident_mb = config.resident_mb
        self._outside: Sequence[int] = range(len(self._tensors()))
        self._pending: Move | None = None
        self._running: Pass | None = None
        self.blocks = Blocks([], 1, torch.device("cpu"))

    def stream(self, model: nn.Module, device: str, folder: Path) -> None:
        """Move the blocks of `model` home, and the other weights to `device`.

        Home is a file in `folder` if the device is the CPU, else host memory. Raises ValueError if the memory for blocks is too small for one
        block, and OSError if the disk has no room.
        """
        at = torch.device(device)
        blocks = self._cut(model)
        room, staying = self._room(blocks)
        for block in blocks[staying:]:
            block.move_out(on_disk(block.tensors, folder) if at.type == "cpu" else in_host_memory(block.tensors))
        if at.type != "cpu":
            travelling = {id(tensor) for block in blocks[staying:] for tensor in block.tensors}
            for tensor in (*model.parameters(), *model.buffers()):
                if id(tensor) not in travelling:
                    tensor.data = tensor.data.to(at)
            plain: Any = surgery.plain(model)
            plain.hf_device_map = {"outside": device, "blocks": "host"}  # transformers and accelerate move nothing then
        self.blocks = Blocks(blocks, room, at)
        within = {place for block in blocks for place in block.places}
        self._outside = [place for place in range(len(self._tensors())) if place not in within]
        for block in blocks:
            block.module.register_forward_pre_hook(partial(self._enter, block))
            block.module.register_forward_hook(partial(self._exit, block), always_call=True)

    def settle(self) -> None:
        """Make the step that is still due."""
        move, self._pending = self._pending, None
        if move is None:
            return
        self.apply(move, self._outside)
        with closing(self.blocks.through()) as blocks:
            for block in blocks:
                self.apply(move, block.places)

    def _make(self, move: Move) -> None:
        self._pending = move

    def _both_sides(
        self, seed: int, frozen: Sequence[int], loss: Callable[[], Tensor | float]
    ) -> tuple[Tensor, Tensor]:
        due, self._pending = self._pending, None
        if due:
            self.apply(due, self._outside)
        self._perturb(seed, self._eps, self._outside, frozen)
        below = self._below(seed, frozen)
        plus, minus = Pass(loss), Pass(loss)

        def advance(*, at_minus: bool) -> None:
            """Continue a pass, with the weights outside of the blocks perturbed to the pass's side."""
            if at_minus:
                self._exchange(below)
            self._running = minus if at_minus else plus
            self._running.advance()
            self._running = None
            torch.clear_autocast_cache()  # weights that were cast for one side, and would stay in memory
            if at_minus:
                self._exchange(below)

        try:
            advance(at_minus=False)
            advance(at_minus=True)
            with closing(self.blocks.through()) as blocks:
                for block in blocks:
                    if due:
                        self.apply(due, block.places)
                    self._perturb(seed, self._eps, block.places, frozen)
                    advance(at_minus=False)
                    self._perturb(seed, -2 * self._eps, block.places, frozen)
                    advance(at_minus=True)
                    self._perturb(seed, self._eps, block.places, frozen)
            self._exchange(below)
            below.clear()
            self._perturb(seed, self._eps, self._outside, frozen)
            return plus.result(), minus.result()
        finally:
            self._running = None
            plus.close()
            minus.close()

    def _below(self, seed: int, frozen: Sequence[int]) -> dict[int, Tensor]:
        """Return theta - eps z for the weights outside of the blocks, by place, whose values are theta + eps z now. Reuses the memory of z."""
        tensors = self._tensors()
        below: dict[int, Tensor] = {}
        for place in self._outside:
            if place not in frozen:
                tensor = tensors[place][1].detach()
                z = draw(seed, place, tensor)
                below[place] = torch.add(tensor, z, alpha=-2 * self._eps, out=z)
        return below

    def _exchange(self, others: dict[int, Tensor]) -> None:
        """Swap the values of `others` with those of the tensors in the same places."""
        tensors = self._tensors()
        for place, other in others.items():
            tensor = tensors[place][1]
            tensor.data, others[place] = other, tensor.data

    def _cut(self, model: nn.Module) -> list[Block]:
        """Return the blocks of `model`. A tensor that two blocks share, or a block and a module outside, belongs to none of them."""
        layers = list(surgery.decoder_layers(model))
        inside = [{id(tensor): tensor for tensor in (*layer.parameters(), *layer.buffers())} for layer in layers]
        uses = Counter(key for tensors in inside for key in tensors)
        within = {module for layer in layers for module in layer.modules()}
        for module in model.modules():
            if module not in within:
                own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
                uses.update(id(tensor) for tensor in own)
        places = {id(tensor): place for place, (_, tensor) in enumerate(self._tensors())}
        blocks = []
        for layer, tensors in zip(layers, inside, strict=True):
            single = {key: tensor for key, tensor in tensors.items() if uses[key] == 1}
            blocks.append(Block(layer, [*single.values()], [*map(places.get, single)]))
        return blocks

    def _room(self, blocks: Sequence[Block]) -> tuple[int, int]:
        """Return the number of blocks that may be in memory in addition to those that stay, and the number that stay."""
        largest = max(block.nbytes for block in blocks)
        room = TRAVELLING if self._resident_mb is None else int(self._resident_mb * MB // largest)
        if room < 1:
            raise ValueError(
                f"methods.zo2.resident_mb is {self._resident_mb:g}, and the largest block of this model takes {largest / MB:g} MB: "
                "set at least that."
            )
        if room >= len(blocks):
            return room, len(blocks)
        return min(room, TRAVELLING), max(room - TRAVELLING, 0)

    def _enter(self, block: Block, *_: Any) -> None:
        """Halt, before a block's forward, the pass of a step; for any other pass load the block."""
        if self._running:
            self._running.halt()
        elif block.home:
            self.blocks.bring(block)

    def _exit(self, block: Block, *_: Any) -> None:
        """Move a block home after its forward, if it was loaded for that forward."""
        if not self._running and block.home:
            self.blocks.take_away(block, changed=False)


def make(groups: Sequence[Group], config: Zo2Config, seed: int) -> Zo2:
    """Return ZO2 over `groups`."""
    return Zo2(param_groups(groups, config.learning_rate, config.weight_decay), config, seed)


METHOD = Optimizer(make=make)
