"""Stage `report`: compare every model with the reference and write the results for people and for programs."""
