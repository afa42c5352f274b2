"""The demonstration: the application and four real servers on this machine, set up and started by one command."""
