"""Remove records that are too long, duplicated or contaminated by evaluation data, and give each group its split."""
