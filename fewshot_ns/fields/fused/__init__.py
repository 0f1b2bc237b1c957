"""Networks with hand-written backward passes, beside their plain reference."""
