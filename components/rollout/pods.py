"""How many pods a canary needs."""


def canary_pods(stable: int, weight: int) -> int:
    """Return how many pods a canary needs so that none of them gets more traffic than a stable pod.

    A busier pod answers later, whatever it serves, so with fewer pods an equal canary would look slower. Above
    two thirds of the traffic the canary gets twice the stable pods and no more: each of its pods then has at most half
    of the traffic that a stable pod has without a canary.

    Args:
        stable: pods of the stable version.
        weight: percent of the traffic that goes to the canary.
    """
    if weight >= 100:
        return stable
    return min(2 * stable, max(1, -(-stable * weight // (100 - weight))))
