"""`python -m monitor` is `session-monitor`."""

from monitor.cli import main

if __name__ == "__main__":
    main()
