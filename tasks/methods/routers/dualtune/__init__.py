"""DualTune, later AgentFlux: one adapter chooses the tool, and the adapter of that tool writes the call.

Kadekodi et al. 2025, https://arxiv.org/abs/2510.00229.

    t = argmax_t #{i : y_i names t},  y_1 … y_n ~ p_select(y | x),  z ~ p_t(z | x)
x is the conversation up to where the assistant begins, with the schemas of all tools. Names that belong to no member are not counted; of equal
counts the name that came first wins. With one vote (`votes: 1`) y is the greedy text and nothing is drawn.
The bank is that of `tune.bank: task` on the examples of `ingest.sources[].calls: decoupled`: `select` learns only the names, `call:TOOL` the
calls of its tool, `answer` the turns without a call. The loss of each member is over the tokens of its own turn; earlier turns are context.
Ours, not the paper's: all adapters read the same prompt, in the model's own chat template. The authors' selector reads earlier calls without
arguments and a list with a pseudo-tool `summarize`, and their turns without a call are generated without tools; their templates for training and
for serving differ. Here the choice for a turn without a call is the name `null`. Each turn is a sequence of its own; theirs are several spans of
one sequence. The call of a tool without arguments is written by its adapter like any other; theirs makes no model call for it. If no name can be
read, `answer` writes, or the base if the bank has no `answer`; their code raises an error. The first level of selection, over servers, is left out.
Shapes: n = votes, N = prompts.
"""
