"""A forward pass that halts before every block, so that several passes can go through a model side by side.

A torch forward cannot be suspended and resumed, so each pass has a thread of its own. The caller and the passes take turns and never compute
at the same time, like coroutines.
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
    """A call of `loss`, which starts and continues whenever `advance` is called."""

    def __init__(self, loss: Callable[[], Tensor | float]) -> None:
        self.value: Tensor | None = None
        """The value that `loss` returned; None until then."""
        self._turn, self._back = Semaphore(0), Semaphore(0)
        self._error: BaseException | None = None
        self._closed = self._ended = False
        self._thread = Thread(target=self._run, args=(loss,), name=THREAD, daemon=True)
        self._thread.start()

    def advance(self) -> None:
        """Continue the pass to the next block, or to its end. Raises what `loss` raises; does nothing after the end."""
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
        """Return the value of `loss`. Raises ValueError if the pass has halted again before a block that it had already passed."""
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
