"""The fixtures of this folder: whole processes."""

from __future__ import annotations

from whole_processes import stage

__all__ = ["stage"]
