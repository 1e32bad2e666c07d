"""The entry point of the command line, and what all commands share: parser, terminal, exit codes, signals."""

from rlspo.zoo.cli.commands import main

__all__ = ["main"]
