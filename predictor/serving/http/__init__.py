"""HTTP: connections and routes."""
