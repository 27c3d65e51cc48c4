"""The commands of `kms-chaos`, one module each; a module's `command` is what `cli` registers."""
