"""The networks of convolutions alone, wide, narrow and small. They rest on torch.nn."""

import torch
from torch import nn
from torch.nn import functional


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with padding 1, quick on small maps of a CPU as well.

    On a CPU, maps of at most 4x4 go through one matrix product instead of oneDNN's convolution:
    the same sums, and forward and backward together are about three times faster at 2x2.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, in_channels, h, w)`` to ``(n, out_channels, h, w)``."""
        n, _, h, w = x.shape
        if x.device.type != "cpu" or h * w > 16:
            return super().forward(x)
        # One row a pixel; with a third dimension torch, without gradients, goes image by image.
        patches = functional.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)
        y = functional.linear(patches, self.weight.flatten(1), self.bias)
        return y.view(n, h, w, self.out_channels).permute(0, 3, 1, 2)


class ConvNet(nn.Module):
    """Ten 3x3 convolutions in five pairs, max pooling after each, then two linear layers.

    The widths are those of a popular tutorial, 64-64-128-128-256-256-512-512-1024-1024, then
    1024 -> 512 -> classes. As printed there it pools after every convolution and cannot run;
    chapter 13 shows that failure and the repair.

    Args:
        width: channels of the first pair; each further pair doubles them.
        batch_norm: whether a batch normalisation stands between convolution and ReLU.
        classes: number of outputs.
    """

    def __init__(self, width: int = 64, batch_norm: bool = True, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for pair in range(5):
            out = width * 2**pair
            for _ in range(2):
                layers.append(Conv3x3(channels, out, bias=not batch_norm))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out))
                layers.append(nn.ReLU(inplace=True))
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels, channels // 2),
            nn.ReLU(inplace=True),
            nn.Linear(channels // 2, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images ``(n, 3, 32, 32)`` to scores ``(n, classes)``."""
        scores: torch.Tensor = self.classifier(self.features(x))
        return scores


class SmallNet(nn.Module):
    """Five 3x3 convolutions and a linear layer, for studies of many runs on small pictures.

    Max pooling follows the first and the third convolution, the mean over all places the last.
    The convolutions start from He's normal initialisation, so that it trains without
    normalisation as well.

    Args:
        widths: channels of the convolutions.
        batch_norm: whether a batch normalisation stands between convolution and ReLU.
        classes: number of outputs.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 32, 64, 64),
        batch_norm: bool = True,
        classes: int = 10,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number, out in enumerate(widths):
            convolution = nn.Conv2d(channels, out, 3, padding=1, bias=not batch_norm)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers.append(convolution)
            if batch_norm:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.ReLU(inplace=True))
            if number in (0, 2):
                layers.append(nn.MaxPool2d(2))
            channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images ``(n, 3, h, w)``, h and w multiples of 4, to scores ``(n, classes)``."""
        scores: torch.Tensor = self.classifier(self.features(x).mean((2, 3)))
        return scores
