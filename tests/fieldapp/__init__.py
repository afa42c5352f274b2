"""Models that only the tests of the encrypted fields use."""
