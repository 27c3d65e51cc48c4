"""The whole product over a local AWS: `kms-local demo`, and its steps by hand.

It only starts what a person would start by hand, with the same commands; nothing in the product knows of it.
"""
