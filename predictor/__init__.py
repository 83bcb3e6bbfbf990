"""What is served: cleaning, bundle, engine and KServe server. Imports nothing else of this project."""

from importlib.metadata import version

__version__ = version("pigeonhole")
