"""Whole processes, databases and packages."""
