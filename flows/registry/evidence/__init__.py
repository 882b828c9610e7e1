"""Write and check the evidence of a model: a folder that other people's tools verify."""
