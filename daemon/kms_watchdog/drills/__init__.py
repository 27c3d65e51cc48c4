"""The border between the daemon and a drill: files under `STATE/drills/<run_id>/` (DESIGN §2).

Here are their types, schema numbers and readers. The writers are in `kms_chaos`.
"""
