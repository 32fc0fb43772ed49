"""Structs, states and pure rules of compute; standard library and msgspec only."""
