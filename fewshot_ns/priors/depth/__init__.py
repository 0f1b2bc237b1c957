"""The depth prior: order of depths, or depth of known scale."""
