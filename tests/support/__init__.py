"""Real databases and brokers for the tests, started on this machine and stopped after them."""
