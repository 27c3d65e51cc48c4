"""A game day over a local AWS: a region is lost under the example application, and each step is held to its promise.

`kms-local game-day` starts what production has (application, load, watchdog, alarms, Prometheus and Alertmanager where
they are installed), loses a region through Toxiproxy, follows the runbook of the alarm that pages, gives the region
back, and judges from what was written down meanwhile. Nothing in the product knows of it.
"""
