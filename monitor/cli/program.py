"""`session-monitor`: the program that the modules of this room register their verbs on."""


def main() -> None:
    """Run the command line and exit with its code."""
