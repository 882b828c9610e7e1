"""OFT: neurons are turned together by an orthogonal matrix, so that the angles between them stay.

Qiu et al. 2023, https://arxiv.org/abs/2306.07280, sec. 3:  h = (W Rᵀ) x,  R = diag(R₁ … R_r),  Rᵢ = (I − Qᵢ)(I + Qᵢ)⁻¹,  Qᵢᵀ = −Qᵢ
with Q = 0 and so R = I at the start. COFT (sec. 3.3) keeps R near I.
A wrapper over peft's `OFTConfig`, which turns the input rather than the weight and names the size of a block where the paper names
their number r (both as in OFTv2, Qiu et al. 2025, https://arxiv.org/abs/2506.19847).
"""
