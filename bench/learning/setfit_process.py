"""Train SetFit on the texts in a JSON file, with its defaults but for the pairs of each text, and print its accuracy.

Runs in SetFit's environment, and leaves its checkpoints in the working directory.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    setfit, datasets = importlib.import_module("setfit"), importlib.import_module("datasets")
    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    labels = sorted({label for _, label in given["train"]})
    rows = {
        "text": [text for text, _ in given["train"]],
        "label": [labels.index(label) for _, label in given["train"]],
    }
    model = setfit.SetFitModel.from_pretrained(given["base"])
    arguments = setfit.TrainingArguments(
        num_epochs=1,
        num_iterations=given["pairs"],
        report_to="none",
        seed=given["seed"],
        show_progress_bar=False,
    )
    setfit.Trainer(model=model, args=arguments, train_dataset=datasets.Dataset.from_dict(rows)).train()
    answers = np.asarray(model.predict([text for text, _ in given["test"]]))
    truth = np.array([labels.index(label) for _, label in given["test"]])
    print(float((answers == truth).mean()))


if __name__ == "__main__":
    main()
