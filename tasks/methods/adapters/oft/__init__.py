"""OFT: an orthogonal matrix rotates all neurons of a layer together, so that the angles between them do not change.

Qiu et al. 2023, https://arxiv.org/abs/2306.07280, sec. 3:  h = (W Rᵀ) x,  R = diag(R₁ … R_r),  Rᵢ = (I − Qᵢ)(I + Qᵢ)⁻¹,  Qᵢᵀ = −Qᵢ
with Q = 0 and so R = I at the start. COFT (sec. 3.3) keeps R near I.
A wrapper over peft's `OFTConfig`, which rotates the input instead of the weight, and is given the size of a block where the paper gives
the number r of blocks (both as in OFTv2, Qiu et al. 2025, https://arxiv.org/abs/2506.19847).
"""
