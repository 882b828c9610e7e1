"""MoSL, MoSA of LoRA: a matrix of a LoRA trains in random parts, one drawn part for each look at a row, and serves as their mean.

Zhang et al. 2023, https://arxiv.org/abs/2312.02923:  h = W x + s B dropout(A x)

B is cut at random into E parts M_e that overlap nowhere and cover it, and trains as U:

    in a step  B = M_e * U for a drawn e,  afterwards  B = (1 / E) sum_e M_e * U = U / E

which is the mean of what a step uses. `share` says which matrix is not split: A (`down`), B (`up`), or neither (`none`). A split A keeps its
start and trains the change of it. B = 0 at the start. With objective `consistency` a row is read twice, each time with parts of its own, and
the two are pulled together: the paper's recipe. Without it a step trains one part.
Shapes: I/O = in and out features, R = rank, N = numbers of a part.

Parts that no look of a step has drawn have no gradient: neither they nor the optimizer's state of them move, nor do they decay. What is drawn
is a function of seed, step, matrix and look, so that packs of a step train the same parts and a resumed training draws what it would have.
A step computes as much as a LoRA of the rank, and with `consistency` twice that; the saved adapter has a LoRA of this rank beside it.

Numbers are those of Theia-4869/MoSA (286cc0fd). Our design, not the paper's:

- A part is a vector of its own. The authors keep E whole copies of a matrix and mask their gradients, E times the memory.
- The authors draw by Python's generator at each forward pass, from which a resumed training would go elsewhere.
- With `parts: 1` it is a LoRA, step by step: the control.
"""
