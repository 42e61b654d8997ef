"""`worker`: the monitor itself, one process or several."""
