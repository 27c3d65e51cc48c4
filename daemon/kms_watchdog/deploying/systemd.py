"""The watchdog as a unit of systemd: it tells when it is ready and that it lives, and can do nothing else here.

`WatchdogSec` is fed from what `/livez` goes by, never from AWS: a sick region must not restart who tells of it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from kms_watchdog.config import Settings
from kms_watchdog.configuring.document import Document
from kms_watchdog.configuring.environment import ESTATE_VARIABLE
from kms_watchdog.configuring.refusal import ConfigError
from kms_watchdog.deploying import container

INSTALLED = "/opt/kms-watchdog/bin"
"""The virtual environment's, as in the image."""
CONFIGURATION = "/etc/kms-watchdog"
WATCHDOG_SECONDS = 30
_STATE_ROOT = PurePosixPath("/var/lib")


def render(settings: Settings, document: Document) -> str:
    """Return the unit.

    Raises:
        ConfigError: the state folder is where systemd makes none.
    """
    estate = f'Environment="{ESTATE_VARIABLE}={document.estate}"\n' if document.estate else ""
    return _UNIT.format(
        name=settings.estate.name,
        installed=INSTALLED,
        configuration=CONFIGURATION,
        estate=estate,
        state=_state(settings),
        watchdog_seconds=WATCHDOG_SECONDS,
        stop_seconds=container.stop_seconds(settings),
    )


def _state(settings: Settings) -> str:
    """Return what systemd makes below /var/lib, and gives to the unit's user."""
    folder = PurePosixPath(Path(settings.state.dir))
    if folder == _STATE_ROOT or not folder.is_relative_to(_STATE_ROOT):
        raise ConfigError(f"state.dir: should be below {_STATE_ROOT}, where systemd makes it, not {folder}")
    return str(folder.relative_to(_STATE_ROOT))


_UNIT = """\
# The watchdog of the estate {name}. Rendered by kms-watchdog deploy render; changes belong into `systemctl edit`.
[Unit]
Description=KMS watchdog of {name}
Documentation=man:systemd.service(5)
Wants=network-online.target
After=network-online.target time-sync.target
# However often it fails, it is started again: a watchdog that gave up watches nothing.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={installed}/kms-watchdog run
ExecReload=/bin/kill -HUP $MAINPID
Environment="KMS_WATCHDOG_CONFIG={configuration}/watchdog.toml"
Environment=PYTHONUNBUFFERED=1
{estate}# Secrets and credentials: NAME=VALUE, of root alone (0600); the configuration takes them by ${{NAME}}.
EnvironmentFile=-{configuration}/environment
WatchdogSec={watchdog_seconds}
Restart=always
RestartSec=5
TimeoutStartSec=90
# A drill restores first; only the daemon is told, and it tells its drills.
TimeoutStopSec={stop_seconds}
KillMode=mixed
# What it holds in memory are data keys: no core file.
LimitCORE=0

DynamicUser=yes
StateDirectory={state}
StateDirectoryMode=0750
ConfigurationDirectory=kms-watchdog
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
MemoryMax=1G
TasksMax=512

[Install]
WantedBy=multi-user.target
"""
