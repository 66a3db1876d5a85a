"""The command ``cosma-sched``: one module per subcommand, each of which parses, calls and prints.

Loading this package loads typer and rich, nothing heavier; a command imports what it needs when it runs.
"""

from cosma_sched.cli.app import main

__all__ = ["main"]
