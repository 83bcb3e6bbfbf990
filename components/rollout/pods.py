"""How many pods a canary needs beside the stable version's."""


def canary_pods(stable: int, weight: int) -> int:
    """Return how many pods a canary needs so that none of them has more to do than a stable pod.

    A pod that is busier answers later, whatever it serves, so with fewer pods an equal canary would look slower. Above
    two thirds of the traffic it gets twice the stable pods and no more: each then has half of what a stable pod has to
    do when there is no canary.

    Args:
        stable: pods of the stable version.
        weight: percent of the traffic that goes to the canary.
    """
    if weight >= 100:
        return stable
    return min(2 * stable, max(1, -(-stable * weight // (100 - weight))))
