"""The fixtures of this folder."""

from __future__ import annotations

from daemon_kit import clock, cloud, cloud_here, core, estate, new_drill, settings, write_config

__all__ = ["clock", "cloud", "cloud_here", "core", "estate", "new_drill", "settings", "write_config"]
