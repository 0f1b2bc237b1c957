"""Networks with hand-written backward passes; their plain reference is in the fields."""
