"""The `ns-fewshot` command and its subcommands."""
