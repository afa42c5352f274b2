"""What pages, commands, the JSON API and other programs call."""
