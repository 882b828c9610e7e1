"""Run the command of a stage on another machine, over SSH or on a Ray cluster: this side sends what it reads and fetches what it makes."""
