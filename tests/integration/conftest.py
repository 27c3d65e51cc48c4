"""The fixtures of this folder: whole processes."""

from __future__ import annotations

from alarm_path import put_up
from daemon_kit import cloud
from whole_processes import finished_demo, stage, start_demo

__all__ = ["cloud", "finished_demo", "put_up", "stage", "start_demo"]
