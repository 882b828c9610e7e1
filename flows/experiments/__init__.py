"""Compare: compositions of methods (search, results table), papers' claims, and two models (their differences, bisection)."""
