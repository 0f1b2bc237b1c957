"""One dataparser per scene layout; they share the fields of `base.FewShotDataParserConfig`."""
