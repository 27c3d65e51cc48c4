"""What happened: kept by the daemon, read by `history` and `digest`, which need no running daemon."""
