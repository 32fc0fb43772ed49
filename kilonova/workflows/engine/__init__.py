"""The saga engine: durable workflows whose effects and memory are committed together."""
