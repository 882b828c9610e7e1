"""MoSL, MoSA for LoRA: a matrix of a LoRA trains one random part for each look at a row, and is used as the mean of the parts.

Zhang et al. 2023, https://arxiv.org/abs/2312.02923:  h = W x + s B dropout(A x)

B is divided at random into E disjoint parts, with masks M_e, that cover it, and trains as U:

    in a step  B = M_e * U for a drawn e,  afterwards  B = (1 / E) sum_e M_e * U = U / E

which is the mean of the matrices that steps use. `share` names the matrix that is not split: A (`down`), B (`up`), or neither (`none`). A split
A keeps its start and trains only a change of it. B = 0 at the start. With objective `consistency` a row is read twice, each time with other
parts, and the two outputs are pulled together: the paper's recipe. Without it a step trains one part.
Shapes: I/O = in and out features, R = rank, N = numbers of a part.

Parts that no look of a step has drawn have no gradient: they, their optimizer state and their decay do not change in that step. Draws are a
function of seed, step, matrix and look, so all packs of a step train the same parts, and a resumed training draws the same parts again.
A step costs as much as with a LoRA of the rank, and twice that with `consistency`. A LoRA of this rank is saved beside the adapter.

Numbers are those of Theia-4869/MoSA (286cc0fd). Our design, not the paper's:

- A part is a vector of its own. The authors keep E whole copies of a matrix and mask their gradients, which takes E times the memory.
- The authors draw with Python's generator at each forward pass, so that a resumed training would draw other parts.
- With `parts: 1` each step is exactly that of a LoRA: the control.
"""
