"""MFTCoder: train several tasks at once, balanced so that none dominates by its size, its ease or its speed.

Liu et al. 2024, https://arxiv.org/abs/2311.02303; CoBa: Gong et al. 2024, https://arxiv.org/abs/2410.06741.
e_n loss of a token, n_b trained tokens of example b, tasks k with weights v_k, U the tasks present in the step:
  case1  sum_n e_n / N                                           mean over tokens
  case2  mean_b (sum_{n in b} e_n / n_b)                         mean over examples
  case3  sum_{k in U} v_k mean_{n in k} e_n / sum_{k in U} v_k   mean over tasks of the mean over tokens: data-balanced
  case4  case3 with the mean over a task's examples, as in case2
v is 1, a setting, or follows the slopes a_k of the tasks' validation losses (least squares over a window of steps). With
r(x)_i = (number of x) x_i / sum_j |x_j|:
  self_paced  v = softmax(50 softmax(r(a))_k (-r(a)_k)), 1e-30 at least
  coba        v = softmax(K (DF RCS + (1 - DF) ACS)), a of the ratio to the loss before training
              RCS = softmax_k r(a)                              what falls slower than others needs more
              ACS = softmax_k (-r(a_k over C updates)[now])     what falls slower than it did needs less
              DF = min(1, t softmax_s(-tau r(a of the worst ratio))[now]), t updates so far: 1 as long as the worst task falls
              and where a weight is below 1 / 10K: v <- (1 - 1/10) v + 1 / 10K
with C = `history` - `warmup` + 1, as in the authors' code, the warm-up counted in updates. Weights are equal before step `window`
(self_paced) and before step `warmup` (coba).
Shapes: N = trained tokens of the pack, K = tasks, W = updates looked at.

Our design, not the paper's: means are over the whole accumulated step, not over each pack. A token's loss is multiplied by its weight.
A task that is not in a validation batch has no point there, and its last ratio is used when the worst is taken. DF has the
bound of CoBa's paper, which its code lacks. Validation losses are measured before every step; the authors' loop measures them
before training and after every step except the first. The focal variants of the paper are left out, because neither code nor text
confirmed them.
"""
