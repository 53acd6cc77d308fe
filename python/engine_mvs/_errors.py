"""Exceptions. Each says in one line where, what was found, what was expected and what to do."""

from __future__ import annotations

__all__ = [
    "DeviceError",
    "EngineError",
    "FileError",
    "InputError",
    "MemoryNeedError",
    "NothingError",
]


class EngineError(RuntimeError):
    """Something that the engine cannot do; the text is that of the program ``engine``.

    Attributes:
        exit_code: the exit code that the program ends with for such an error.

    >>> EngineError("photo 3: 2 x 0 pixels; expected sides of 1 to 65536 pixels", 3).exit_code
    3
    """

    exit_code: int

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class InputError(EngineError, ValueError):
    """An argument, an array or a file that does not hold what it should (exit codes 1 and 3)."""


class FileError(EngineError, OSError):
    """The system refused to read or write (exit code 4)."""


class MemoryNeedError(EngineError, MemoryError):
    """The work would not fit in memory; the text names what would make it fit (exit code 5)."""


class NothingError(EngineError):
    """The work was done, but gave nothing: no view could be used, no pixel became a point (exit code 6)."""


class DeviceError(EngineError):
    """A GPU or its driver refused (exit code 8)."""
