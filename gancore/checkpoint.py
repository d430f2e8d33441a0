"""Files of a run, written so that a crash, a kill or a full disk leaves the previous ones whole."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gancore.core import DataError, GancoreError


class OutputError(GancoreError, OSError):
    """The run's folder cannot be written: permissions, a full disk, a file in the way."""


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and move it into place. Raises OutputError."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError) as error:
        # torch.save hides a failed write behind a RuntimeError about positions in its file.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause).splitlines()[0]
        raise OutputError(f"cannot write {path}: {reason}") from error


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors, numbers and strings. Raises OutputError; the previous one then stays."""
    write_atomic(path, lambda file: torch.save(state, file))


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running code from it. Raises DataError where it is missing or damaged."""
    if not path.is_file():
        raise DataError(f"there is no checkpoint {path}")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise DataError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
