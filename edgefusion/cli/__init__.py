"""The command line, one file a command group. Each file holds a typer ``app``."""
