"""Share of the attribution that falls on the right channels."""

from ..benchmarks.plugin import Evidence, NotApplicable, Scores, metric


@metric(
    version=1,
    paper="https://arxiv.org/abs/2406.12150",
    family="ground truth",
    best=1.0,
    worst=0.0,
    claims=("exact", "scale", "sign", "ties"),
    caveat="without net, what cancels within a channel counts against a map that goes sample by sample",
)
def channel_share(evidence: Evidence, *, net: bool = False) -> Scores:
    """Share of the row's sum of |a| that falls on channels in which any feature is relevant.

    The first feature axis is the channel, axes of a single place passed over.  Unlike `attribution_mass`, all
    of a channel counts, also where only a part of it is relevant; where whole channels are, as in `audio`,
    the two agree.  A zero map counts as a constant one.

    net: add a up over each channel, signs and all, before sizes are taken.  Samples of noise push an output
        up and down alike: a map of samples that says so has large sizes in every channel, though it gives a
        channel of noise nothing in sum.  A map that is even within channels scores the same either way.

    No unit; 0 to 1, a constant map scores the share of relevant channels; higher is better.
    Source: ChaosMining, arXiv 2406.12150, section on audio.

    Raises:
        NotApplicable: the features are not laid out in several channels.
    """
    shape = evidence.attribution.shape
    axis = next((i for i, places in enumerate(shape) if i > 0 and places > 1), len(shape))
    if axis >= len(shape) - 1:
        raise NotApplicable("compares channels, and the features are not laid out in several of them")
    a = evidence.attribution.flatten(1, axis).flatten(2)
    size = a.sum(2).abs() if net else a.abs().sum(2)
    relevant = evidence.relevant.flatten(1, axis).flatten(2).any(2)
    share = (size * relevant).sum(1) / size.sum(1)
    return share.where(size.sum(1) > 0, relevant.double().mean(1))
