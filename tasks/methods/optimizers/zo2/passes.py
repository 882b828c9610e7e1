"""A forward pass that halts before every block, so that several can go through a model side by side.

A function of torch cannot be left and entered again, so a pass has a thread of its own. The caller and the passes take turns, and never
do two of them compute: it is a coroutine.
"""

from collections.abc import Callable
from threading import Semaphore, Thread

import torch
from torch import Tensor

THREAD = "zo2-pass"
"""The name of every pass's thread."""


class Closed(BaseException):
    """Ends a pass that is not needed any more."""


class Pass:
    """A call of `loss`, which begins and goes on when `advance` is called."""

    def __init__(self, loss: Callable[[], Tensor | float]) -> None:
        self.value: Tensor | None = None
        """What `loss` returned; None until then."""
        self._turn, self._back = Semaphore(0), Semaphore(0)
        self._error: BaseException | None = None
        self._closed = self._ended = False
        self._thread = Thread(target=self._run, args=(loss,), name=THREAD, daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """Let the pass go on to the next block, or to its end. Raises what `loss` raises; does nothing at the end."""
        if self._ended:
            return
        self._turn.release()
        self._back.acquire()
        if self._error:
            raise self._error

    def halt(self) -> None:
        """Wait for the next turn. Called on the pass's own thread."""
        self._back.release()
        self._turn.acquire()
        if self._closed:
            raise Closed

    def result(self) -> Tensor:
        """Return what `loss` returned. Raises ValueError if the pass has halted once more, before a block that it had been through."""
        if self.value is None:
            raise ValueError("The model runs a block more than once per pass, and zo2 loads it only once.")
        return self.value

    def close(self) -> None:
        """End the pass where it is."""
        if not self._ended:
            self._closed = True
            self._turn.release()
        self._thread.join()

    def _run(self, loss: Callable[[], Tensor | float]) -> None:
        self._turn.acquire()
        try:
            if not self._closed:
                with torch.no_grad():  # a setting of each thread
                    self.value = torch.as_tensor(loss())
        except Closed:
            pass
        except BaseException as error:
            self._error = error
        self._ended = True
        self._back.release()
