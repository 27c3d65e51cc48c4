"""The regular review of an estate: what is there, what is wrong with it, and what has changed since the last one."""
