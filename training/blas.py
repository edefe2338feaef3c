"""The linear models of scikit-learn are fitted on one core. Used by `baselines/tfidf.py`,
`evaluation/mislabelled.py` and `few_shot.py`.

Their solvers make thousands of sums and products of single vectors. OpenBLAS would share out each of them, and its
threads keep the other cores busy with waiting for the next one: several times the work for an end that is hardly
sooner, beside a service that has requests to answer. So is what they find the same whatever the number of cores.
"""

from threadpoolctl import threadpool_limits


def one_core() -> threadpool_limits:
    """A context in which OpenBLAS, under NumPy and SciPy, has one thread; torch's own are as many as before."""
    return threadpool_limits(1, user_api="blas")
