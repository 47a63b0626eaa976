"""Networks that rows share."""
