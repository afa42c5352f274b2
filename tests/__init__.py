"""The tests: unit, protocol, web and scale, and the real servers they speak to."""
