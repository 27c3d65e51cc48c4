"""A server that behaves like Toxiproxy 2.12, in a process of its own: the same HTTP API, the same eight toxics.

It accepts what the real server accepts, and survives what kills or wedges it.
"""
