"""Tests of the repository itself: sizes, words, documents, entry points."""
