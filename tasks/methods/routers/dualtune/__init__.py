"""DualTune, later AgentFlux: one adapter names the tool, and the adapter of that tool writes the call.

Kadekodi et al. 2025, https://arxiv.org/abs/2510.00229.

    t = argmax_t #{i : y_i names t},  y_1 … y_n ~ p_select(y | x),  z ~ p_t(z | x)
x is the conversation up to where the assistant begins, with the schemas of all tools. Names that are no member's are not counted; of equal
counts the name that came first wins. Of one vote (`votes: 1`) y is the likeliest text and nothing is drawn.
The bank is that of `tune.bank: task` on the examples of `ingest.sources[].calls: decoupled`: `select` learns the names alone, `call:TOOL` the
calls of its tool, `answer` the turns without a call. The loss of each is over the tokens of its own turn, all before it is context.
Ours, not the paper's: all adapters read one prompt, in the model's own chat template. The authors' selector reads earlier calls without
arguments and a list with a pseudo-tool `summarize`, and their turns without a call are written without tools; their templates for training and
for serving differ. A turn that calls no tool is the name `null` here. Each turn is a sequence of its own, where theirs are several spans of
one. A tool without arguments is written by its adapter as any other, where theirs makes no model call. If no name can be read, `answer`
writes, or the base where the bank has none; their code ends with an error. The first level of selection, over servers, is not here.
Shapes: n = votes, N = prompts.
"""
