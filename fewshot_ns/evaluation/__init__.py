"""Image metrics, the per-image ledger, and the pictures and pages made of them; no metric library is loaded here."""
