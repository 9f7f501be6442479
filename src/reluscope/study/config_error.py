"""The error that every part of this room raises."""


class ConfigError(ValueError):
    """The config cannot be used as it is; the message is one line."""
