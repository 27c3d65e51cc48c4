"""Where evidence of drills is kept besides the state folder: written by the drill engine, read by every daemon."""
