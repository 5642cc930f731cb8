"""audito: who logged in over SSH, and what they did. Importing it costs nothing."""

__version__ = "0.1.0"
__all__ = ["__version__"]
