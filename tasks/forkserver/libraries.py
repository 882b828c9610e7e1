"""Transformers and accelerate without libraries that no stage needs in them: import this before any other part of theirs.

Where they are installed, transformers imports datasets (with pandas) for data sets of its Trainer, scipy for losses of object detection
and scikit-learn for assisted generation, and accelerate boto3 for SageMaker. Both ask once whether a library is installed and remember
the answer. Our own code and other libraries import these as ever.
"""

from tasks.core.imports import without

OPTIONAL = ("boto3", "datasets", "scipy", "sklearn")

with without(*OPTIONAL):
    import accelerate  # noqa: F401
    from transformers.utils import is_datasets_available, is_scipy_available, is_sklearn_available

    for is_available in (is_datasets_available, is_scipy_available, is_sklearn_available):
        is_available()
