"""One family of exceptions: catch `InternlmError` to catch everything this package raises.

A message says what was wrong, where (file, line, key, record id), and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "InferError",
    "InternalError",
    "InternlmError",
    "KernelError",
    "MissingExtraError",
    "ModelError",
    "TokenizerError",
    "TrainError",
]


class InternlmError(Exception):
    """Base of every error raised on purpose by this package."""


class ConfigError(InternlmError):
    """A preset, file or `--set` override holds an unknown key or an impossible value."""


class DataError(InternlmError):
    """A corpus, record file or run folder can't be used as it is."""


class TokenizerError(InternlmError):
    """A vocabulary file is contradictory, unsupported or does not fit the ids it is given."""


class ModelError(InternlmError):
    """A model configuration or weight file can't be used as it is."""


class KernelError(InternlmError):
    """A kernel was given tensors it does not support."""


class CheckpointError(InternlmError):
    """A checkpoint is missing, incomplete or altered."""


class TrainError(InternlmError):
    """Training can't start or go on."""


class InferError(InternlmError):
    """A generation or scoring request can't be served."""


class MissingExtraError(InternlmError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class InternalError(InternlmError):
    """A fault of this package itself: please report it."""
