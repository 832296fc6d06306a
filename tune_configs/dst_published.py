"""DST on MNIST at its published settings; for 60 epochs, not 20, where its table's sparsities take them."""

from typing import Any

from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import Thresholds
from sparsepop.models.unit import FedUnits
from sparsepop.optim import SGD, AdamW
from sparsepop.recipe import Recipe


def experiment(
    data: str = "mnist", network: str = "", epochs: int = 60, floor: float = 0.01, smoke: bool = False
) -> Experiment:
    """LeNet-300-100, LeNet-5-Caffe (60 epochs) and LSTM-a (20), or `network` alone (`lstm-b` too), three
    seeds each, as many steps as all 60,000 images take. `epochs` and `floor` (below it thresholds are reset)
    are the LeNets'. --smoke: one seed, tens of steps, without LeNet-5, which wants larger images."""
    images = 100 if smoke else 60_000
    networks = ["lenet-300-100", "lstm-a"] if smoke else ["lenet-300-100", "lenet-5", "lstm-a"]

    def recipe(hp: dict[str, Any]) -> Recipe:
        name = hp["network"]
        if name.startswith("lstm"):
            adam, soft = AdamW(1e-3, weight_decay=0.0), Thresholds(1e-3, floor=None)  # no resets in its code
            steps, dense = 20 * images // 100, ("net.fc.weight",)
            return Recipe(FedUnits(name), steps, (soft,), adam, 100, keep_dense=dense)
        soft = Thresholds(5e-4, floor=floor)
        return Recipe(FedUnits(name), epochs * images // 64, (soft,), SGD(0.01), 64)

    grid = Grid({"network": [network] if network else networks}, 1 if smoke else 3)
    return Experiment(f"dst-published{network and '-'}{network}", recipe, data, grid, generation=images // 20)
