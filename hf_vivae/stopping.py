"""A training that is told to end (SIGTERM, which schedulers and containers send) saves where it is, and ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import Trainer, TrainerCallback

from .flags import Terminated


@contextmanager
def saved_on_sigterm(trainer: Trainer) -> Iterator[None]:
    """Let SIGTERM end a training after the step under way, with a checkpoint of it; does nothing outside of the main
    thread, which alone hears signals.

    Args:
        trainer: its `train` is called inside.

    Raises:
        Terminated: where SIGTERM has come, once the checkpoint is there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _SaveAndLeave()
    before = signal.signal(signal.SIGTERM, stop.note)
    trainer.add_callback(stop)
    try:
        yield
    finally:
        trainer.remove_callback(stop)
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    if stop.noted:  # after the last step, which is saved as its epoch is
        raise _terminated(trainer.state.global_step)


class _SaveAndLeave(TrainerCallback):
    def __init__(self) -> None:
        self.noted = self._leaving = False
        self._group: torch.distributed.ProcessGroup | None = None

    def note(self, *args) -> None:
        self.noted = True

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if torch.distributed.is_initialized():
            self._group = torch.distributed.new_group(backend="gloo")  # on CPU, so that no step waits for a GPU

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._leaving = self._agreed()
        control.should_save = control.should_save or self._leaving

    def on_save(self, args, state, control, **kwargs) -> None:
        # not by control.should_training_stop, which the checkpoint would keep: a resumed run would end at once
        if self._leaving:
            raise _terminated(state.global_step)

    def _agreed(self) -> bool:
        """Whether any process was told to; the signal reaches them in different steps, and a checkpoint is of all."""
        if self._group is None:
            return self.noted
        noted = torch.tensor(int(self.noted))
        torch.distributed.all_reduce(noted, torch.distributed.ReduceOp.MAX, self._group)
        return bool(noted)


def _terminated(step: int) -> Terminated:
    return Terminated(f"ended by SIGTERM after step {step}; repeat the command, and the run goes on from there.")
