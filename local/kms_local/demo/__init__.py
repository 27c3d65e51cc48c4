"""`kms-local demo`: the whole product over three local regions, through a drill, to a verdict.

It only starts what a person would start by hand, with the same commands; nothing in the product knows of it.
"""

from kms_local.demo.command import command

__all__ = ["command"]
