"""Controls that methods add to ns-viewer."""
