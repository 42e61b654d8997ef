"""The decisions: sessions, limits, deadlines and strikes as functions of the log."""
