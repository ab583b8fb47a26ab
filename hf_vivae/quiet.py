"""Messages that a library of C prints to the terminal by itself, kept from it."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class QuietC:
    """The `stderr` of C code, which is the null device while at least one thread is within `messages_off`.

    libsndfile gives no way to set the quiet flag of its MP3 decoder, which prints a line or two for each damaged file.
    The manual of the GNU C library calls `stderr` a variable that programs may set. So the variable is set, and file
    descriptor 2 is not redirected: Python writes to the descriptor, so that warnings, progress bars and tracebacks of
    other threads still arrive. What other C code prints in the same moments is lost. Where the C library is another,
    `stderr` may be a constant, and the messages stay.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._variable: ctypes.c_void_p | None = None
        if platform.libc_ver()[0] == "glibc":
            library = ctypes.CDLL(None)
            library.fopen.restype = ctypes.c_void_p
            self._variable = ctypes.c_void_p.in_dll(library, "stderr")
            self._terminal, self._null = self._variable.value, library.fopen(b"/dev/null", b"we")
            if not self._null:
                self._variable = None
        if hasattr(os, "register_at_fork"):  # a fork has one thread, and none of those that are within
            os.register_at_fork(after_in_child=self._begin_again)

    @contextmanager
    def messages_off(self) -> Iterator[None]:
        """Keep C's messages from the terminal, in any number of threads at once."""
        if self._variable is None:
            yield
            return
        with self._lock:
            self._inside += 1
            self._variable.value = self._null
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._variable.value = self._terminal

    def _begin_again(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        if self._variable is not None:
            self._variable.value = self._terminal
