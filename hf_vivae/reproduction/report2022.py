"""Figures that the paper prints, on VIVAE, for comparison with reproduced ones.

Source: D. Pak, "Emotion Classification using Various Transformer Architectures" (2022), Tables 1 to 6.
"""

from dataclasses import dataclass

LABEL = "paper (VIVAE)"
BATCHES = {"train": 29, "test": 8}  # of 30 clips; the last ones hold 28 and 7
EMOTIONS = ("achievement", "anger", "fear", "pain", "pleasure", "surprise")


@dataclass(frozen=True)
class ReportedRun:
    """Row of the paper's Tables 5 and 6.

    Args:
        epoch: selected by test accuracy; None for logistic regression, which has neither epochs nor losses there.
        train_loss: as printed, in nats.
        test_loss: as printed, in nats.
        train_accuracy: share of 868 clips.
        test_accuracy: share of 217 clips.
        auc: of each of `EMOTIONS` against the rest.
        summed: true if the losses are sums over batches of their means, false if they are means over clips.
    """

    epoch: int | None
    train_loss: float | None
    test_loss: float | None
    train_accuracy: float | None
    test_accuracy: float | None
    auc: tuple[float, ...]
    summed: bool = True

    def mean_loss(self, part: str) -> float | None:
        """Return the mean of the losses of the batches in `train` or `test`, in nats."""
        loss = {"train": self.train_loss, "test": self.test_loss}[part]
        return loss if loss is None or not self.summed else loss / BATCHES[part]


RUNS = {
    "logistic-regression": ReportedRun(
        None, None, None, 0.9551, 0.2073, (0.390, 0.472, 0.524, 0.568, 0.549, 0.419), summed=False
    ),
    "mlp": ReportedRun(45, 35.18, 14.41, 0.7384, 0.1982, (0.914, 0.814, 0.878, 0.834, 0.858, 0.827)),
    "vit-32-30": ReportedRun(260, 35.60, 11.63, 0.5461, 0.4747, (0.781, 0.811, 0.809, 0.814, 0.878, 0.841)),
    "vit-16-69": ReportedRun(365, 38.55, 11.82, 0.4965, 0.4700, (0.826, 0.811, 0.810, 0.815, 0.845, 0.838)),
    "vit-8-23": ReportedRun(275, 46.37, 13.17, 0.3560, 0.3364, (0.711, 0.728, 0.681, 0.707, 0.667, 0.740)),
    "vit-base": ReportedRun(3, 47.77, 13.93, 0.3180, 0.2673, (0.708, 0.746, 0.675, 0.738, 0.812, 0.713)),
    "wav2vec2": ReportedRun(131, 0.85, 1.66, 0.7281, 0.4700, (0.741, 0.808, 0.697, 0.674, 0.745, 0.785), summed=False),
}

NO_RUN = ReportedRun(None, None, None, None, None, (), summed=False)

# sizes in the paper; parameters are those of the networks that it describes, unless marked as printed
ARCHITECTURES: dict[str, dict[str, int | str]] = {
    "mlp": {"parameters": 4_442_726, "hidden layers": "100-200-60", "last layer (printed)": "60-60"},
    "vit-32-30": {"parameters": 4_906_906, "patches": 46},
    "vit-16-69": {"parameters": 4_934_506, "patches": 40},
    "vit-8-23": {"parameters": 4_790_506, "patches": 240},
    "vit-base": {"parameters": 85_803_270, "parameters (printed)": "8.6 million"},
    "wav2vec2": {"parameters": 94_570_118},
}
