"""Configuration: Nova's sections and options, read once by oslo.config into frozen Structs."""
