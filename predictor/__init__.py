"""What is served: cleaning, bundle, engine and KServe server. Imports nothing else of this project."""
