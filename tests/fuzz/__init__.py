"""Every parser of foreign bytes, given well-formed answers that were damaged in a few places."""
