"""The watchdog: canaries, health, metrics, status page and estate."""
