"""Serve models by OpenAI's API on 127.0.0.1 (`ratchet serve`): a gateway in front of servers that others maintain.

A backend (`transformers serve`, vLLM, llama.cpp) holds the weights in a process of its own, a worker, that listens to a Unix socket
alone. The gateway knows names: a served model has one that never changes its meaning (`ratchet@3`), and an alias such as `champion`
leads to one of them. When the champion changes, its worker is started and asked for a token before the alias moves; the old one
finishes what it has begun.
  server         the socket, the process, and its end
  app            the routes: reads requests, relays them, and answers for what goes wrong
  fleet          aliases, workers, the queue before them, and the switch
  worker         one process of a backend
  backends       the command line of each
  served_models  what a name stands for
"""
