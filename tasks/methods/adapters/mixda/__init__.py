"""MixDA: adapters beside the MLPs of a few layers, one for each domain, learn from its text; a gate mixes them and the MLP for each token.

Diao et al., ACL 2023, Mixture-of-Domain-Adapters, https://arxiv.org/abs/2306.05406. a is what an MLP's last layer reads, F(a) = W_out a:

    K_n(a) = U_n GELU(D_n a + d_n) + u_n,    U_n = 0 at the start
    first:   o = (F(a) + K(a)) / 2,   loss = the mean over tokens of   the token's own loss where its text is the domain's,
                                      general |F(a) - K(a)|^2 / H, the mean over layers, where it is general
    then:    w = softmax(G_o GELU(G_i a)),   m = sum_n w_n K_n(a) + w_F F(a),   o = m + U_t GELU(D_t m)
First, in `pretrain` with `bank: domain`, each domain's adapter trains on the domain's documents and on general documents of `replay`. General
documents have no weight in the loss of tokens (L_K). Instead the adapter is trained to give the MLP's output on them (L_S), so that mixing does
not harm what the model already knew. Then, in `tune`, the adapters of all domains are frozen, and the gate and a task adapter train; `tune`
raises an error if the base has no such bank.
Shapes: N = domains, I = width of the MLP, R = rank, I / reduction, H = hidden size, G = width of the gate, S = rank of the task adapter, T = tokens.

The base is frozen throughout. Neither part can be merged, since each token has its own mixture. Our design, not the paper's:
- The paper's model is an encoder, and its L_K masks words; here L_K is the loss of the next token.
- The paper's loss is lambda L_K + L_S, over a batch that has both. Here a row has any share of general text, so each token counts once: if
  half of the text is `replay`, `general` corresponds to 1 / lambda.
- The gate reads the token's own a. The official code reads a sequence's last token, which in a decoder would reveal the future. The code's
  softmax is the default, the paper's sigmoid an option; there is one hidden layer as in the paper, not three as in the code.
- The gate starts with the weights of the first part: half for the MLP, half for all adapters together.
- The first part has no gate. The official code trains one and discards it.
- |.|^2 / H is the code's mean over numbers. With its `enable_new_ka: False` the code compares F with F, so L_S is 0; here the equation holds.
- Layers at 0.3 and 0.45 of the depth are the paper's 7 and 11 of 24. The task adapter is Pfeiffer's, the paper's default, after the MLP of
  every layer.
"""
