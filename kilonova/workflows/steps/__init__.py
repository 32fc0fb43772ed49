"""Steps: what sagas are made of, each a transaction or a call that may be repeated."""
