"""Runs the official MCP conformance suite's client scenarios through the application, as a person would use it."""
