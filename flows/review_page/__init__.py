"""The page of `ratchet review --web`: proposals and examples of a turn, listed, filtered and decided on."""
