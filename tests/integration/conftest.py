"""The fixtures of this folder: whole processes."""

from __future__ import annotations

from whole_processes import finished_demo, stage, start_demo

__all__ = ["finished_demo", "stage", "start_demo"]
