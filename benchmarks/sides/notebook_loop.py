"""Train the spectrogram ViT as the notebook of the paper does, and print the seconds of an epoch as JSON.

python notebook_loop.py clips/ --epochs 2

A plain loop of torch in 32-bit floats. At every use a clip is read, and its mel spectrogram computed by a transform
that is built for it, as there. Batches of 30, Adam with L2, gradients clipped, and after each epoch a pass over the
fifth of the clips that does not train, with dropout. The network has the arithmetic of vit-pytorch 0.33.2 (May 2022),
without its einops. `--features_only` reads and transforms every clip once.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import soundfile
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, random_split
from torchaudio import transforms

EMOTIONS = ("achievement", "anger", "fear", "pain", "pleasure", "surprise")
SAMPLES = 44100
PATCH, WIDTH, HEADS, HEAD_WIDTH, HIDDEN, BLOCKS, DROPOUT = (32, 30), 200, 16, 64, 300, 5, 0.05


class Clips(Dataset):
    """Spectrogram in dB `(1, 64, 690)` and label index of each clip, whose names are VIVAE's."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.wav"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        wave, rate = soundfile.read(self.files[index], dtype="float32")
        wave = torch.from_numpy(wave)[None, :SAMPLES]
        left = (SAMPLES - wave.shape[1]) // 2
        wave = functional.pad(wave, (left, SAMPLES - wave.shape[1] - left))
        spectrogram = transforms.MelSpectrogram(rate, n_fft=1024, hop_length=64, n_mels=64)(wave)
        label = EMOTIONS.index(self.files[index].name.split("_")[1])
        return transforms.AmplitudeToDB(top_db=80)(spectrogram), label


class Attention(nn.Module):
    """Attention written out, with dropout of its weights, of tokens `(batch, tokens, 200)`."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * HEADS * HEAD_WIDTH, bias=False)
        self.out = nn.Sequential(nn.Linear(HEADS * HEAD_WIDTH, WIDTH), nn.Dropout(DROPOUT))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, _ = tokens.shape
        query, key, value = (
            part.view(batch, count, HEADS, HEAD_WIDTH).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1)
        )
        weights = self.dropout((query @ key.transpose(-1, -2) * HEAD_WIDTH**-0.5).softmax(dim=-1))
        return self.out((weights @ value).transpose(1, 2).reshape(batch, count, -1))


class ViT(nn.Module):
    """Vision transformer of the paper with patches of (32, 30): logits `(batch, 6)` of `(batch, 1, 64, 690)`."""

    def __init__(self) -> None:
        super().__init__()
        height, width = PATCH
        self.patches = nn.Linear(height * width, WIDTH)
        self.positions = nn.Parameter(torch.randn(1, 64 // height * (690 // width) + 1, WIDTH))
        self.class_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)
        self.attentions = nn.ModuleList(nn.Sequential(nn.LayerNorm(WIDTH), Attention()) for _ in range(BLOCKS))
        self.mlps = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT),
                nn.Linear(HIDDEN, WIDTH), nn.Dropout(DROPOUT),
            )
            for _ in range(BLOCKS)
        )  # fmt: skip
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(EMOTIONS)))

    def forward(self, spectrograms: torch.Tensor) -> torch.Tensor:
        (batch, _, bins, frames), (height, width) = spectrograms.shape, PATCH
        patches = spectrograms.reshape(batch, bins // height, height, frames // width, width).transpose(2, 3)
        tokens = self.patches(patches.reshape(batch, -1, height * width))
        tokens = self.dropout(torch.cat((self.class_token.expand(batch, -1, -1), tokens), dim=1) + self.positions)
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            tokens = attention(tokens) + tokens
            tokens = mlp(tokens) + tokens
        return self.head(tokens[:, 0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=2, help="At least 2; the first one is not measured.")
    parser.add_argument("--features_only", action="store_true")
    arguments = parser.parse_args()
    clips = Clips(arguments.folder)
    if arguments.features_only:
        started = time.perf_counter()
        for index in range(len(clips)):
            clips[index]
        print(json.dumps({"work_seconds": time.perf_counter() - started}))
        return
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tested = len(clips) // 5
    train, test = (
        DataLoader(part, batch_size=30, shuffle=True) for part in random_split(clips, [len(clips) - tested, tested])
    )
    model = ViT().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-6, weight_decay=1e-6)
    seconds = []
    for _ in range(arguments.epochs):
        started = time.perf_counter()
        for spectrograms, labels in train:
            loss = functional.cross_entropy(model(spectrograms.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        with torch.no_grad():
            sum((model(batch.to(device)).argmax(1).cpu() == labels).sum().item() for batch, labels in test)
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"epoch_seconds": median(seconds[1:])}))


if __name__ == "__main__":
    main()
