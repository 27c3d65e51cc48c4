"""Evidence that outlives the machine and shows tampering: chain of drills, signature, store, and its verification.

Files and their formats are in docs/evidence-format.md.
"""
