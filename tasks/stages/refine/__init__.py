"""Stage `refine`: rewrite or extend the examples that the diagnosis chose (Middo), and keep the others unchanged."""
