"""Where results go: metrics, log, history, health; each takes them by itself."""
