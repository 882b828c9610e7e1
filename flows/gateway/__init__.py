"""Serve models by OpenAI's API on 127.0.0.1 (`ratchet serve`): a gateway in front of servers that others maintain.

A backend (`transformers serve`, vLLM, llama.cpp) holds the weights in a process of its own, a worker, that listens only on a Unix socket.
The gateway manages names: a served name never changes its meaning (`ratchet@3`), and an alias such as `champion` leads to a served model.
When the champion changes, its worker is started and generates a token before the alias moves; the old worker finishes its requests.
server         the socket, the process, and its end
app            the routes: read requests, relay them, and answer errors
fleet          aliases, workers, the queue of each alias, and the switch
worker         one process of a backend
backends       the command line of each
served_models  the model of each name
"""
