"""MixDA: beside the MLPs of a few layers stand adapters, one a domain, which learn it from text; a gate mixes them and the MLP for each token.

Diao et al., ACL 2023, Mixture-of-Domain-Adapters, https://arxiv.org/abs/2306.05406. a is what an MLP's last layer reads, F(a) = W_out a:

    K_n(a) = U_n GELU(D_n a + d_n) + u_n,    U_n = 0 at the start
    first:   o = (F(a) + K(a)) / 2,   loss = the mean over tokens of   the token's own loss where its text is the domain's,
                                      general |F(a) - K(a)|^2 / H, the mean over layers, where it is general
    then:    w = softmax(G_o GELU(G_i a)),   m = sum_n w_n K_n(a) + w_F F(a),   o = m + U_t GELU(D_t m)
First, in `pretrain` with `bank: domain`, each domain's adapter trains on the domain's documents, and on general ones, of `replay`, which weigh nothing
in its loss of words (L_K) and ask instead that it does there what the MLP does (L_S), so that mixing harms nothing that the model knew. Then, in `tune`,
the adapters of all domains are held, and the gate and a task adapter train; where the base has no such bank, `tune` refuses.
Shapes: N = domains, I = width of the MLP, R = rank, I / reduction, H = hidden size, G = width of the gate, S = rank of the task adapter, T = tokens.

The base is frozen throughout; neither merges, since each token has its own mixture. Our design, not the paper's:
- Its model is an encoder, and its L_K masks words; here L_K is the loss of the next token.
- Its loss is lambda L_K + L_S, of a batch that has both. A row of ours has any share of general text, so each token counts once: with half of
  `replay`, `general` is 1 / lambda.
- The gate reads the token's own a. The official code reads a sequence's last token, which in a decoder would show the future. Its softmax is
  the default, the paper's sigmoid an option; one hidden layer as in the paper, and not three as in the code.
- The gate begins at what the adapters were trained under: half for the MLP, half for all of them together.
- The first part has no gate. The code trains one and throws it away.
- |.|^2 / H is the code's mean over numbers. With its `enable_new_ka: False` it compares F with F, and L_S is 0; here it is the equation's.
- Layers at 0.3 and 0.45 of the depth are the paper's 7 and 11 of 24. The task adapter is Pfeiffer's, the paper's default, behind the MLP of
  every layer.
"""
