"""The subcommands of `kms-watchdog`, one a file, loaded when they are called."""
